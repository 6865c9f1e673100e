"""Time and memory of `compare` and `report` on a store of 100,000 trainings, of which they select 1,600.

    python -m benchmarks.scale --out benchmarks/results

The store has copies of the committed evidence's shown trainings, the 16 of a grid. 1,600 copies keep the settings and
are seeds 0 to 99. The others have other learning rates, so that `--lr` selects. Each copy has its own id, key, seed and
accuracy (shifted at random, because otherwise all seeds would be equal), and all tags, parameters, metrics and epochs
of its original. On disk are the predictions of the selected trainings, and all files of seed 0, which is the shown
seed. SQL writes the rows into tables that MLflow has made, because writing them through MLflow would take hours. The
commands read them through MLflow, like any store.
"""

import argparse
import dataclasses
import json
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from aepretrain import runner, tracking
from aepretrain.config import TrainingSpec
from aepretrain.records import OUTCOMES, Record
from benchmarks import measure

NUM_SEEDS = 100
COMMANDS = ("compare", "report")
CHUNK = 400
"""Runs that are written at once."""


@dataclass(frozen=True)
class Copied:
    """A stored training: its record, its rows in MLflow's tables by table (without ids), and where its files are."""

    record: Record
    rows: dict[str, list[dict[str, Any]]]
    files: Path


def make_store(folder: Path, bundle: Path, num_runs: int) -> str:
    """A store of so many trainings in a folder; gives its URI."""
    with tempfile.TemporaryDirectory() as templates:
        source = tracking.open_store(f"sqlite:///{templates}/mlflow.db")
        tracking.restore(source, tracking.read_bundle(bundle))
        originals = read(Path(templates) / "mlflow.db", shown(source))
        uri = f"sqlite:///{folder}/mlflow.db"
        store = tracking.open_store(uri)
        parent = tracking.open_grid(store, "grid mnist", "0" * 64, run_id=None, again=False)
        parent.log_dataset(tracking.DatasetReference("mnist", originals[0].record.tags["dataset_digest"], "nowhere"))
        parent.end("FINISHED")
        write(folder, originals, num_runs, int(store.experiment_id), parent.run_id)
    return uri


def shown(store: tracking.Store) -> list[Record]:
    """The shown classifier of each cell of the grid, and the pretraining of each experiment's finetune."""
    records = [record for record in store.records().values() if record.study is None]
    selected = runner.select(records)
    pretrainings = {one.tags["pretraining_key"] for one in selected if one.cell[2] == "finetune"}
    return [*(record for record in records if record.key in pretrainings), *selected]


def read(database: Path, records: Sequence[Record]) -> list[Copied]:
    """The rows and files of trainings."""
    found = []
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        for record in records:
            rows = {
                table: [dict(row) for row in connection.execute(SELECT.format(table), (record.run_id,))]
                for table in ("runs", "tags", "params", "metrics", "latest_metrics")
            }
            found.append(Copied(record, rows, Path(rows["runs"][0]["artifact_uri"].removeprefix("file://"))))
    return found


SELECT = "SELECT * FROM {} WHERE run_uuid = ?"
GIVE_DATASET = """
    INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id, step)
    SELECT lower(hex(randomblob(16))), inputs.source_type, source_id, destination_type, run_uuid, step
    FROM inputs JOIN runs ON inputs.destination_id = :parent AND runs.run_uuid != :parent
"""
"""The dataset of the parent run becomes an input of each training too."""


def write(folder: Path, originals: Sequence[Copied], num_runs: int, experiment_id: int, parent_run_id: str) -> None:
    """Write the copies, in the order of their ids, which are drawn at random as MLflow's are."""
    draw = random.Random(0)  # noqa: S311  # no secrets
    plan = [(original, seed, lr) for lr, seed, original in _combinations(originals, num_runs)]
    draw.shuffle(plan)
    run_ids = sorted(f"{draw.getrandbits(128):032x}" for _ in plan)
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -2000000")
        for start in range(0, len(plan), CHUNK):
            inserted: dict[str, list[dict[str, Any]]] = {}
            for run_id, (original, seed, lr) in zip(run_ids[start:], plan[start : start + CHUNK], strict=False):
                files = folder / "mlartifacts" / run_id / "artifacts"
                for table, rows in copy(original, run_id, seed, lr, draw.gauss(0, 0.001)).items():
                    inserted.setdefault(table, []).extend(rows)
                inserted["tags"] += [{"key": MLFLOW_PARENT_RUN_ID, "value": parent_run_id, "run_uuid": run_id}]
                inserted["runs"][-1] |= {"experiment_id": experiment_id, "artifact_uri": files.as_uri()}
                if lr == original.record.setting("lr"):
                    _copy_files(original.files, files, seed)
            for table, rows in inserted.items():
                names = list(rows[0])
                statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + n for n in names)})"  # noqa: S608  # names of MLflow's own
                connection.executemany(statement, rows)
            connection.commit()
        connection.execute(GIVE_DATASET, {"parent": parent_run_id})
        connection.commit()


