"""Names and bounds of the experiment that options refer to."""

SCHEMA = 3
"""Part of every key. Raised whenever a change of the code changes a result."""

EMNIST = tuple(f"emnist-{split}" for split in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist"))
DATASETS = ("mnist", "fashion-mnist", "kmnist", "digits", "qmnist", *EMNIST, "cifar10", "cifar100", "svhn")
SOURCES = ("folder", "npz", "parquet")
"""What images of one's own may be, named like ``folder:PATH``."""

OF_DIGITS = ("mnist", "digits", "qmnist", "emnist-digits", "emnist-mnist", "svhn")
OF_MNIST = ("mnist", "fashion-mnist", "kmnist", "digits", "qmnist", *EMNIST)
"""Datasets whose images have MNIST's form, in whatever size they are used."""

GRID_NETWORKS = ("fc", "conv")
AUGMENTATIONS = ("none", "erasing")
"""The networks and augmentations of the source's grid, which `grid` trains unless others are named."""

NETWORKS = (*GRID_NETWORKS, "resnet8")
"""Networks that are built in; plugins add others."""

MASK_SHARES = {"pixel-mask": 0.5, "patch-mask": 0.6}
"""Default share of what is hidden, by the corruption that hides it."""

CORRUPTIONS = (*MASK_SHARES, "gaussian-noise")
"""Ways to corrupt images: objectives of pretraining, and under the same names augmentations."""

OBJECTIVES = ("reconstruct", *CORRUPTIONS)
"""Objectives that are built in; plugins add others."""

STUDIES = ("controls", "labels", "robustness", "similarity")
LABELS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 0)
"""Numbers of labelled training images in the study of labels; 0 = all."""

UPDATES_BETWEEN_VALIDATIONS = 100
"""With a fixed number of updates, validation comes after as many passes as fit into this many, at least one."""

VARIED_BY_STUDIES = ("ae_target", "cls_epochs", "labels", "patience", "updates")
"""The settings in which a study's trainings may differ from those of the grid that it is about."""

IN_EVERY_IDENTITY = ("dataset", "split", "normalize", "batch_size", "lr")
"""The settings that every training depends on."""

SMALLEST_EFFECT = 0.001
"""The smallest difference of accuracies that counts as relevant: 10 of 10,000 test images."""

MAX_SEEDS = 100_000
"""More seeds in one command are taken for a typing error."""

MAX_COUNT = 1_000_000_000
"""So are more steps, images or epochs; libraries fail at some larger number each."""

MAX_PROCESSES = 1024
"""So are more threads or worker processes: OpenMP crashes where the system gives it no more."""

MAX_SEED = 10**18 - 1
MAX_FLOAT32 = 3.4e38
