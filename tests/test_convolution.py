"""The compiled loops against PyTorch's own layers: outputs and gradients, for shapes the networks do not have too."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.convolution import convolve, convolve_pool_relu, convolve_transposed


def both(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], maps_NCHW: Tensor, *weights: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Outputs and the gradients of a random projection of them with respect to maps and weights, ours and theirs."""
    found = []
    projection: Tensor | None = None
    for forward, images_last in ((ours, True), (theirs, False)):
        maps = maps_NCHW.clone().requires_grad_()
        outputs = forward(maps.permute(1, 2, 3, 0)).permute(3, 0, 1, 2) if images_last else forward(maps)
        if projection is None:
            projection = torch.randn(outputs.shape, dtype=outputs.dtype)
        gradients = torch.autograd.grad((outputs * projection).sum(), [maps, *weights])
        found.append([outputs, *gradients])
    return list(zip(*found, strict=True))


def assert_same(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("size", "padding"), [(2, 0), (3, 1), (4, 1), (5, 2), (7, 0)])
@pytest.mark.parametrize(("num_in", "num_out"), [(1, 8), (8, 16), (3, 1), (2, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution(size: int, padding: int, num_in: int, num_out: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(num_in, num_out, size, padding=padding, bias=bias, dtype=torch.float64)
    maps = torch.randn(5, num_in, 9, 11, dtype=torch.float64)
    assert_same(both(lambda x: convolve(x, layer), layer, maps, *layer.parameters()))


@pytest.mark.parametrize(
    ("size", "padding", "stride"), [(3, 1, 1), (5, 1, 1), (3, 1, 2), (4, 0, 2), (4, 1, 2), (5, 2, 2)]
)
@pytest.mark.parametrize(("num_in", "num_out"), [(4, 16), (8, 1), (3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolution(size: int, padding: int, stride: int, num_in: int, num_out: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(num_in, num_out, size, stride=stride, padding=padding, bias=bias, dtype=torch.float64)
    maps = torch.randn(3, num_in, 6, 7, dtype=torch.float64)
    assert_same(both(lambda x: convolve_transposed(x, layer), layer, maps, *layer.parameters()))


@pytest.mark.parametrize(("size", "padding", "more"), [(2, 0, (1, 0)), (3, 1, (1, 1)), (4, 0, (0, 1)), (1, 0, (1, 1))])
def test_rows_and_columns_added_by_a_transposed_convolution(size: int, padding: int, more: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 2, size, stride=2, padding=padding, output_padding=more, dtype=torch.float64)
    maps = torch.randn(4, 3, 5, 6, dtype=torch.float64)
    assert_same(both(lambda x: convolve_transposed(x, layer), layer, maps, *layer.parameters()))


def pooled(layer: nn.Conv2d, maps_NCHW: Tensor) -> Tensor:
    return functional.max_pool2d(layer(maps_NCHW), 2).relu()


@pytest.mark.parametrize(("size", "padding"), [(2, 0), (3, 1), (4, 1), (5, 2)])
@pytest.mark.parametrize(("num_in", "num_out"), [(1, 8), (3, 1), (2, 5)])
def test_convolution_pooled_and_cut_at_0(size: int, padding: int, num_in: int, num_out: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(num_in, num_out, size, padding=padding, dtype=torch.float64)
    maps = torch.randn(5, num_in, 9, 10, dtype=torch.float64)
    assert_same(both(lambda x: convolve_pool_relu(x, layer), partial(pooled, layer), maps, *layer.parameters()))


def test_pooling_gives_the_gradient_to_the_first_among_equals() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 1, 1, bias=False, dtype=torch.float64)
    nn.init.ones_(layer.weight)
    maps = torch.randint(-2, 3, (4, 1, 8, 6)).double()
    assert_same(both(lambda x: convolve_pool_relu(x, layer), partial(pooled, layer), maps, *layer.parameters()))


def test_not_a_number_is_not_lost() -> None:
    layer = nn.Conv2d(1, 2, 3, padding=1)
    maps = torch.zeros(1, 8, 8, 4)
    maps[0, 4, 4, 2] = torch.nan
    assert convolve(maps, layer)[:, 3:6, 3:6, 2].isnan().all()
    assert not convolve(maps, layer)[..., [0, 1, 3]].isnan().any()
    assert convolve_pool_relu(maps, layer)[:, 1:3, 1:3, 2].isnan().all()
    assert not convolve_pool_relu(maps, layer)[..., [0, 1, 3]].isnan().any()


def test_a_stack_is_computed_one_by_one_with_the_same_bits() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, padding=1) for _ in range(3)]
    maps_SCHWN = torch.randn(3, 2, 6, 6, 5)
    weights, _ = torch.func.stack_module_state(layers)

    class Convolved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layers[0]

        def forward(self, maps_CHWN: Tensor) -> Tensor:
            return convolve_pool_relu(maps_CHWN, self.layer)

    def forward(weight: Tensor, bias: Tensor, maps_CHWN: Tensor) -> Tensor:
        named = {"layer.weight": weight, "layer.bias": bias}
        pooled: Tensor = torch.func.functional_call(Convolved(), named, (maps_CHWN,))
        return pooled

    together = torch.vmap(forward)(weights["weight"], weights["bias"], maps_SCHWN)
    for place, layer in enumerate(layers):
        assert torch.equal(together[place], convolve_pool_relu(maps_SCHWN[place], layer))


def test_what_is_compiled_beforehand_is_what_training_needs() -> None:
    code = """
import torch
import aepretrain.convolution.compiled
from aepretrain.convolution import loops, transposed
from aepretrain.config import MNIST_SHAPE
from aepretrain.networks import Reconstructor, build
all_loops = loops.correlate, loops.gradients, *(
    getattr(transposed, name) for name in ("correlate_transposed", "gradient_of_maps", "gradients_of_weights")
)
before = [len(loop.signatures) for loop in all_loops]
Reconstructor(build("conv", 0, MNIST_SHAPE))(torch.rand(2, 1, 28, 28)).sum().backward()
print(before, [len(loop.signatures) for loop in all_loops])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 1, 1, 1, 1] [1, 1, 1, 1, 1]\n"
