"""The networks: an encoder, a decoder and two heads each.

Shapes: N images, C channels, H rows, W columns, D code features, K classes.

A plugin adds one with a subclass of `Network` and `register("name", YourNetwork)` in a module that the command loads
(``--plugin your_module``).
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from aepretrain.config import Shape, derive_seed
from aepretrain.errors import Failure
from aepretrain.registry import Registry, require, require_subclass
from aepretrain.variants import Variant


class Network(nn.Module):
    """An autoencoder and two linear heads for its encoder.

    A subclass sets `encoder`, `decoder` and the modules named by `frozen_head` and `trained_head`, for images of a
    shape [C, H, W] and so many classes. It overrides `decode` where the decoder does not give that shape back by
    itself. It raises `UsageError` for a shape that it does not fit.
    """

    encoder: nn.Module
    decoder: nn.Module
    frozen_head: str
    """Attribute name of the head for a frozen encoder."""
    trained_head: str
    """Attribute name of the head that is trained with the encoder."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.num_classes = num_classes

    def encode(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, D]."""
        return self.encode_by_layers(images_NCHW)

    def encode_by_layers(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, D], computed by calling each layer, so that hooks on layers work."""
        codes_ND: Tensor = self.encoder(images_NCHW).flatten(1)
        return codes_ND

    def decode(self, codes_ND: Tensor) -> Tensor:
        """Images, [N, C, H, W], without a final activation."""
        images_NCHW: Tensor = self.decoder(codes_ND)
        return images_NCHW

    def head_name(self, variant: Variant) -> str:
        """The attribute name of the head that a variant trains."""
        return self.frozen_head if variant.trains_head_only else self.trained_head


class FullyConnected(Network):
    """From pixels to 256 and 128 units, and back."""

    frozen_head = "classifier"
    trained_head = "classifier2"

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        num_pixels = math.prod(image_shape)
        self.encoder = nn.Sequential(nn.Linear(num_pixels, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, num_pixels))
        self.classifier = nn.Linear(128, num_classes)
        self.classifier2 = nn.Linear(128, num_classes)

    def encode_by_layers(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, 128]."""
        codes_ND: Tensor = self.encoder(images_NCHW.flatten(1))
        return codes_ND

    def decode(self, codes_ND: Tensor) -> Tensor:
        """Images, [N, C, H, W]."""
        images_NCHW: Tensor = self.decoder(codes_ND).unflatten(1, self.image_shape)
        return images_NCHW


class Convolutional(Network):
    """From images to 4 maps of a quarter of their sides, and back: for MNIST 28×28 → 4×7×7 → 7 → 13 → 28."""

    frozen_head = "classifier1"
    trained_head = "classifier2"

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        channels, *size = image_shape
        require(min(size) >= 4, f"it needs images of 4×4 pixels or more, not {size[0]}×{size[1]}")
        self.encoder: nn.Sequential = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 4, 3, padding=1),
            nn.ReLU(),
        )
        # Pooling leaves out up to three rows and columns. The decoder gives them back: two, and then one.
        twos, ones = ((size[0] % 4 // step % 2, size[1] % 4 // step % 2) for step in (2, 1))
        self.decoder: nn.Sequential = nn.Sequential(
            nn.ConvTranspose2d(4, 16, 3, stride=1, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=twos),
            nn.ReLU(),
            nn.ConvTranspose2d(8, channels, 4, stride=2, padding=0, output_padding=ones),
        )
        self.code_shape = 4, size[0] // 4, size[1] // 4
        self.classifier1 = nn.Linear(math.prod(self.code_shape), num_classes)
        self.classifier2 = nn.Linear(math.prod(self.code_shape), num_classes)

    def encode(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, 4·H/4·W/4]."""
        if not _runs_compiled_loops(images_NCHW):
            return self.encode_by_layers(images_NCHW)
        from aepretrain.convolution import run_layers

        return run_layers(self.encoder, images_NCHW).flatten(1)

    def decode(self, codes_ND: Tensor) -> Tensor:
        """Images, [N, C, H, W]."""
        maps_NCHW = codes_ND.unflatten(1, self.code_shape)
        if not _runs_compiled_loops(codes_ND):
            return super().decode(maps_NCHW)
        from aepretrain.convolution import run_layers

        return run_layers(self.decoder, maps_NCHW)


class Probe(Network):
    """A head on a fixed linear map of the pixels, or on the pixels themselves: the baseline of an encoder."""

    frozen_head = trained_head = "classifier"

    def __init__(self, shape: Shape, linear_map: nn.Linear | None) -> None:
        super().__init__(shape.image, shape.num_classes)
        self.encoder = nn.Sequential(nn.Flatten(), *([] if linear_map is None else [linear_map]))
        self.decoder = nn.Identity()
        num_features = math.prod(shape.image) if linear_map is None else linear_map.out_features
        self.classifier = nn.Linear(num_features, shape.num_classes)


def _runs_compiled_loops(inputs: Tensor) -> bool:
    """Whether `convolution` computes the layers: on a CPU, unless the model is being exported."""
    return inputs.device.type == "cpu" and not torch.compiler.is_exporting()


NETWORKS: Registry[type[Network]] = Registry(
    "network", {"fc": FullyConnected, "conv": Convolutional}, partial(require_subclass, base=Network)
)
register = NETWORKS.register
"""Add a subclass of `Network` under a name."""


