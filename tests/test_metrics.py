"""Figures of merit against hand-computed values and scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from aepretrain import metrics


def test_by_hand() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    confusion = metrics.confusion_matrix(labels, predicted, 3)
    assert confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert metrics.accuracy(confusion) == pytest.approx(4 / 6)
    assert metrics.precision(confusion) == pytest.approx([1, 1 / 2, 1 / 2])
    assert metrics.recall(confusion) == pytest.approx([2 / 3, 1 / 2, 1])
    assert metrics.macro_f1(confusion) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


@pytest.mark.parametrize("num_classes", [2, 7, 10])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(num_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, 200)
    predicted = np.where(rng.random(200) < 0.7, labels, rng.integers(0, max(1, num_classes - 2), 200))
    labels[labels == 1] = 0  # a class that is never true, and perhaps never predicted
    confusion = metrics.confusion_matrix(labels, predicted, num_classes)
    every = list(range(num_classes))
    assert np.array_equal(confusion, sklearn_confusion(labels, predicted, labels=every))
    assert metrics.accuracy(confusion) == pytest.approx(accuracy_score(labels, predicted), abs=1e-12)
    assert metrics.macro_f1(confusion) == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-12)
    options = {"labels": every, "average": None, "zero_division": 0}
    assert metrics.precision(confusion) == pytest.approx(precision_score(labels, predicted, **options), abs=1e-12)
    assert metrics.recall(confusion) == pytest.approx(recall_score(labels, predicted, **options), abs=1e-12)
