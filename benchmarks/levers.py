"""Time each optimisation of the engine and the networks against the plain form, on one thread.

    python -m benchmarks.levers

Both forms run in turn, so that changes of the machine's speed affect both. The ratio is that of the medians.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from aepretrain.config import MNIST_SHAPE
from aepretrain.convolution import convolve_pool_relu
from aepretrain.engine import AdamW, Rate
from aepretrain.networks import build

BATCH, REPEATS = 128, 60
Step = Callable[[], object]


def training_step(model: nn.Module, inputs: torch.Tensor, forward: Callable[[torch.Tensor], torch.Tensor]) -> Step:
    """Forward and backward."""

    def step() -> None:
        model.zero_grad()
        forward(inputs).square().mean().backward()

    return step


def levers() -> dict[str, tuple[Step, Step]]:
    """The plain and the chosen form of each optimisation."""
    images = torch.rand(BATCH, 1, 28, 28)
    plain, last, ours = (build("conv", 0, MNIST_SHAPE) for _ in range(3))
    last.to(memory_format=torch.channels_last)
    codes = plain.encode(images).detach()
    first, maps_CHWN = next(iter(plain.encoder.children())), torch.rand(1, 28, 28, BATCH)
    assert isinstance(first, nn.Conv2d)
    stored = torch.randint(0, 256, (50_000, 1, 28, 28), dtype=torch.uint8)
    index = torch.randperm(50_000)[:BATCH]
    fc = build("fc", 0, MNIST_SHAPE)
    fc.encode(images).square().mean().backward()
    adams = [torch.optim.Adam(fc.encoder.parameters(), fused=fused) for fused in (False, True)]
    return {
        "channels-last layout, conv encoder (superseded)": (
            training_step(plain, images, lambda x: plain.encoder(x)),
            training_step(last, images, lambda x: last.encoder(x)),
        ),
        "compiled loops instead of the layers in channels-last layout, conv encoder": (
            training_step(last, images, lambda x: last.encoder(x)),
            training_step(ours, images, ours.encode),
        ),
        "the same, forward only": (
            torch.no_grad()(lambda: last.encoder(images)),
            torch.no_grad()(lambda: ours.encode(images)),
        ),
        "the same, conv decoder": (
            training_step(last, codes, lambda x: last.decoder(x.unflatten(1, (4, 7, 7)))),
            training_step(ours, codes, ours.decode),
        ),
        "first convolution, pooling and ReLU as one compiled loop instead of PyTorch's": (
            training_step(plain, images, lambda x: functional.max_pool2d(first(x), 2).relu()),
            training_step(plain, maps_CHWN, lambda x: convolve_pool_relu(x, first)),
        ),
        "fused Adam, fc encoder": (adams[0].step, adams[1].step),
        "its kernel without its class, fc encoder": (
            adams[1].step,
            AdamW(fc.encoder.parameters(), [Rate(0.001)] * 4).step,
        ),
        "index_select instead of indexing, one batch of images": (
            lambda: stored[index],
            lambda: stored.index_select(0, index),
        ),
        "cross-entropy of one batch (the same twice: the noise of this table)": (
            lambda: functional.cross_entropy(codes, index % 10),
            lambda: functional.cross_entropy(codes, index % 10),
        ),
    }


def main() -> None:
    """Measure every optimisation and print a table."""
    torch.set_num_threads(1)
    print("| lever | plain (ms) | chosen (ms) | ratio |\n| --- | --- | --- | --- |")
    for name, forms in levers().items():
        seconds: tuple[list[float], list[float]] = ([], [])
        for repeat in range(REPEATS + 5):
            for form, times in zip(forms, seconds, strict=True):
                started = time.perf_counter()
                form()
                if repeat >= 5:
                    times.append(time.perf_counter() - started)
        plain, chosen = (statistics.median(times) * 1000 for times in seconds)
        print(f"| {name} | {plain:.3f} | {chosen:.3f} | {plain / chosen:.1f} |", flush=True)


if __name__ == "__main__":
    main()
