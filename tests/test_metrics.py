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


def test_calibration_error_by_hand() -> None:
    # Bins of 1/15: 0.95 and 0.97 fall into the last (14/15 = 0.933 to 1), one of them right; 0.5 into another, right.
    found = metrics.expected_calibration_error(np.array([0.95, 0.97, 0.5]), np.array([True, False, True]))
    assert found == pytest.approx((2 * abs(0.96 - 0.5) + abs(0.5 - 1)) / 3)
    assert metrics.expected_calibration_error(np.ones(4), np.ones(4, bool)) == 0
    upper_edge = np.array([2 / 15, 1.5 / 15])  # closed above: both in the second bin, where errors cancel
    assert metrics.expected_calibration_error(upper_edge, np.array([False, False])) == pytest.approx(3.5 / 30)


def test_calibrated_predictions_have_a_small_error() -> None:
    draw = np.random.default_rng(2)
    confidence_N = draw.uniform(0.1, 1, 200_000)
    right_N = draw.uniform(0, 1, 200_000) < confidence_N
    assert metrics.expected_calibration_error(confidence_N, right_N) < 0.01
    assert metrics.expected_calibration_error(confidence_N, draw.uniform(0, 1, 200_000) < 0.5) > 0.2
