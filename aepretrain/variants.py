"""The variants: what a training does with a network. And the evaluations, which train nothing.

This is data without PyTorch. The identity of a training depends on its variant, so the table stands below `config`.

A plugin adds a classifier with `register(Variant(name="mine", title="…", …))` in a module that the command loads
(``--plugin your_module``); ``aepretrain grid --variant mine`` trains it beside the grid's own.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aepretrain.registry import Registry, require

PRETRAINING, CLASSIFICATION = "pretraining", "classification"
"""The two stages of an experiment."""

FINETUNING = "finetuning"
"""Classification in which a pretrained encoder learns: the part of options that apply to nothing else."""

ENCODERS = ("initial", "pretrained", "pixels", "components")

LearnedModules = Callable[[Any, Any], Iterable[Any]]
"""From a `networks.Network` and the head in use, the modules whose weights learn; all others stay as they are."""


@dataclass(frozen=True)
class Source:
    """A finished training whose weights another training or an evaluation needs."""

    name: str
    """What the one that needs it calls it."""
    variant: str
    seed_offset: int = 0
    """Which seed, counted from the seed of the one that needs it."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to train: where the encoder comes from, which parts learn, and whether it is a column of the table."""

    name: str
    title: str
    """What it is, in a line."""
    encoder: str = "initial"
    """Where the encoder comes from: ``initial`` (random weights, the same in all variants of a seed), ``pretrained``
    (the seed's pretraining), ``pixels`` (there is none: the code is the image) or ``components`` (principal components
    of the training images)."""
    learns: tuple[str, ...] | LearnedModules = ("encoder", "head")
    """The parts of the network that learn, or a function that gives the modules."""
    in_table: bool = True

    @property
    def stage(self) -> str:
        """The stage that it runs itself."""
        return PRETRAINING if self.learns == ("encoder", "decoder") else CLASSIFICATION

    @property
    def stages(self) -> frozenset[str]:
        """The stages that its result depends on."""
        return frozenset({self.stage} | ({PRETRAINING} if self.encoder == "pretrained" else set()))

    @property
    def parts(self) -> frozenset[str]:
        """The stages, and ``finetuning`` where a pretrained encoder learns."""
        finetunes = self.encoder == "pretrained" and not self.trains_head_only
        return self.stages | ({FINETUNING} if finetunes else set())

    @property
    def trains_head_only(self) -> bool:
        """Whether the encoder is frozen. Then it uses the network's `frozen_head`, else its `trained_head`."""
        return self.learns == ("head",)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The trainings whose weights it starts from."""
        return (Source("pretrain", "pretrain"),) if self.encoder == "pretrained" else ()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A measurement of finished trainings of one seed. It trains nothing."""

    name: str
    title: str
    sources: tuple[Source, ...]
    stages = frozenset({PRETRAINING, CLASSIFICATION})
    parts = stages | {FINETUNING}
    stage = CLASSIFICATION
    in_table = False


GRID_VARIANTS = ("pretrain", "frozen", "finetune", "scratch")
"""The variants that a grid trains for each seed."""

CLASSIFIERS = ("frozen", "finetune", "scratch")
"""Those that are columns of the source's table."""

PROBES = ("random", "pixels", "pca")
"""Controls of the frozen variant: the same head on an encoder that learned nothing."""

BUILT_IN = (
    Variant(name="pretrain", title="Train an autoencoder.", learns=("encoder", "decoder"), in_table=False),
    Variant(
        name="frozen",
        title="Train a linear head on a frozen pretrained encoder.",
        encoder="pretrained",
        learns=("head",),
    ),
    Variant(name="finetune", title="Train a pretrained encoder and a new head together.", encoder="pretrained"),
    Variant(name="scratch", title="Train the same encoder and head from random weights."),
    Variant(name="random", title="Train a head on the random initial encoder.", learns=("head",), in_table=False),
    Variant(name="pixels", title="Train a head on raw pixels.", encoder="pixels", learns=("head",), in_table=False),
    Variant(
        name="pca",
        title="Train a head on principal components of the training images.",
        encoder="components",
        learns=("head",),
        in_table=False,
    ),
)

EVALUATIONS: Mapping[str, Evaluation] = {
    evaluation.name: evaluation
    for evaluation in (
        Evaluation(
            name="robustness",
            title="Test the classifiers on erased test images.",
            sources=tuple(Source(variant, variant) for variant in CLASSIFIERS),
        ),
        Evaluation(
            name="similarity",
            title="Compare encoders layer by layer.",
            sources=(
                Source("pretrain", "pretrain"),
                Source("finetune", "finetune"),
                Source("scratch", "scratch"),
                Source("other", "scratch", seed_offset=1),
            ),
        ),
    )
}


def _check(variant: Variant) -> None:
    require(isinstance(variant, Variant), f"{' '.join(repr(variant).split())[:60]} is not a Variant")
    require(variant.encoder in ENCODERS, f"encoder={variant.encoder!r} must be one of {', '.join(ENCODERS)}")
    require(
        callable(variant.learns) or (bool(variant.learns) and set(variant.learns) <= {"encoder", "head"}),
        f"learns={variant.learns!r} must be a function, ('head',), ('encoder',) or ('encoder', 'head')",
    )


def _definition(variant: Variant) -> object:
    return variant.learns if callable(variant.learns) else repr(variant)


VARIANTS: Registry[Variant] = Registry("variant", {variant.name: variant for variant in BUILT_IN}, _check, _definition)


def register(variant: Variant) -> None:
    """Add a variant, under its name (see `Registry.register`)."""
    VARIANTS.register(variant.name, variant)


def find(name: str) -> Variant | Evaluation:
    """The variant or evaluation of a name. Raises `UsageError` for an unknown one."""
    return EVALUATIONS[name] if name in EVALUATIONS else VARIANTS.look_up(name)


def find_or_assume(name: str) -> Variant | Evaluation:
    """The variant or evaluation of a name; an unknown one is taken for a classifier of a plugin that is not loaded."""
    known = name in EVALUATIONS or name in VARIANTS
    return find(name) if known else Variant(name=name, title=name)


def is_in_table(name: str) -> bool:
    """Whether a variant is a column of the table: the grid's classifiers, and those of plugins, loaded or not."""
    return find_or_assume(name).in_table
