"""The networks: an encoder, a decoder and two heads each.

Shapes: N images, C channels, H rows, W columns, D code features, K classes.

A plugin adds one with a subclass of `Network` and `register("name", YourNetwork)` in a module that the command loads
(``--plugin your_module``).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from aepretrain.config import derive_seed
from aepretrain.errors import Failure
from aepretrain.registry import Registry, require, require_subclass
from aepretrain.variants import Variant

NUM_CLASSES = 10


class Network(nn.Module):
    """An autoencoder and two linear heads for its encoder.

    A subclass sets `encoder`, `decoder` and the modules named by `frozen_head` and `trained_head`, takes images
    [N, 1, 28, 28] and overrides `decode` where the decoder does not give that shape back by itself.
    """

    encoder: nn.Module
    decoder: nn.Module
    frozen_head: str
    """Attribute name of the head for a frozen encoder."""
    trained_head: str
    """Attribute name of the head that is trained with the encoder."""

    def encode(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, D]."""
        return self.encode_by_layers(images_NCHW)

    def encode_by_layers(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, D], computed by calling each layer, so that hooks on layers work."""
        codes_ND: Tensor = self.encoder(images_NCHW).flatten(1)
        return codes_ND

    def decode(self, codes_ND: Tensor) -> Tensor:
        """Images, [N, 1, 28, 28], without a final activation."""
        images_NCHW: Tensor = self.decoder(codes_ND)
        return images_NCHW

    def head_name(self, variant: Variant) -> str:
        """The attribute name of the head that a variant trains."""
        return self.frozen_head if variant.trains_head_only else self.trained_head


class FullyConnected(Network):
    """784 → 256 → 128 and back."""

    frozen_head = "classifier"
    trained_head = "classifier2"

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 784))
        self.classifier = nn.Linear(128, NUM_CLASSES)
        self.classifier2 = nn.Linear(128, NUM_CLASSES)

    def encode_by_layers(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, 128]."""
        codes_ND: Tensor = self.encoder(images_NCHW.flatten(1))
        return codes_ND

    def decode(self, codes_ND: Tensor) -> Tensor:
        """Images, [N, 1, 28, 28]."""
        images_NCHW: Tensor = self.decoder(codes_ND).unflatten(1, (1, 28, 28))
        return images_NCHW


class Convolutional(Network):
    """28×28 → 4×7×7 and back (7 → 7 → 13 → 28)."""

    frozen_head = "classifier1"
    trained_head = "classifier2"

    def __init__(self) -> None:
        super().__init__()
        self.encoder: nn.Sequential = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 4, 3, padding=1),
            nn.ReLU(),
        )
        self.decoder: nn.Sequential = nn.Sequential(
            nn.ConvTranspose2d(4, 16, 3, stride=1, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 4, stride=2, padding=0),
        )
        self.classifier1 = nn.Linear(4 * 7 * 7, NUM_CLASSES)
        self.classifier2 = nn.Linear(4 * 7 * 7, NUM_CLASSES)

    def encode(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, 196]."""
        if not _runs_compiled_loops(images_NCHW):
            return self.encode_by_layers(images_NCHW)
        from aepretrain.convolution import run_layers

        return run_layers(self.encoder, images_NCHW).flatten(1)

    def decode(self, codes_ND: Tensor) -> Tensor:
        """Images, [N, 1, 28, 28]."""
        maps_NCHW = codes_ND.unflatten(1, (4, 7, 7))
        if not _runs_compiled_loops(codes_ND):
            return super().decode(maps_NCHW)
        from aepretrain.convolution import run_layers

        return run_layers(self.decoder, maps_NCHW)


class Probe(Network):
    """A head on a fixed linear map of the pixels, or on the pixels themselves: the baseline of an encoder."""

    frozen_head = trained_head = "classifier"

    def __init__(self, linear_map: nn.Linear | None) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), *([] if linear_map is None else [linear_map]))
        self.decoder = nn.Identity()
        self.classifier = nn.Linear(784 if linear_map is None else linear_map.out_features, NUM_CLASSES)


def _runs_compiled_loops(inputs: Tensor) -> bool:
    """Whether `convolution` computes the layers: on a CPU, unless the model is being exported."""
    return inputs.device.type == "cpu" and not torch.compiler.is_exporting()


def _check_network(network: type[Network]) -> None:
    """Try a network with two images. Raises `UsageError` where a part is missing or a shape is wrong."""
    require_subclass(network, Network)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        tried = network().eval()
        heads = [getattr(tried, name, None) for name in ("frozen_head", "trained_head")]
        require(
            all(isinstance(name, str) for name in heads),
            "frozen_head and trained_head must be the names of its two heads",
        )
        parts = ["encoder", "decoder", *map(str, heads)]
        for part in parts:
            require(isinstance(getattr(tried, part, None), nn.Module), f"it has no module named {part}")
        codes_ND = tried.encode(torch.zeros(2, 1, 28, 28))
        require(codes_ND.dim() == 2, f"encode gives {list(codes_ND.shape)} for 2 images, expected [2, code size]")
        for what, found, expected in (
            ("encode", codes_ND, (2, codes_ND.shape[1])),
            ("decode", tried.decode(codes_ND), (2, 1, 28, 28)),
            *((f"the head {name}", getattr(tried, name)(codes_ND), (2, NUM_CLASSES)) for name in parts[2:]),
        ):
            require(
                found.shape == expected and found.dtype == torch.float32,
                f"{what} gives {found.dtype} {list(found.shape)} for 2 images, expected float32 {list(expected)}",
            )


NETWORKS: Registry[type[Network]] = Registry("network", {"fc": FullyConnected, "conv": Convolutional}, _check_network)
register = NETWORKS.register
"""Add a subclass of `Network` under a name."""


def build(name: str, seed: int) -> Network:
    """A network with initial weights drawn on the CPU for this seed.

    Encoder, decoder and heads have separate random streams, so the encoder is the same in every variant. Both heads
    start from the same weights. PyTorch's global generator is not changed.
    """
    with drawing_from(seed, "initial encoder"):
        network = NETWORKS.look_up(name)()
    with drawing_from(seed, "initial decoder"):
        network.decoder.apply(_reset)
    _draw_heads(network, seed)
    with drawing_from(seed, "initial encoder"):
        network.encoder.apply(_reset)
    return network


def build_probe(linear_map: nn.Linear | None, seed: int) -> Probe:
    """A probe whose head is drawn for this seed, on a linear map, or on the pixels for None."""
    probe = Probe(linear_map)
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
    """Encoder and head: images [N, 1, 28, 28] → logits [N, K]. A frozen encoder has no gradients."""

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
    """Encoder and decoder: images [N, 1, 28, 28] → images."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Images, [N, 1, 28, 28]."""
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
