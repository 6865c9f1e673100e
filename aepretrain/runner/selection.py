"""The choice of the trainings that are shown."""

from collections.abc import Iterable

from aepretrain.config import canonical_json
from aepretrain.records import Record
from aepretrain.variants import CLASSIFIERS


def select(records: Iterable[Record]) -> list[Record]:
    """The seed of each classifier's cell that is shown and served: the lowest validation loss, then the lowest seed.

    Cells of different settings are different cells.
    """
    best: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: (record.metrics["best_val_loss"], record.seed)):
        best.setdefault(canonical_json(dict(record.identity) | {"seed": None}), record)
    return [record for record in best.values() if record.cell[2] in CLASSIFIERS]
