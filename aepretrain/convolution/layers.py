"""PyTorch's layers, computed by the loops and differentiable.

Shapes: C input channels, O output channels, H rows, W columns, N images, K rows and columns of a kernel; P = 4 places
in a 2×2 square of the output, T rows and columns of input that meet there. Maps are [C, H, W, N].
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.convolution import loops


def convolve(maps_CHWN: Tensor, layer: nn.Conv2d) -> Tensor:
    """What the layer makes of the maps, [O, H', W', N]; its stride is 1, its kernel and padding are square."""
    assert layer.stride == (1, 1)
    return _correlate(maps_CHWN, layer.weight, layer.bias, (_side(layer.padding), _side(layer.padding)))


def max_pool(maps_CHWN: Tensor) -> Tensor:
    """The largest of each 2×2 square, [C, H/2, W/2, N]."""
    pooled_CHWN: Tensor = _MaxPool.apply(maps_CHWN)[0]
    return pooled_CHWN


def convolve_transposed(maps_CHWN: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """What the layer makes of the maps, [O, H', W', N]; its stride is 1 or 2, its kernel and padding are square.

    With stride 1 this is a convolution with the mirrored kernel. With stride 2 each place in a 2×2 square of the output
    meets weights of its own, so that the layer is a convolution to four times as many channels, one for each
    place, which are then interleaved (Shi et al. 2016, section 3.2).
    """
    size, padding, stride = _side(layer.kernel_size), _side(layer.padding), _side(layer.stride)
    if stride == 1:
        mirrored_OCKK = layer.weight.transpose(0, 1).flip(2, 3)
        return _correlate(maps_CHWN, mirrored_OCKK, layer.bias, (size - 1 - padding, size - 1 - padding))
    assert stride == 2
    side = (maps_CHWN.shape[1] - 1) * stride - 2 * padding + size
    num_out, half, num = layer.weight.shape[1], (side + 1) // 2, maps_CHWN.shape[3]
    taken_KKPTT, first, num_taps = _taken(size, padding, layer.weight.dtype)
    kernel_COPTT = (layer.weight.flatten(2) @ taken_KKPTT.flatten(0, 1).flatten(1)).unflatten(
        2, (4, num_taps, num_taps)
    )
    kernel_POCTT = kernel_COPTT.permute(2, 1, 0, 3, 4)
    bias_PO = None if layer.bias is None else layer.bias.expand(4, num_out).flatten()
    end = half - 1 + num_taps + first - maps_CHWN.shape[1]
    places_POHWN = _correlate(maps_CHWN, kernel_POCTT.flatten(0, 1), bias_PO, (-first, end))
    squares = places_POHWN.view(2, 2, num_out, half, half, num).permute(2, 3, 0, 4, 1, 5)
    return squares.reshape(num_out, 2 * half, 2 * half, num)[:, :side, :side]


def _side(size: Any) -> int:
    """The one number of a square size."""
    height, width = size
    assert height == width
    return int(height)


@lru_cache
def _taken(size: int, padding: int, dtype: torch.dtype) -> tuple[Tensor, int, int]:
    """Which weight of a transposed convolution with stride 2 meets which input, for each place in a 2×2 square.

    Output 2j + r takes input j + d through weight k where 2d = r + padding - k (the definition of
    `torch.nn.ConvTranspose2d`), along rows and columns alike. Gives 0 and 1 as [K, K, P, T, T], the smallest d and T.
    """
    met = [(k, r, (r + padding - k) // 2) for k in range(size) for r in (0, 1) if (r + padding - k) % 2 == 0]
    first = min(d for _, _, d in met)
    num_taps = max(d for _, _, d in met) - first + 1
    taken_KRT = torch.zeros(size, 2, num_taps, dtype=dtype)
    for k, r, d in met:
        taken_KRT[k, r, d - first] = 1
    taken = torch.einsum("krt,lsu->klrstu", taken_KRT, taken_KRT)
    return taken.flatten(2, 3), first, num_taps


def _correlate(maps_CHWN: Tensor, kernel_OCKK: Tensor, bias_O: Tensor | None, padding: tuple[int, int]) -> Tensor:
    bias_O = kernel_OCKK.new_zeros(len(kernel_OCKK)) if bias_O is None else bias_O
    out_OHWN: Tensor = _Correlate.apply(maps_CHWN, kernel_OCKK, bias_O, *padding)[0]
    return out_OHWN


def _rows(maps_CHWN: Tensor) -> Any:
    """The maps as the loops take them, [C, H, W·N], without copying."""
    return maps_CHWN.detach().flatten(2).numpy()


class _Correlate(torch.autograd.Function):
    """Cross-correlation of padded maps with a kernel, plus a bias."""

    @staticmethod
    def forward(
        maps_CHWN: Tensor, kernel_OCKK: Tensor, bias_O: Tensor, before: int, behind: int
    ) -> tuple[Tensor, Tensor]:
        padded_CHWN = functional.pad(maps_CHWN, (0, 0, before, behind, before, behind)).contiguous()
        smaller = kernel_OCKK.shape[2] - 1
        _, height, width, num = padded_CHWN.shape
        out_OHWN = maps_CHWN.new_empty(len(kernel_OCKK), height - smaller, width - smaller, num)
        kernel, bias = kernel_OCKK.detach().contiguous().numpy(), bias_O.detach().contiguous().numpy()
        loops.correlate(_rows(padded_CHWN), kernel, bias, _rows(out_OHWN))
        return out_OHWN, padded_CHWN

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, kernel_OCKK, _, *ctx.padding = inputs
        ctx.save_for_backward(kernel_OCKK, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        kernel_OCKK, padded_CHWN = ctx.saved_tensors
        gradient_OHWN = gradients[0].contiguous()
        kernel_gradient_OCKK = torch.empty_like(kernel_OCKK, memory_format=torch.contiguous_format)
        loops.kernel_gradient(_rows(padded_CHWN), _rows(gradient_OHWN), kernel_gradient_OCKK.numpy())
        maps_gradient_CHWN = None
        if ctx.needs_input_grad[0]:
            before, behind = (kernel_OCKK.shape[2] - 1 - side for side in ctx.padding)
            mirrored_COKK = kernel_OCKK.transpose(0, 1).flip(2, 3)
            no_bias_C = kernel_OCKK.new_zeros(len(mirrored_COKK))
            maps_gradient_CHWN = _Correlate.forward(gradient_OHWN, mirrored_COKK, no_bias_C, before, behind)[0]
        return maps_gradient_CHWN, kernel_gradient_OCKK, gradient_OHWN.sum((1, 2, 3)), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return _one_by_one(_Correlate.apply, info, in_dims, inputs)


class _MaxPool(torch.autograd.Function):
    """The largest of each 2×2 square."""

    @staticmethod
    def forward(maps_CHWN: Tensor) -> tuple[Tensor, Tensor]:
        num_channels, height, width, num = maps_CHWN.shape
        pooled_CHWN = maps_CHWN.new_empty(num_channels, height // 2, width // 2, num)
        which_CHWN = torch.empty_like(pooled_CHWN, dtype=torch.uint8)
        loops.pool(maps_CHWN.detach().contiguous().numpy(), pooled_CHWN.numpy(), which_CHWN.numpy())
        return pooled_CHWN, which_CHWN

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.shape = inputs[0].shape
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (which_CHWN,) = ctx.saved_tensors
        height, width = ctx.shape[1:3]
        make = gradients[0].new_zeros if height % 2 or width % 2 else gradients[0].new_empty
        maps_gradient_CHWN = make(ctx.shape)
        loops.unpool(gradients[0].contiguous().numpy(), which_CHWN.numpy(), maps_gradient_CHWN.numpy())
        return maps_gradient_CHWN

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return _one_by_one(_MaxPool.apply, info, in_dims, inputs)


def _one_by_one(apply: Callable[..., Any], info: Any, in_dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> Any:
    """`torch.vmap` of a function that takes one: each in turn, so that a stack of seeds gives each one's own bits."""
    taken = [
        apply(*(one if dim is None else one.select(dim, i) for one, dim in zip(inputs, in_dims, strict=True)))
        for i in range(info.batch_size)
    ]
    outputs = tuple(torch.stack(parts) for parts in zip(*taken, strict=True))
    return outputs, tuple(0 for _ in outputs)