def _combinations(originals: Sequence[Copied], num_runs: int) -> Iterator[tuple[float, int, Copied]]:
    for index in range(num_runs):
        grid, place = divmod(index, NUM_SEEDS * len(originals))
        seed, which = divmod(place, len(originals))
        original = originals[which]
        yield original.record.setting("lr") * (1 + grid / 1000), seed, original


def copy(original: Copied, run_id: str, seed: int, lr: float, shift: float) -> dict[str, list[dict[str, Any]]]:
    """The rows of a training as if it had this id, seed, learning rate and so much more accuracy."""
    spec = original.record.spec
    spec = dataclasses.replace(spec, seed=seed, settings=dataclasses.replace(spec.settings, lr=lr))
    changed = {f"aepretrain.{name}": text for name, text in _tags(original.record, spec).items()}
    params = {"seed": str(seed), "lr": str(lr)}
    tables = {table: [row | {"run_uuid": run_id} for row in rows] for table, rows in original.rows.items()}
    tables["runs"][0]["name"] = spec.name
    tables["tags"] = [row for row in tables["tags"] if row["key"] != MLFLOW_PARENT_RUN_ID]
    for row in tables["tags"]:
        row["value"] = changed.get(row["key"], row["value"])
    for row in tables["params"]:
        row["value"] = params.get(row["key"], row["value"])
    for row in tables["metrics"] + tables["latest_metrics"]:
        if row["key"] in ("accuracy/test", "macro_f1/test"):
            row["value"] += shift
    return tables


def _tags(record: Record, spec: TrainingSpec) -> dict[str, str]:
    digest = record.tags["dataset_digest"]
    tags = {"seed": str(spec.seed), "lr": str(spec.settings.lr), "key": spec.key(digest, {})}
    tags["spec"] = json.dumps(spec.identity())
    if "pretrain" in spec.sources:
        tags["pretraining_key"] = spec.sources["pretrain"].key(digest, {})
    return tags


def _copy_files(source: Path, target: Path, seed: int) -> None:
    if seed == 0:
        shutil.copytree(source, target)
    elif (source / OUTCOMES).exists():
        (target / OUTCOMES).parent.mkdir(parents=True)
        shutil.copy(source / OUTCOMES, target / OUTCOMES)


def count(database: Path, lr: str = "%") -> int:
    """How many trainings a store has, or those with a learning rate."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT COUNT(*) FROM tags WHERE key = 'aepretrain.lr' AND value LIKE ?"
        return int(connection.execute(query, (lr,)).fetchone()[0])


def report(found: Mapping[str, Sequence[measure.Finished]], facts: dict[str, object]) -> list[str]:
    """The table of the commands, medians and the highest memory, and what it was measured on."""
    rows = [
        [name, f"{statistics.median(run.elapsed_s for run in runs):.1f}", f"{max(run.peak_mib for run in runs):.0f}"]
        for name, runs in found.items()
    ]
    header = ["command", "seconds, with imports", "memory (MiB)"]
    return ["# A large store", "", *measure.markdown_table(header, rows), "", measure.told(facts)]


def main() -> None:
    """Make the store, run the commands, write scale.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("evidence"))
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="make the store in this folder, or use the one that is there")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{folder.resolve()}/mlflow.db"
        if not (folder / "mlflow.db").exists():
            started = time.perf_counter()
            make_store(folder.resolve(), options.bundle, options.runs)
            print(f"the store was made in {time.perf_counter() - started:.0f} s", flush=True)
        found: dict[str, list[measure.Finished]] = {}
        for _ in range(options.repeats):
            for command in COMMANDS:
                arguments = (command, "--lr", 0.001, "--tracking-uri", uri, "--out", f"{temporary}/{command}")
                run = measure.run_program("aepretrain", *arguments, sampling_s=0.1)
                found.setdefault(f"{command} --lr 0.001", []).append(run)
                print(command, f"{run.elapsed_s:.1f} s, {run.peak_mib:.0f} MiB", flush=True)
        database = folder / "mlflow.db"
        facts = measure.machine() | {"repeats": options.repeats, "trainings": count(database)}
        facts |= {"of them asked for": count(database, "0.001")}
        facts |= {"mlflow.db in GB": f"{database.stat().st_size / 1e9:.1f}"}
    options.out.mkdir(parents=True, exist_ok=True)
    lines = report(found, facts)
    (options.out / "scale.md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
