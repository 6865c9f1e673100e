"""The source's two networks as listed, their initial weights, the registry, and what a checkpoint must fit."""

import copy

import pytest
import torch
from torch import nn

from aepretrain import networks
from aepretrain.config import MNIST_SHAPE
from aepretrain.errors import Failure, UsageError
from aepretrain.networks import Convolutional, FullyConnected, Network, build, load_part, part_weights
from aepretrain.variants import VARIANTS


def num_parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize(
    ("name", "encoder", "decoder", "head", "heads"),
    [
        ("fc", 233_856, 234_512, 1_290, ("classifier", "classifier2")),
        ("conv", 1_828, 1_881, 1_970, ("classifier1", "classifier2")),
    ],
)
def test_parameter_counts(name: str, encoder: int, decoder: int, head: int, heads: tuple[str, str]) -> None:
    network = build(name, 0, MNIST_SHAPE)
    assert num_parameters(network.encoder) == encoder
    assert num_parameters(network.decoder) == decoder
    assert tuple(network.head_name(VARIANTS.look_up(variant)) for variant in ("frozen", "finetune", "scratch")) == (
        *heads,
        heads[1],
    )
    assert [num_parameters(getattr(network, name)) for name in heads] == [head, head]


FC = """FullyConnected(
  (encoder): Sequential(
    (0): Linear(in_features=784, out_features=256, bias=True)
    (1): ReLU()
    (2): Linear(in_features=256, out_features=128, bias=True)
    (3): ReLU()
  )
  (decoder): Sequential(
    (0): Linear(in_features=128, out_features=256, bias=True)
    (1): ReLU()
    (2): Linear(in_features=256, out_features=784, bias=True)
  )
  (classifier): Linear(in_features=128, out_features=10, bias=True)
  (classifier2): Linear(in_features=128, out_features=10, bias=True)
)"""

CONV = """Convolutional(
  (encoder): Sequential(
    (0): Conv2d(1, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    (1): ReLU()
    (2): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    (3): Conv2d(8, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    (4): ReLU()
    (5): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    (6): Conv2d(16, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    (7): ReLU()
  )
  (decoder): Sequential(
    (0): ConvTranspose2d(4, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    (1): ReLU()
    (2): ConvTranspose2d(16, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    (3): ReLU()
    (4): ConvTranspose2d(8, 1, kernel_size=(4, 4), stride=(2, 2))
  )
  (classifier1): Linear(in_features=196, out_features=10, bias=True)
  (classifier2): Linear(in_features=196, out_features=10, bias=True)
)"""


def test_networks_print_as_listed() -> None:
    assert str(FullyConnected((1, 28, 28), 10)) == FC
    assert str(Convolutional((1, 28, 28), 10)) == CONV


def test_state_dict_names() -> None:
    assert "encoder.0.weight" in build("fc", 0, MNIST_SHAPE).state_dict()
    assert set(part_weights(build("conv", 0, MNIST_SHAPE), "encoder", "classifier2")) == {
        *(f"encoder.{layer}.{kind}" for layer in (0, 3, 6) for kind in ("weight", "bias")),
        "classifier2.weight",
        "classifier2.bias",
    }


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_shapes(name: str) -> None:
    network = build(name, 0, MNIST_SHAPE)
    codes = network.encode(torch.rand(3, 1, 28, 28))
    assert codes.shape == (3, 128 if name == "fc" else 196)
    assert network.decode(codes).shape == (3, 1, 28, 28)


