"""The names of what the experiment is made of, its bounds, and what goes wrong."""

SCHEMA = 3
"""Raised whenever a change of the code changes any result; part of every key."""

CLASSIFIERS = ("frozen", "finetune", "scratch")
VARIANTS = ("pretrain", *CLASSIFIERS)
PROBES = ("random", "pixels", "pca")
"""Controls of the frozen variant: the same head on an encoder that was never trained, on the pixels, and on as many
principal components of the training images as the code has features."""

FROZEN = ("frozen", *PROBES)
"""The variants that train a head alone."""

EVALUATIONS = ("robustness", "similarity")
"""What trains nothing, but looks at what one seed's other variants have learned."""

DATASETS = ("mnist", "fashion-mnist", "kmnist", "digits")
AUGMENTATIONS = ("none", "erasing")
"""Those of the published grid; others are added to the registry in `augment`, and datasets to the one in `data`."""

STUDIES = ("controls", "labels", "robustness", "similarity")
LABELS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 0)
"""Numbers of labelled training images in the study of labels; 0 = all."""

VARIED_BY_STUDIES = ("ae_target", "cls_epochs", "labels", "patience", "updates")
"""The settings in which a study's trainings may differ from those of the grid that it is about."""

IN_EVERY_IDENTITY = ("dataset", "split", "normalize", "batch_size", "lr")
"""The settings that every training depends on, whatever its cell."""

NETWORKS = ("fc", "conv")
"""The two networks of the published grid; others are added to the registry in `networks`."""

SMALLEST_EFFECT = 0.001
"""The smallest difference of accuracies that anybody would care about: 10 of 10,000 test images."""

MAX_SEEDS = 100_000
"""More seeds than this in one command are taken for a slip of the pen."""

MAX_COUNT = 1_000_000_000
"""So are more steps, images or epochs of anything; libraries would fail at some larger number each."""

MAX_PROCESSES = 1024
"""And more threads or worker processes: OpenMP crashes where the system gives it no more."""

MAX_SEED = 10**18 - 1
MAX_FLOAT32 = 3.4e38

PHASES: dict[str, frozenset[str]] = {
    "pretrain": frozenset({"ae"}),
    "frozen": frozenset({"ae", "cls"}),
    "finetune": frozenset({"ae", "cls"}),
    "scratch": frozenset({"cls"}),
    **dict.fromkeys(PROBES, frozenset({"cls"})),
    **dict.fromkeys(EVALUATIONS, frozenset({"ae", "cls"})),
}
"""The phases of training that each variant's result depends on. A user's variants are added by `declare_variant`."""

BUILT_IN_VARIANTS = frozenset(PHASES)


def declare_variant(name: str, *, pretrained: bool) -> None:
    """Let trainings have a variant of a user's own: a classifier, on a pretrained encoder or on one from the seed.

    What it is, the registry in `variants` knows.
    """
    PHASES[name] = PHASES["finetune" if pretrained else "scratch"]


def phases_of(variant: str) -> frozenset[str]:
    """The phases that a variant's result depends on; of one whose plugin is not loaded, those of every classifier."""
    return PHASES.get(variant, PHASES["scratch"])


def is_classifier(variant: str) -> bool:
    """Whether a variant stands in the table: the grid's classifiers, and those of users' own."""
    return variant in CLASSIFIERS or variant not in BUILT_IN_VARIANTS