def check(network: type[Network], shape: Shape) -> None:
    """Try a network with two images of a shape. Raises `UsageError` where a part is missing or a shape is wrong."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        tried = network(shape.image, shape.num_classes).eval()
        heads = [getattr(tried, one, None) for one in ("frozen_head", "trained_head")]
        require(
            all(isinstance(one, str) for one in heads),
            "frozen_head and trained_head must be the names of its two heads",
        )
        parts = ["encoder", "decoder", *map(str, heads)]
        for part in parts:
            require(isinstance(getattr(tried, part, None), nn.Module), f"it has no module named {part}")
        codes_ND = tried.encode(torch.zeros(2, *shape.image))
        require(codes_ND.dim() == 2, f"encode gives {list(codes_ND.shape)} for 2 images, expected [2, code size]")
        for what, found, expected in (
            ("encode", codes_ND, (2, codes_ND.shape[1])),
            ("decode", tried.decode(codes_ND), (2, *shape.image)),
            *((f"the head {part}", getattr(tried, part)(codes_ND), (2, shape.num_classes)) for part in parts[2:]),
        ):
            require(
                found.shape == expected and found.dtype == torch.float32,
                f"{what} gives {found.dtype} {list(found.shape)} for 2 images, expected float32 {list(expected)}",
            )


def build(name: str, seed: int, shape: Shape) -> Network:
    """A network for images of this shape, with initial weights drawn on the CPU for this seed.

    Encoder, decoder and heads have separate random streams, so the encoder is the same in every variant. Both heads
    start from the same weights. PyTorch's global generator is not changed. Raises `UsageError` for an unknown name and
    for a shape that the network does not fit.
    """
    with drawing_from(seed, "initial encoder"):
        network = NETWORKS.look_up(name)(shape.image, shape.num_classes)
    with drawing_from(seed, "initial decoder"):
        network.decoder.apply(_reset)
    _draw_heads(network, seed)
    with drawing_from(seed, "initial encoder"):
        network.encoder.apply(_reset)
    return network


def build_probe(linear_map: nn.Linear | None, seed: int, shape: Shape) -> Probe:
    """A probe whose head is drawn for this seed, on a linear map, or on the pixels for None."""
    probe = Probe(shape, linear_map)
    _draw_heads(probe, seed)
    return probe


def _draw_heads(network: Network, seed: int) -> None:
    for head in (network.frozen_head, network.trained_head):
        with drawing_from(seed, "initial head"):
            getattr(network, head).apply(_reset)


@contextmanager
def drawing_from(seed: int, purpose: str) -> Iterator[None]:
    """Seed PyTorch's global generator, which its initialisers use, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, purpose))
        yield


def _reset(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if reset is not None:
        reset()


class Classifier(nn.Module):
    """Encoder and head: images [N, C, H, W] → logits [N, K]. A frozen encoder has no gradients."""

    def __init__(self, network: Network, head_name: str, *, frozen: bool) -> None:
        super().__init__()
        self.network = network
        self.head_name = head_name
        self.frozen = frozen

    def train(self, mode: bool = True) -> "Classifier":
        """Set the training mode. A frozen encoder stays in evaluation mode, so its statistics do not change."""
        super().train(mode)
        if self.frozen:
            self.network.encoder.eval()
        return self

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits, [N, K]."""
        head = getattr(self.network, self.head_name)
        logits_NK: Tensor = head(self._codes(images_NCHW))
        return logits_NK

    def _codes(self, images_NCHW: Tensor) -> Tensor:
        if not self.frozen:
            return self.network.encode(images_NCHW)
        with torch.no_grad():
            return self.network.encode(images_NCHW)


class Reconstructor(nn.Module):
    """Encoder and decoder: images [N, C, H, W] → images."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Images, [N, C, H, W]."""
        return self.network.decode(self.network.encode(images_NCHW))


def part_weights(network: Network, *parts: str) -> dict[str, Tensor]:
    """Copies of the weights of some parts, on the CPU, by their names in the network's state dict."""
    prefixes = tuple(f"{part}." for part in parts)
    return {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in network.state_dict().items()
        if name.startswith(prefixes)
    }


def load_part(network: Network, part: str, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of one part of a network.

    Raises `Failure` where a weight is missing, unknown, of another shape or type, or not finite.
    """
    module = getattr(network, part)
    given = {name.removeprefix(f"{part}."): weight for name, weight in weights.items() if name.startswith(f"{part}.")}
    wanted = module.state_dict()
    parts = {name for name, _ in network.named_children()}
    odd = {f"{part}.{name}" for name in given.keys() ^ wanted.keys()}
    odd |= {name for name in weights if name.partition(".")[0] not in parts}
    if odd:
        raise Failure(
            f"the checkpoint does not fit {type(network).__name__}: missing or unknown weights: "
            f"{' '.join(', '.join(sorted(odd)).split())[:200]}"
        )
    for name, weight in given.items():
        if weight.shape != wanted[name].shape or weight.dtype != wanted[name].dtype:
            raise Failure(
                f"the checkpoint does not fit {type(network).__name__}: {part}.{name} is {weight.dtype} "
                f"{list(weight.shape)}, expected {wanted[name].dtype} {list(wanted[name].shape)}"
            )
        if not bool(torch.isfinite(weight).all()):
            raise Failure(f"the checkpoint is damaged: {part}.{name} holds values that are not finite")
    module.load_state_dict(given)
