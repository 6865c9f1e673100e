"""How long whole commands take that compute almost nothing, as ratios to the imports that they cannot do without.

    python -m benchmarks.startup --repeats 5 --before ../earlier --out benchmarks/results

`--before` is an earlier checkout with its environment; its commands are timed in turn with those of this one. Each
round times ``import torch``, ``import mlflow`` (with its SQL store) and each command once. Each checkout has a store of
its own with a grid of digits. Commands that train, train a new seed for one epoch.
"""

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import measure

OF_DIGITS = ["--dataset", "digits", "--network", "fc", "--epochs", "1"]

IMPORTS = {
    "import torch": "import torch",
    "import mlflow": "import mlflow.store.tracking.sqlalchemy_store",
}


def commands(folder: Path, seeds: Iterator[int]) -> dict[str, list[str]]:
    """The arguments of each command; those that train take the next seed."""
    return {
        "compare": ["compare", "--dataset", "digits", "--epochs", "1", "--out", str(folder / "table")],
        "predict": ["predict", "--dataset", "digits", str(folder / "digit.png")],
        "a training": ["scratch", *OF_DIGITS, "--seed", str(next(seeds))],
        "a grid of eight": ["grid", *OF_DIGITS, "--seeds", str(next(seeds)), "--out", str(folder / "table")],
    }


def timed(arguments: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None) -> float:
    """The seconds of a program in a folder without a checkout. Raises `CalledProcessError` where it fails."""
    began = time.perf_counter()
    subprocess.run([*map(str, arguments)], check=True, capture_output=True, cwd=folder, env=environment)
    return time.perf_counter() - began


def measure_all(pythons: Mapping[str, Path], repeats: int, folder: Path) -> dict[str, dict[str, list[float]]]:
    """The seconds of each round, by what was timed and the checkout."""
    Image.fromarray(np.tri(28, dtype=np.uint8) * 255).save(folder / "digit.png")
    seeds = itertools.count(1)
    environments = {}
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the first round compiles; users have compiled files
    for name, python in pythons.items():
        environments[name] = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/{name}.db"}
        timed([python, "-m", "aepretrain", *commands(folder, seeds)["a grid of eight"]], folder, environments[name])
        for arguments in commands(folder, seeds).values():  # files are read from disk and compiled here
            timed([python, "-m", "aepretrain", *arguments], folder, environments[name])
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(repeats):
        for name, code in IMPORTS.items():
            found.setdefault(name, {}).setdefault("now", []).append(timed([pythons["now"], "-c", code], folder))
        for name, python in pythons.items():
            for what, arguments in commands(folder, seeds).items():
                seconds = timed([python, "-m", "aepretrain", *arguments], folder, environments[name])
                found.setdefault(what, {}).setdefault(name, []).append(seconds)
        print(
            {what: {name: f"{of[-1]:.2f}" for name, of in all_of.items()} for what, all_of in found.items()}, flush=True
        )
    return found


def table(found: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Medians, and medians and ranges of the ratios of each round."""
    imports = [sum(one) for one in zip(*(found[name]["now"] for name in IMPORTS), strict=True)]
    rows = []
    for what, of_checkouts in found.items():
        now, before = of_checkouts["now"], of_checkouts.get("before")
        rows.append(
            [
                what,
                f"{statistics.median(now):.2f}",
                _ratio(now, imports),
                f"{statistics.median(before):.2f}" if before else "",
                _ratio(now, before) if before else "",
            ]
        )
    header = ["what", "now (s)", "now : both imports", "before (s)", "now : before"]
    return measure.markdown_table(header, rows)


def _ratio(these: Sequence[float], those: Sequence[float]) -> str:
    ratios = [one / other for one, other in zip(these, those, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Measure all starts and write startup.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--before", type=Path, help="an earlier checkout")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    pythons = {"now": Path(sys.executable)}
    if options.before:
        pythons["before"] = options.before.absolute() / ".venv/bin/python"
    folder = Path(tempfile.mkdtemp())
    try:
        found = measure_all(pythons, options.repeats, folder)
    finally:
        shutil.rmtree(folder)
    facts = measure.machine() | {"repeats": options.repeats}
    lines = [
        "# Starting",
        "",
        *table(found),
        "",
        f"Medians of rounds, and the range of ratios. {measure.told(facts)}",
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "startup.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
