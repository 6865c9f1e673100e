"""Time the engine alone on all 16 trainings of many seeds: without MLflow, a store or files other than the dataset's.

    python -m benchmarks.engine --seeds 0-19 --epochs 20 --device auto --stack 20

Frozen and finetune get the pretrained weights in memory. Patience is off. The timed part is the work of a worker:
moving images to the device, training, and evaluating the best weights. A warm-up is timed separately: all 16 trainings
on a few noise images, in which everything is imported and set up. Reading the dataset is not timed.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aepretrain import data, training
from aepretrain.config import AUGMENTATIONS, GRID_NETWORKS, DataRequest, Settings, TrainingSpec, parse_seeds
from aepretrain.data import Dataset
from aepretrain.variants import GRID_VARIANTS
from benchmarks import measure


@dataclass
class Measured:
    """Times and results of the chunks of one training."""

    elapsed_s: float = 0.0
    loop_s: float = 0.0
    scores: list[float] = field(default_factory=list)


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def train_chunk(
    specs: Sequence[TrainingSpec],
    dataset: Dataset,
    device: torch.device,
    sources: Sequence[Mapping[str, Mapping[str, Tensor]]],
    measured: Measured,
) -> list[Mapping[str, Tensor]]:
    """The weights of each seed of a stack after training; adds the times. Raises the failure of a seed that fails."""
    synchronise(device)
    started = time.perf_counter()
    outcomes = training.run(specs, dataset, device, sources, lambda _place, _result: None)
    synchronise(device)
    measured.elapsed_s += time.perf_counter() - started
    weights = []
    for outcome in outcomes:
        if not isinstance(outcome, training.Outcome):
            raise outcome
        measured.loop_s += outcome.metrics["training_s"]
        measured.scores.append(outcome.metrics.get("test_accuracy", outcome.metrics["best_val_loss"]))
        weights.append(outcome.weights)
    return weights


def train_all(
    seeds: Sequence[int], stack: int, settings: Settings, dataset: Dataset, device: torch.device
) -> dict[tuple[str, str, str], Measured]:
    """Each network, augmentation and variant with all seeds, in chunks of `stack`."""
    found = {(n, a, v): Measured() for n in GRID_NETWORKS for a in AUGMENTATIONS for v in GRID_VARIANTS}
    for start in range(0, len(seeds), stack):
        encoders: Sequence[Mapping[str, Tensor]] = []
        for (network, augmentation, variant), measured in found.items():
            specs = [
                TrainingSpec(network=network, augmentation=augmentation, variant=variant, seed=seed, settings=settings)
                for seed in seeds[start : start + stack]
            ]
            given = [{"pretrain": one} for one in encoders] if specs[0].sources else [{}] * len(specs)
            weights = train_chunk(specs, dataset, device, given, measured)
            if variant == "pretrain":
                encoders = weights
    return found


def report(found: Mapping[tuple[str, str, str], Measured], num_images: int) -> list[str]:
    """One line per training, and the total."""
    header = ["training", "seconds", "loop (s)", "images/s", "mean test accuracy (pretrain: validation loss)"]
    rows = []
    for cell, one in found.items():
        speed, score = num_images / one.elapsed_s, sum(one.scores) / len(one.scores)
        rows.append(["-".join(cell), f"{one.elapsed_s:.2f}", f"{one.loop_s:.2f}", f"{speed:,.0f}", f"{score:.4f}"])
    elapsed_s, loop_s = (sum(getattr(one, name) for one in found.values()) for name in ("elapsed_s", "loop_s"))
    total = ["all", f"{elapsed_s:.2f}", f"{loop_s:.2f}", f"{num_images * len(found) / elapsed_s:,.0f}", ""]
    return measure.markdown_table(header, [*rows, total])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--stack", type=int, help="seeds at once (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir")
    options = parser.parse_args()
    device = training.resolve_device(options.device)
    training.prepare_process(options.threads)
    seeds = parse_seeds(options.seeds)
    settings = Settings(dataset=options.dataset, ae_epochs=options.epochs, cls_epochs=options.epochs, patience=0)
    dataset = data.load(DataRequest(options.dataset), options.data_dir)
    stack = options.stack or len(seeds)
    started = time.perf_counter()
    train_all((0, 1), 2, Settings(ae_epochs=1, cls_epochs=1), measure.noise(), device)
    print(f"warming up took {time.perf_counter() - started:.1f} s")
    found = train_all(seeds, stack, settings, dataset, device)
    num_training = len(data.split(dataset, settings.split, 0).train_N)
    print("\n".join(report(found, num_training * options.epochs * len(seeds))))
    facts = {"device": measure.device_name(device), "torch": torch.__version__, "threads": options.threads}
    facts |= {"dataset": options.dataset, "seeds": len(seeds), "stack": stack, "epochs": options.epochs}
    if device.type == "cuda":
        facts["highest memory of tensors (MiB)"] = round(torch.cuda.max_memory_allocated(device) / measure.MIB)
    print(measure.told(facts))


if __name__ == "__main__":
    main()
