"""PyTorch's convolutional layers computed by the loops, with gradients.

Shapes: C input channels, O output channels, H rows, W columns, N images, K rows and columns of a kernel; R = 2
parities of a column of the output, T shifts (`transposed`). Maps are [C, H, W, N].
"""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from aepretrain.convolution import loops, transposed


def run_layers(layers: nn.Sequential, maps_NCHW: Tensor) -> Tensor:
    """The output of convolutional layers, [N, O, H', W'], computed by the loops.

    Where ReLU and 2×2 max-pooling follow a convolution, the pooling comes first. The function is the same, because the
    larger of two numbers stays the larger when both are cut at zero, and ReLU then sees a quarter of the elements.
    Raises `TypeError` for a layer that is not a convolution, a transposed convolution, ReLU or that pooling.
    """
    maps_CHWN = maps_NCHW.permute(1, 2, 3, 0)
    waiting = list(layers)
    while waiting:
        layer = waiting.pop(0)
        if isinstance(layer, nn.Conv2d) and [type(following) for following in waiting[:2]] == [nn.ReLU, nn.MaxPool2d]:
            maps_CHWN, waiting = convolve_pool_relu(maps_CHWN, layer), waiting[2:]
        elif isinstance(layer, nn.Conv2d):
            maps_CHWN = convolve(maps_CHWN, layer)
        elif isinstance(layer, nn.ConvTranspose2d):
            maps_CHWN = convolve_transposed(maps_CHWN, layer)
        elif isinstance(layer, nn.ReLU):
            maps_CHWN = layer(maps_CHWN)
        else:
            raise TypeError(f"the loops do not compute {type(layer).__name__}")
    return maps_CHWN.permute(3, 0, 1, 2)


def convolve(maps_CHWN: Tensor, layer: nn.Conv2d) -> Tensor:
    """The output of a convolution with stride 1 and square kernel and padding, [O, H', W', N]."""
    return _convolve(maps_CHWN, layer, pooled=False)


def convolve_pool_relu(maps_CHWN: Tensor, layer: nn.Conv2d) -> Tensor:
    """The output of such a convolution, 2×2 max-pooling and ReLU, [O, H'/2, W'/2, N]."""
    return _convolve(maps_CHWN, layer, pooled=True)


def _convolve(maps_CHWN: Tensor, layer: nn.Conv2d, *, pooled: bool) -> Tensor:
    assert (layer.stride, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)
    return _correlate(maps_CHWN, layer.weight, layer.bias, _side(layer.padding), pooled=pooled)


