"""Predictions in, figures of merit out. Shapes: N images, K classes.

Definitions are those of scikit-learn's `precision_recall_fscore_support` with `zero_division=0`.
"""

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(
    labels_N: NDArray[np.integer], predicted_N: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """Counts, [K, K]: rows are true classes, columns predicted ones."""
    index_N = labels_N.astype(np.int64) * num_classes + predicted_N
    return np.bincount(index_N, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(confusion_KK: NDArray[np.int64]) -> float:
    """The share of images whose class was predicted."""
    return float(np.trace(confusion_KK) / confusion_KK.sum())


def precision(confusion_KK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the images predicted as a class, the share that belongs to it, [K]; 0 where nothing was predicted."""
    return _share(np.diag(confusion_KK), confusion_KK.sum(axis=0))


def recall(confusion_KK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the images of a class, the share predicted as it, [K]; 0 where there are none."""
    return _share(np.diag(confusion_KK), confusion_KK.sum(axis=1))


def macro_f1(confusion_KK: NDArray[np.int64]) -> float:
    """The mean over classes of the harmonic mean of precision and recall.

    A class that is neither among the labels nor among the predictions is left out, as scikit-learn does.
    """
    support_K = confusion_KK.sum(axis=0) + confusion_KK.sum(axis=1)
    f1_K = _share(2 * np.diag(confusion_KK), support_K)
    return float(f1_K[support_K > 0].mean())


def _share(part_K: NDArray[np.int64], whole_K: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part_K, whole_K, out=np.zeros(len(part_K)), where=whole_K > 0)
