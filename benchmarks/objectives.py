"""What an objective costs of an epoch of pretraining, and how far an autoencoder is from the limit of its arithmetic.

    python -m benchmarks.objectives --out benchmarks/results

As in a grid, two processes with one thread each do the same at once. In each round, each of them measures the speed of
a large matrix product, and then pretrains each network for one epoch with each objective, in turn. An epoch is that of
the engine: learning from 50,000 images of MNIST and the loss of 10,000. The limit is the count of `limit.py` divided
by the speed of the product.
"""

import argparse
import multiprocessing
import statistics
from pathlib import Path
from typing import Any

from aepretrain import data, training
from aepretrain.config import GRID_NETWORKS, DataRequest, Settings, TrainingSpec
from benchmarks import limit, measure

OBJECTIVES = ("reconstruct", "pixel-mask", "patch-mask")


def measure_rounds(rounds: int, data_dir: str | None, begin: Any) -> list[dict[tuple[str, str], float]]:
    """By round, seconds of an epoch by network and objective, and the limit's by network and ``limit``.

    `begin` is a barrier that the processes pass together before each round. The first round warms up and is left out.
    """
    dataset = data.load(DataRequest("mnist"), data_dir)
    training.prepare_process(1)
    found = []
    for _ in range(rounds + 1):
        begin.wait()
        gflops = measure.peak_gflops()
        seconds = {}
        for network in GRID_NETWORKS:
            flop = limit.training_flop(network, "none", "pretrain", 1)
            seconds[network, "limit"] = flop / gflops / 1e9
            for objective in OBJECTIVES:
                settings = Settings(ae_epochs=1, patience=0, objective=objective)
                spec = TrainingSpec(network=network, augmentation="none", variant="pretrain", seed=0, settings=settings)
                (outcome,) = training.run(
                    [spec], dataset, training.resolve_device("cpu"), [{}], lambda _place, _result: None
                )
                if not isinstance(outcome, training.Outcome):
                    raise outcome
                seconds[network, objective] = outcome.metrics["training_s"]
        found.append(seconds)
    return found[1:]


def table(rounds: list[dict[tuple[str, str], float]]) -> list[str]:
    """Medians of the rounds of all processes, and medians and ranges of the ratios of each round."""
    rows = []
    for network in GRID_NETWORKS:
        for objective in OBJECTIVES:
            seconds = statistics.median(one[network, objective] for one in rounds)
            to_plain = [one[network, objective] / one[network, "reconstruct"] for one in rounds]
            to_limit = [one[network, objective] / one[network, "limit"] for one in rounds]
            rows.append([network, objective, f"{seconds:.2f}", _ratio(to_plain), _ratio(to_limit)])
    return measure.markdown_table(["network", "objective", "epoch (s)", "to reconstruct", "to the limit"], rows)


def _ratio(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def main() -> None:
    """Measure in two processes and write objectives.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--data-dir")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Manager() as manager:
        begin = manager.Barrier(options.processes, timeout=600)
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            given = [(options.rounds, options.data_dir, begin)] * options.processes
            rounds = [one for of_process in pool.starmap(measure_rounds, given, chunksize=1) for one in of_process]
    facts = measure.machine() | {"rounds": options.rounds, "processes at once": options.processes}
    lines = ["# Objectives and the limit", "", *table(rounds), "", measure.told(facts), ""]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "objectives.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