def convolve_transposed(maps_CHWN: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """The output of a transposed convolution with stride 1 or 2 and square kernel and padding, [O, H', W', N].

    With stride 1 it is a convolution with the mirrored kernel.
    """
    assert (layer.dilation, layer.groups) == ((1, 1), 1)
    size, padding, stride = _side(layer.kernel_size), _side(layer.padding), _side(layer.stride)
    if stride == 1:
        mirrored_OCKK = layer.weight.transpose(0, 1).flip(2, 3)
        return _correlate(maps_CHWN, mirrored_OCKK, layer.bias, size - 1 - padding, pooled=False)
    assert stride == 2
    bias_O = _or_zeros(layer.bias, layer.weight.shape[1], maps_CHWN)
    out_OHWN: Tensor = _CorrelateTransposed.apply(
        maps_CHWN.contiguous(), layer.weight, bias_O, padding, *layer.output_padding
    )
    return out_OHWN


def _side(size: Any) -> int:
    """The side of a square size."""
    height, width = size
    assert height == width
    return int(height)


def _or_zeros(bias_O: Tensor | None, num: int, maps_CHWN: Tensor) -> Tensor:
    return maps_CHWN.new_zeros(num) if bias_O is None else bias_O


def _correlate(maps_CHWN: Tensor, kernel_OCKK: Tensor, bias_O: Tensor | None, padding: int, *, pooled: bool) -> Tensor:
    assert 0 <= padding < kernel_OCKK.shape[2]
    bias_O = _or_zeros(bias_O, len(kernel_OCKK), maps_CHWN)
    out_OHWN: Tensor = _Correlate.apply(maps_CHWN.contiguous(), kernel_OCKK, bias_O, padding, pooled)[0]
    return out_OHWN


def _with_signature(forward: Any) -> Any:
    """The function with a cached signature. PyTorch asks for it at each call, and computing it takes 20 µs."""
    forward.__signature__ = inspect.signature(forward)
    return forward


class _Correlate(torch.autograd.Function):
    """Cross-correlation of padded maps with a kernel, plus a bias; pooled and cut at 0 where asked for."""

    @staticmethod
    @_with_signature
    def forward(
        maps_CHWN: Tensor, kernel_OCKK: Tensor, bias_O: Tensor, padding: int, pooled: bool
    ) -> tuple[Tensor, Tensor]:
        _, height, width, num = maps_CHWN.shape
        more, fold = 2 * padding - kernel_OCKK.shape[2] + 1, 2 if pooled else 1
        out_OHWN = maps_CHWN.new_empty(len(kernel_OCKK), (height + more) // fold, (width + more) // fold, num)
        which_OHWN = torch.empty_like(out_OHWN, dtype=torch.uint8) if pooled else _no_places()
        _call_correlate(maps_CHWN, _no_places(), kernel_OCKK, bias_O, padding, out_OHWN, which_OHWN)
        return out_OHWN, which_OHWN

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        maps_CHWN, kernel_OCKK, _, ctx.padding, _ = inputs
        ctx.save_for_backward(maps_CHWN, kernel_OCKK, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        maps_CHWN, kernel_OCKK, which_OHWN = ctx.saved_tensors
        gradient_OHWN = gradients[0].contiguous()
        return *_gradients(ctx, gradient_OHWN, which_OHWN, maps_CHWN, kernel_OCKK, ctx.padding), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        outputs = _one_by_one(_Correlate.apply, info, in_dims, inputs)
        return tuple(torch.stack(parts) for parts in zip(*outputs, strict=True)), (0, 0)


class _CorrelateTransposed(torch.autograd.Function):
    """Transposed convolution with stride 2."""

    @staticmethod
    @_with_signature
    def forward(
        maps_CHWN: Tensor, weight_COKK: Tensor, bias_O: Tensor, padding: int, more_rows: int, more_columns: int
    ) -> Tensor:
        num_out, size = weight_COKK.shape[1:3]
        _, height, width, num = maps_CHWN.shape
        out_height, out_width = (
            2 * (side - 1) - 2 * padding + size + more for side, more in ((height, more_rows), (width, more_columns))
        )
        out_OHWN = maps_CHWN.new_empty(num_out, out_height, out_width, num)
        kernel, before = _by_parity(weight_COKK, padding)
        bias = bias_O.detach().numpy()
        transposed.correlate_transposed(_rows(maps_CHWN), kernel, bias, padding, before, num, _rows(out_OHWN))
        return out_OHWN

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004  # PyTorch names it
        maps_CHWN, weight_COKK, _, ctx.padding, _, _ = inputs
        ctx.save_for_backward(maps_CHWN, weight_COKK)

    @staticmethod
    def backward(ctx: Any, gradient_OHWN: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
        maps_CHWN, weight_COKK = ctx.saved_tensors
        num_in, num_out, size = weight_COKK.shape[:3]
        padding, num = ctx.padding, maps_CHWN.shape[3]
        gradient = _rows(gradient_OHWN.contiguous())
        taken_KRT, before = _taken(size, padding, weight_COKK.dtype)
        kernel_gradient_OCKRT = weight_COKK.new_empty(num_out, num_in, size, *taken_KRT.shape[1:])
        bias_gradient_O = weight_COKK.new_empty(num_out)
        transposed.gradients_of_weights(
            _rows(maps_CHWN),
            gradient,
            padding,
            before,
            num,
            kernel_gradient_OCKRT.numpy(),
            bias_gradient_O.numpy(),
        )
        weight_gradient_COKK = (kernel_gradient_OCKRT.flatten(3) @ taken_KRT.flatten(1).T).transpose(0, 1).contiguous()
        if not ctx.needs_input_grad[0]:
            return None, weight_gradient_COKK, bias_gradient_O, None, None, None
        maps_gradient_CHWN = torch.empty_like(maps_CHWN)
        kernel, _ = _by_parity(weight_COKK, padding)
        transposed.gradient_of_maps(gradient, kernel, padding, before, num, _rows(maps_gradient_CHWN))
        return maps_gradient_CHWN, weight_gradient_COKK, bias_gradient_O, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return torch.stack(_one_by_one(_CorrelateTransposed.apply, info, in_dims, inputs)), 0


def _by_parity(weight_COKK: Tensor, padding: int) -> tuple[Any, int]:
    """The kernel as the loops take it, [O, C, K, R, T], and how many columns of zeros precede the maps."""
    taken_KRT, before = _taken(weight_COKK.shape[2], padding, weight_COKK.dtype)
    kernel_COKRT = (weight_COKK.detach() @ taken_KRT.flatten(1)).unflatten(3, taken_KRT.shape[1:])
    return kernel_COKRT.transpose(0, 1).contiguous().numpy(), before


@lru_cache
def _taken(size: int, padding: int, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Which weight of a kernel's row meets which column of the input, for even and for odd columns of the output.

    Gives 0 and 1 as [K, R, T], and minus the least shift.
    """
    met = [(k, r, (r + padding - k) // 2) for k in range(size) for r in (0, 1) if (r + padding - k) % 2 == 0]
    first, last = (choose(d for _, _, d in met) for choose in (min, max))
    num_shifts = -(-(last - first + 1) // transposed.SHIFTS) * transposed.SHIFTS
    taken_KRT = torch.zeros(size, 2, num_shifts, dtype=dtype)
    for k, r, d in met:
        taken_KRT[k, r, d - first] = 1
    return taken_KRT, -first


def _call_correlate(
    maps_CHWN: Tensor,
    maps_which_CHWN: Tensor,
    kernel_OCKK: Tensor,
    bias_O: Tensor,
    before: int,
    out_OHWN: Tensor,
    out_which_OHWN: Tensor,
) -> None:
    loops.correlate(
        _rows(maps_CHWN),
        _rows(maps_which_CHWN),
        kernel_OCKK.detach().contiguous().numpy(),
        bias_O.detach().contiguous().numpy(),
        before,
        maps_CHWN.shape[3],
        _rows(out_OHWN),
        _rows(out_which_OHWN),
    )


def _gradients(
    ctx: Any, gradient_OHWN: Tensor, which_OHWN: Tensor, maps_CHWN: Tensor, kernel_OCKK: Tensor, before: int
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The gradients of a correlation with respect to its maps (None where not needed), its kernel and its bias."""
    kernel_gradient_OCKK = torch.empty_like(kernel_OCKK, memory_format=torch.contiguous_format)
    bias_gradient_O = kernel_OCKK.new_empty(len(kernel_OCKK))
    loops.gradients(
        _rows(maps_CHWN),
        _rows(gradient_OHWN),
        _rows(which_OHWN),
        before,
        maps_CHWN.shape[3],
        kernel_gradient_OCKK.numpy(),
        bias_gradient_O.numpy(),
    )
    if not ctx.needs_input_grad[0]:
        return None, kernel_gradient_OCKK, bias_gradient_O
    maps_gradient_CHWN = torch.empty_like(maps_CHWN)
    mirrored_COKK = kernel_OCKK.transpose(0, 1).flip(2, 3)
    no_bias_C = maps_CHWN.new_zeros(len(maps_CHWN))
    behind = kernel_OCKK.shape[2] - 1 - before
    _call_correlate(gradient_OHWN, which_OHWN, mirrored_COKK, no_bias_C, behind, maps_gradient_CHWN, _no_places())
    return maps_gradient_CHWN, kernel_gradient_OCKK, bias_gradient_O


def _rows(maps_CHWN: Tensor) -> Any:
    """The maps as the loops take them, [C, H, W·N], without copying."""
    return maps_CHWN.detach().flatten(2).numpy()


def _no_places() -> Tensor:
    """What says that maps are not pooled."""
    return torch.empty(0, 0, 0, 0, dtype=torch.uint8)


def _one_by_one(apply: Callable[..., Any], info: Any, in_dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> list[Any]:
    """`torch.vmap` of a function that takes one: each in turn, so that a stack of seeds gives each one's own bits."""
    return [
        apply(*(one if dim is None else one.select(dim, i) for one, dim in zip(inputs, in_dims, strict=True)))
        for i in range(info.batch_size)
    ]
