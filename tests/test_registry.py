"""What users can add, how wrong things are told, and that the keys of what is built in stay what they were."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aepretrain import augment, data, networks, objectives, runner, training, variants
from aepretrain.augment import Augmentation
from aepretrain.config import (
    AUGMENTATIONS,
    GRID_NETWORKS,
    MNIST_SHAPE,
    DataRequest,
    Execution,
    Settings,
    TrainingSpec,
    grid_key,
    grid_specs,
)
from aepretrain.data import Dataset, with_digest
from aepretrain.errors import Failure, UsageError
from aepretrain.networks import Network, Reconstructor
from aepretrain.objectives import Objective
from aepretrain.registry import Registry
from aepretrain.training import Outcome, run, training_key
from aepretrain.variants import Variant

pytestmark = pytest.mark.usefixtures("own_registries")

DIGESTS = ("digest", "")


def test_the_keys_of_the_default_grid_are_the_known_ones() -> None:
    # They were taken before there was a registry; a change means that stored runs no longer count as done.
    specs = grid_specs(GRID_NETWORKS, AUGMENTATIONS, (0, 1), Settings())
    keys = tuple(training_key(spec, DIGESTS) for spec in specs)
    assert keys == tuple(spec.key("digest", {}) for spec in specs), "nothing built in has a definition"
    assert grid_key(keys) == "368d3385140b492dc11156c178758a308510df21cbef782dc7ca4ef8ee10e4fc"


class Tiny(Network):
    frozen_head = "first"
    trained_head = "second"

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        self.encoder: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(784, 5))
        self.decoder: nn.Module = nn.Sequential(nn.Linear(5, 784), nn.Unflatten(1, (1, 28, 28)))
        self.first, self.second = nn.Linear(5, 10), nn.Linear(5, 10)


class NoHead(Tiny):
    trained_head = "third"


class UnnamedHead(Tiny):
    trained_head = None  # type: ignore[assignment]  # on purpose


class WideHead(Tiny):
    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        self.second = nn.Linear(5, 11)


class FlatImages(Tiny):
    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        self.decoder = nn.Linear(5, 784)


class MapsForCodes(Tiny):
    def encode(self, images_NCHW: Tensor) -> Tensor:
        return images_NCHW


class DoesNotFit(Tiny):
    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        self.encoder = nn.Linear(7, 5)


class TakesNothing(Tiny):
    def __init__(self) -> None:
        super().__init__((1, 28, 28), 10)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (nn.Linear, "is not a subclass of Network"),
        (Tiny((1, 28, 28), 10), "is not a subclass of Network"),
        (NoHead, "it has no module named third"),
        (UnnamedHead, "frozen_head and trained_head must be the names"),
        (WideHead, r"the head second gives torch.float32 \[2, 11\] for 2 images, expected float32 \[2, 10\]"),
        (FlatImages, r"decode gives torch.float32 \[2, 784\] for 2 images, expected float32 \[2, 1, 28, 28\]"),
        (MapsForCodes, r"encode gives \[2, 1, 28, 28\] for 2 images, expected \[2, code size\]"),
        (DoesNotFit, "fails when it is tried: RuntimeError: "),
        (TakesNothing, "fails when it is tried: TypeError: .*argument"),
    ],
)
def test_a_wrong_network_is_refused_in_a_line(network: type[Network], told: str) -> None:
    before = torch.get_rng_state()
    with pytest.raises(UsageError, match=f"network 'mine'.* {told}") as refusal:
        try_network(network)
    assert "\n" not in str(refusal.value)
    assert torch.equal(torch.get_rng_state(), before), "trying it draws nothing"


PRETRAIN = TrainingSpec(variant="pretrain", network="fc")


def try_network(network: type[Network]) -> None:
    networks.register("mine", network)
    training.try_out(replace(PRETRAIN, network="mine"), MNIST_SHAPE)


def try_augmentation(augmentation: type[Augmentation]) -> None:
    augment.register("mine", augmentation)
    training.try_out(replace(PRETRAIN, augmentation="mine"), MNIST_SHAPE)


def try_objective(objective: type[Objective]) -> None:
    objectives.register("mine", objective)
    training.try_out(replace(PRETRAIN, settings=Settings(objective="mine")), MNIST_SHAPE)


class Darker(Augmentation):
    def draw(self, num: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return torch.rand(num, generator=generator)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        return images_BCHW * drawn_B.view(-1, 1, 1, 1)


class DrawsFromNowhere(Darker):
    def draw(self, num: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:  # noqa: ARG002  # that is what is wrong
        return torch.rand(num)


class DrawsOneForAll(Darker):
    def draw(self, num: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:  # noqa: ARG002  # likewise
        return torch.rand(1, generator=generator)


class InPlace(Darker):
    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:  # noqa: ARG002  # likewise
        return images_BCHW.mul_(0.5)


class Crops(Darker):
    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:  # noqa: ARG002  # likewise
        return images_BCHW[..., 1:]


class Explodes(Darker):
    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:  # noqa: ARG002  # likewise
        return images_BCHW / 0


class DrawsOnly(Augmentation):
    def draw(self, num: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return torch.rand(num, generator=generator)


@pytest.mark.parametrize(
    ("augmentation", "told"),
    [
        (None, "is not a subclass of Augmentation"),
        (DrawsFromNowhere, "draw gives different numbers for the same generator"),
        (DrawsOneForAll, r"draw gives \[1\] for 3 images"),
        (InPlace, "apply changes the images that it is given"),
        (Crops, r"apply gives torch.float32 \[3, 1, 28, 27\], expected float32 \[3, 1, 28, 28\]"),
        (Explodes, "apply gives values that are not finite"),
        (DrawsOnly, "TypeError: .*abstract"),
    ],
)
def test_a_wrong_augmentation_is_refused_in_a_line(augmentation: type[Augmentation], told: str) -> None:
    with pytest.raises(UsageError, match=f"augmentation 'mine'.* {told}") as refusal:
        try_augmentation(augmentation)
    assert "\n" not in str(refusal.value)


def just_the_head(_network: Network, head: nn.Module) -> Iterable[nn.Module]:
    return [head]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (Tiny, "is not a Variant"),
        (Variant(name="mine", title="Mine.", encoder="perhaps"), "encoder='perhaps' must be one of initial, "),
        (Variant(name="mine", title="Mine.", learns=("encoder", "decoder")), "learns=.*must be a function, "),
        (Variant(name="mine", title="Mine.", learns=()), "learns=.*must be a function, "),
    ],
)
def test_a_wrong_variant_is_refused_in_a_line(variant: Variant, message: str) -> None:
    with pytest.raises(UsageError, match=f"variant 'mine': .*{message}"):
        variants.VARIANTS.register("mine", variant)
    with pytest.raises(UsageError, match="variant='mine' is not allowed"):
        TrainingSpec(variant="mine", network="fc")


def nothing(_network: Network, _head: nn.Module) -> Iterable[nn.Module]:
    return []


def only_the_decoder(network: Network, _head: nn.Module) -> Iterable[nn.Module]:
    return [network.decoder]


def weights(_network: Network, head: nn.Module) -> Any:
    return list(head.parameters())


@pytest.mark.parametrize(
    ("learns", "message"),
    [
        (nothing, "learns gives no weights of the encoder or the head"),
        (only_the_decoder, "learns gives no weights of the encoder or the head"),
        (weights, "learns gives Parameter, expected modules"),
    ],
)
def test_a_variant_that_learns_nothing_is_refused_before_any_run(learns: Any, message: str) -> None:
    variants.register(Variant(name="mine", title="Mine.", learns=learns))
    with pytest.raises(UsageError, match=f"variant 'mine': {message}"):
        training.try_out(TrainingSpec(variant="mine", network="fc"), MNIST_SHAPE)


def test_a_variant_without_a_function_is_defined_by_its_fields() -> None:
    variants.register(Variant(name="plain", title="Plain.", encoder="pretrained", learns=("head",)))
    variants.register(Variant(name="plainer", title="Plain.", encoder="pretrained", learns=("head",)))
    digests = [variants.VARIANTS.definition_digest(name) for name in ("plain", "plainer", "frozen")]
    assert digests[0] != digests[1]
    assert digests[2] is None, "what is built in has no definition of its own"


class Sharpen(Objective):
    def model(self, network: Network) -> nn.Module:
        return Reconstructor(network)

    def loss(self, outputs: Tensor, targets_BCHW: Tensor) -> Tensor:
        return ((outputs - targets_BCHW) ** 4).mean()


class NoWeights(Sharpen):
    def loss(self, outputs: Tensor, targets_BCHW: Tensor) -> Tensor:
        return ((outputs.detach() - targets_BCHW) ** 2).mean()


class LossOfEachImage(Sharpen):
    def loss(self, outputs: Tensor, targets_BCHW: Tensor) -> Tensor:
        return ((outputs - targets_BCHW) ** 2).flatten(1).mean(1)


class FlatPixels(Sharpen):
    def pixels(self, outputs: Tensor) -> Tensor:
        return outputs.flatten(1)


class OtherTarget(Sharpen):
    target = "label"


class OneRow(Sharpen):
    def draw(self, num: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return torch.zeros(1, 4)


class UnseededCorruption(Sharpen):
    def draw(self, num: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return torch.rand(num, *shape)


class ChangesItsInput(Sharpen):
    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:  # noqa: ARG002
        return images_BCHW.mul_(2)


class DropsImages(Sharpen):
    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:  # noqa: ARG002
        return images_BCHW[:1]


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Tiny, "Tiny is not a subclass of Objective"),
        (NoWeights, "loss depends on no weight of the network"),
        (LossOfEachImage, "loss gives .*, expected one finite number"),
        (FlatPixels, r"pixels gives \[2, 784\] for 2 images, expected \[2, 1, 28, 28\]"),
        (OtherTarget, "target is 'label', expected 'input' or 'clean'"),
        (OneRow, r"draw gives \[1, 4\] for 2 images, expected one row for each"),
        (UnseededCorruption, "draw gives different numbers for the same generator"),
        (ChangesItsInput, "apply changes the images that it is given"),
        (DropsImages, r"apply gives \[1, 1, 28, 28\] for 2 images"),
    ],
)
def test_a_wrong_objective_is_refused_in_a_line(objective: type[Objective], message: str) -> None:
    with pytest.raises(UsageError, match=f"objective 'mine'.*{message}") as refusal:
        try_objective(objective)
    assert "\n" not in str(refusal.value)


def test_an_objective_changes_the_pretraining_and_its_key_and_leaves_scratch_alone(images: Dataset) -> None:
    objectives.register("sharpen", Sharpen)
    settings = Settings(objective="sharpen", ae_epochs=1)
    pretrain = TrainingSpec(variant="pretrain", network="fc", settings=settings)
    plain = replace(pretrain, settings=replace(settings, objective="reconstruct"))
    outcomes = [run([spec], images, torch.device("cpu"), [{}], lambda *_: None)[0] for spec in (pretrain, plain)]
    assert isinstance(outcomes[0], Outcome)
    assert isinstance(outcomes[1], Outcome)
    assert outcomes[0].evidence.reconstructions is None, "its outputs are no images"
    assert outcomes[0].metrics["best_val_loss"] < outcomes[1].metrics["best_val_loss"], "fourth powers are smaller"
    keys = {
        training_key(replace(spec, variant=variant), DIGESTS)
        for spec in (pretrain, plain)
        for variant in ("pretrain", "finetune")
    }
    assert len(keys) == 4
    assert training_key(replace(pretrain, variant="scratch"), DIGESTS) == training_key(
        replace(plain, variant="scratch"), DIGESTS
    )


def test_a_taken_name_and_one_that_is_none_are_refused() -> None:
    networks.register("tiny", Tiny)
    networks.register("tiny", Tiny)
    for name, told in {
        "fc": "network name 'fc' is taken by a built-in network",
        "tiny": "network name 'tiny' is taken by .*test_registry.Tiny: choose another",
        "two words": "use letters, digits and _",
    }.items():
        with pytest.raises(UsageError, match=told):
            networks.register(name, NoHead)
    with pytest.raises(UsageError, match="augmentation name 'none' is taken by a built-in augmentation"):
        augment.register("none", Darker)
    with pytest.raises(UsageError, match="variant name 'pca' is taken by a built-in variant"):
        variants.register(Variant(name="pca", title="Mine.", learns=just_the_head))
    with pytest.raises(UsageError, match="dataset name 'mnist' is taken by a built-in dataset"):
        data.register("mnist", lambda _: None)  # type: ignore[arg-type,return-value]  # on purpose


def test_what_has_no_source_is_refused() -> None:
    registry: Registry[type] = Registry("thing", {}, lambda _: None)
    with pytest.raises(UsageError, match="thing 'mine' is not defined in a file: put it into a module"):
        registry.register("mine", type("Mine", (), {"__module__": "nowhere"}))


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which modules are imported, and forgotten after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_key_names_every_definition_in_it(modules: Path, digits: Dataset) -> None:
    (modules / "ours.py").write_text(
        "import tests_of_registry as shown\n"
        "from aepretrain import augment, data, networks, variants\n"
        "class Tiny(shown.Tiny): pass\n"
        "class Darker(shown.Darker): pass\n"
        "def head(network, head): return [head]\n"
        "def load(data_dir): return None\n"
        "networks.register('ours_n', Tiny)\n"
        "augment.register('ours_a', Darker)\n"
        "variants.register(variants.Variant(name='ours_v', title='Ours.', learns=head))\n"
        "data.register('ours_d', load)\n"
    )
    sys.modules["tests_of_registry"] = sys.modules[__name__]
    runner.load_plugins(Execution(plugins=("ours",)))
    plain = TrainingSpec(variant="scratch", network="fc")
    digest = networks.NETWORKS.definition_digest("ours_n")
    assert digest is not None
    for kind, spec in {
        "network": replace(plain, network="ours_n"),
        "augmentation": replace(plain, augmentation="ours_a"),
        "variant": replace(plain, variant="ours_v"),
        "dataset": replace(plain, settings=Settings(dataset="ours_d")),
    }.items():
        assert training_key(spec, digits.digests) == spec.key(digits.digest, {kind: digest})
        assert spec.sources == {}
    runner.check([replace(plain, variant="ours_v", augmentation="ours_a")], Execution(plugins=("ours",)))


def test_a_plugin_that_cannot_be_imported_is_told_in_a_line(modules: Path) -> None:
    (modules / "torn.py").write_text("import torch\nraise ValueError('half\\na module')\n")
    (modules / "bent.py").write_text("from aepretrain import register_network\nregister_network('fc', int)\n")
    for name, told in {
        "torn": "plugin 'torn' cannot be imported: half a module",
        "bent": "plugin 'bent': network name 'fc' is taken by a built-in network: choose another",
        "nowhere_to_be_found": "plugin 'nowhere_to_be_found' cannot be imported: No module named",
    }.items():
        with pytest.raises(UsageError) as refusal:
            runner.load_plugins(Execution(plugins=(name,)))
        assert told in str(refusal.value)
        assert "\n" not in str(refusal.value)


def part(num: int, **changes: Tensor) -> tuple[Tensor, Tensor]:
    images_NHW = torch.zeros(num, 28, 28, dtype=torch.uint8)
    labels_N = torch.arange(num) % 10
    return changes.get("images", images_NHW), changes.get("labels", labels_N)


@pytest.mark.parametrize(
    ("training", "told"),
    [
        (
            part(20, images=torch.zeros(20, 28, 28)),
            "training images are torch.float32 .20, 28, 28., expected torch.uint8",
        ),
        (part(20, images=torch.zeros(20, 32, 32, dtype=torch.uint8)), r"\[32, 32\] and its test images \[28, 28\]"),
        (part(20, images=torch.zeros(20, 5, 8, 8, dtype=torch.uint8)), "have 5 channels, expected 1 to 4"),
        (part(20, labels=torch.zeros(20)), "training labels are torch.float32"),
        (part(20, labels=torch.zeros(19, dtype=torch.int64)), r"\[19\], expected torch.int64 \[20\]"),
        (part(20, labels=torch.arange(20) % 9), "test labels go from 0 to 9, expected 0 to 8"),
        (part(20, labels=torch.arange(20) * 2), "there is no training image of class 1, class 3, class 5, "),
        (part(3), "it has 3 training images, at least 10 are needed"),
    ],
)
def test_a_wrong_dataset_is_refused_in_a_line(training: tuple[Tensor, Tensor], told: str) -> None:
    data.register("mine", lambda _data_dir: with_digest("mine", "made up", *training, *part(20)))
    with pytest.raises(Failure, match=f"dataset 'mine': .*{told}"):
        data.load(DataRequest("mine"), None)


def test_a_loader_that_fails_is_told_in_a_line() -> None:
    with pytest.raises(UsageError, match="dataset 'mine': it must take one argument, data_dir"):
        data.register("mine", lambda: None)  # type: ignore[arg-type,misc]  # on purpose
    data.register("other", lambda _: with_digest("another", "made up", *part(20), *part(20)))
    with pytest.raises(Failure, match="dataset 'other': its loader gives a dataset that is named 'another'"):
        data.load(DataRequest("other"), None)
    data.register("torn", lambda _: torch.load("no-such-file"))
    with pytest.raises(Failure, match="dataset 'torn' cannot be loaded: FileNotFoundError: "):
        data.load(DataRequest("torn"), None)
    data.register("none", lambda _: None)  # type: ignore[arg-type,return-value]  # on purpose
    with pytest.raises(Failure, match="its loader gives NoneType, expected a Dataset"):
        data.load(DataRequest("none"), None)
