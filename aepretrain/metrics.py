"""Classification metrics from predictions. Shapes: N images, K classes.

Definitions are those of scikit-learn's `precision_recall_fscore_support` with `zero_division=0`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15


def confusion_matrix(
    labels_N: NDArray[np.integer], predicted_N: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """Counts, [K, K]: rows are true classes, columns predicted ones."""
    index_N = labels_N.astype(np.int64) * num_classes + predicted_N
    return np.bincount(index_N, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(confusion_KK: NDArray[np.int64]) -> float:
    """The share of images that are classified correctly."""
    return float(np.trace(confusion_KK) / confusion_KK.sum())


def precision(confusion_KK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the images predicted as a class, the share that belongs to it, [K]; 0 where nothing was predicted."""
    return _share(np.diag(confusion_KK), confusion_KK.sum(axis=0))


def recall(confusion_KK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the images of a class, the share predicted as it, [K]; 0 where there are none."""
    return _share(np.diag(confusion_KK), confusion_KK.sum(axis=1))


def per_class(confusion_KK: NDArray[np.int64]) -> dict[str, list[float]]:
    """Precision and recall of each class, by their names."""
    return {"precision": precision(confusion_KK).tolist(), "recall": recall(confusion_KK).tolist()}


def macro_f1(confusion_KK: NDArray[np.int64]) -> float:
    """The mean over classes of the harmonic mean of precision and recall.

    A class without labels and predictions is left out, as in scikit-learn.
    """
    support_K = confusion_KK.sum(axis=0) + confusion_KK.sum(axis=1)
    f1_K = _share(2 * np.diag(confusion_KK), support_K)
    return float(f1_K[support_K > 0].mean())


def expected_calibration_error(confidence_N: NDArray[np.floating[Any]], right_N: NDArray[np.bool_]) -> float:
    """The expected calibration error with 15 bins of equal width (Guo et al. 2017, section 2).

    `confidence_N` is the probability given to the predicted class. Bins are open below and closed above: over all
    images, the mean absolute difference between a bin's mean confidence and its share of right predictions.
    """
    bins_N = np.clip(np.ceil(confidence_N.astype(np.float64) * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    excess = np.bincount(bins_N, confidence_N - right_N, NUM_BINS)
    return float(np.abs(excess).sum() / len(right_N))


def _share(part_K: NDArray[np.int64], whole_K: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part_K, whole_K, out=np.zeros(len(part_K)), where=whole_K > 0)