def test_faster_forms_equal_the_listed_layers_with_their_gradients() -> None:
    fast = build("conv", 0, MNIST_SHAPE).double()
    listed = copy.deepcopy(fast)
    images = torch.rand(7, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs = fast.decode(fast.encode(images))
    expected = listed.decoder(listed.encoder(images))
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    (outputs - images).square().mean().backward()
    (expected - images).square().mean().backward()
    for (name, a), (_, b) in zip(fast.named_parameters(), listed.named_parameters(), strict=True):
        if name.startswith(("encoder", "decoder")):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-14, msg=name)


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_initial_weights_belong_to_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build(name, 3, MNIST_SHAPE)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    torch.rand(5)
    second, other = build(name, 3, MNIST_SHAPE), build(name, 4, MNIST_SHAPE)
    for (key, a), b, c in zip(
        first.state_dict().items(), second.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), key
        assert not torch.equal(a, c), key


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_both_heads_start_equal_and_parts_have_streams_of_their_own(name: str) -> None:
    network = build(name, 0, MNIST_SHAPE)
    first, second = (getattr(network, head) for head in (network.frozen_head, network.trained_head))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    with networks.drawing_from(0, "initial encoder"):
        alone = type(network)((1, 28, 28), 10).encoder
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), network.encoder.parameters(), strict=True))


def test_initial_weights_are_pytorchs() -> None:
    # nn.Linear and nn.Conv2d draw uniformly from ±1/sqrt(fan in)
    for name, layer, fan_in in (("fc", 0, 784), ("conv", 3, 72)):
        encoder = build(name, 0, MNIST_SHAPE).encoder
        weights = encoder[layer].weight.detach() * fan_in**0.5  # type: ignore[index]
        assert weights.abs().max() <= 1
        assert weights.std().item() == pytest.approx(3**-0.5, rel=0.1)


class Tiny(Network):
    frozen_head = "first"
    trained_head = "second"

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 5))
        self.decoder = nn.Sequential(nn.Linear(5, 784), nn.Unflatten(1, (1, 28, 28)))
        self.first = nn.Linear(5, 10)
        self.second = nn.Linear(5, 10)


@pytest.fixture
def tiny(own_registries: None) -> str:  # noqa: ARG001  # it undoes what is registered here
    networks.register("tiny", Tiny)
    return "tiny"


def test_a_users_network_can_be_registered(tiny: str) -> None:
    network = build(tiny, 0, MNIST_SHAPE)
    assert network.decode(network.encode(torch.rand(2, 1, 28, 28))).shape == (2, 1, 28, 28)
    digest = networks.NETWORKS.definition_digest(tiny)
    assert digest is not None
    assert len(digest) == 64
    networks.register("tiny", Tiny)
    assert networks.NETWORKS.definition_digest("fc") is None


def test_bad_registrations_are_refused(tiny: str) -> None:
    with pytest.raises(UsageError, match="taken"):
        networks.register("fc", Tiny)
    with pytest.raises(UsageError, match="letters"):
        networks.register("two words", Tiny)
    with pytest.raises(UsageError, match=f"fc, conv, resnet8, {tiny}"):
        networks.NETWORKS.look_up("lenet")


def test_a_checkpoint_must_fit() -> None:
    network = build("fc", 0, MNIST_SHAPE)
    weights = part_weights(build("fc", 1, MNIST_SHAPE), "encoder", "decoder")
    load_part(network, "encoder", weights)
    assert torch.equal(network.encoder.state_dict()["0.weight"], weights["encoder.0.weight"])
    cases = {
        "missing or unknown weights": part_weights(build("conv", 0, MNIST_SHAPE), "encoder", "decoder"),
        r"\[256, 3\]": weights | {"encoder.0.weight": torch.zeros(256, 3)},
        "float64": weights | {"encoder.0.bias": torch.zeros(256, dtype=torch.float64)},
        "not finite": weights | {"encoder.0.bias": torch.full((256,), torch.nan)},
        "encoder.9.weight": weights | {"encoder.9.weight": torch.zeros(1)},
    }
    for message, bad in cases.items():
        before = copy.deepcopy(network.state_dict())
        with pytest.raises(Failure, match=message):
            load_part(network, "encoder", bad)
        assert all(torch.equal(a, b) for a, b in zip(before.values(), network.state_dict().values(), strict=True))
