"""The loops on NumPy arrays.

Shapes: C input channels, O output channels, H rows, W columns, N images, K rows and columns of a kernel; X = W·N, a row
of maps as one axis; F = 2 rows of maps where they are pooled, else 1.

Maps are computed row by row, so that the data of a row stay in the cache. At a time, as many input rows as the kernel
has are padded with zeros. Where 2×2 max-pooling and ReLU follow, two rows are pooled at once and the full maps are
never written. Two output channels, two input channels and three taps of a kernel's row are computed together, so that a
loaded number is used several times. A narrower kernel is filled up with weights of 0.

Pooled maps have `which`, the place of the maximum in each square: 0 to 3, row by row, the first of equal ones, or
`NONE` where no number is above 0. An empty `which` means that maps are not pooled.

A change that changes rounding is a new version of the loops (`LOOPS` in training/device.py), which each run names.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aepretrain.compilation import compiled

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.uint8]
TAPS = 3
NONE = np.uint8(4)


@compiled
def correlate(
    maps_CHX: Floats,
    maps_which_CHX: Places,
    kernel_OCKK: Floats,
    bias_O: Floats,
    before: int,
    num: int,
    out_OHX: Floats,
    out_which_OHX: Places,
) -> None:
    """Write the cross-correlation of the maps with the kernel, plus the bias, as `torch.nn.Conv2d` defines it.

    `before` rows and columns of zeros precede the maps. The maps may be the gradient of pooled ones, and the output may
    be pooled.
    """
    num_out, num_in, size = kernel_OCKK.shape[:3]
    fold = 2 if out_which_OHX.size else 1
    rows_OFX = np.empty((num_out, fold, out_OHX.shape[2] * fold), maps_CHX.dtype)
    padded_KCX = np.zeros((size, num_in, rows_OFX.shape[2] + (size - 1) * num), maps_CHX.dtype)
    num_read = 0
    for y in range(out_OHX.shape[1] * fold):
        first_row, end_row = _rows_met(y, before, size, maps_CHX, maps_which_CHX)
        num_read = read_rows(maps_CHX, maps_which_CHX, num_read, y + end_row - before, before * num, num, padded_KCX)
        written_OHX, at = (rows_OFX, y % 2) if fold == 2 else (out_OHX, y)
        for o in range(0, num_out, 2):
            other = min(o + 1, num_out - 1)
            first_X, second_X = written_OHX[o, at], written_OHX[other, at]
            first_X[:] = bias_O[o]
            second_X[:] = bias_O[other]
            for c in range(0, num_in, 2):
                for row in range(first_row, end_row):
                    rows_CX = padded_KCX[(y + row - before) % size, c : c + 2]
                    kernel_OCK = kernel_OCKK[o : o + 2, c : c + 2, row]
                    if kernel_OCK.shape[0] == 1:
                        for i in range(len(rows_CX)):
                            _add_to_one(first_X, rows_CX[i], kernel_OCK[0, i], num)
                    elif kernel_OCK.shape[1] == 1:
                        _add_to_two(first_X, second_X, rows_CX[0], kernel_OCK[0, 0], kernel_OCK[1, 0], num)
                    else:
                        _add_two_to_two(first_X, second_X, rows_CX, kernel_OCK, num)
        if fold == 2 and at == 1:
            _pool(rows_OFX, y // 2, num, out_OHX, out_which_OHX)


@compiled
def _rows_met(y: int, before: int, size: int, maps_CHX: Floats, which_CHX: Places) -> tuple[int, int]:
    """The kernel's first row that meets the maps where the output has row y, and the one behind its last."""
    height = maps_CHX.shape[1] * (2 if which_CHX.size else 1)
    return max(before - y, 0), min(height + before - y, size)


@compiled
def read_rows(
    maps_CHX: Floats, which_CHX: Places, start: int, stop: int, shift: int, num: int, padded_KCX: Floats
) -> int:
    """Put rows of the maps at their places among the padded ones; gives how many have been read by now."""
    for y in range(start, stop):
        for c in range(maps_CHX.shape[0]):
            padded_X = padded_KCX[y % padded_KCX.shape[0], c, shift:]
            if which_CHX.size:
                _unpool(maps_CHX[c, y // 2], which_CHX[c, y // 2], y % 2, num, padded_X)
            else:
                width = min(maps_CHX.shape[2], padded_X.size)
                padded_X[:width] = maps_CHX[c, y, :width]
    return max(start, stop)


@compiled
def _add_two_to_two(first_X: Floats, second_X: Floats, rows_CX: Floats, kernel_OCK: Floats, num: int) -> None:
    """Add two rows of the maps, shifted and weighted by each tap, to two rows of the output."""
    size = kernel_OCK.shape[2]
    for tap in range(0, size, TAPS):
        a0, a1, a2 = _weights(kernel_OCK[0, 0], tap)
        a3, a4, a5 = _weights(kernel_OCK[0, 1], tap)
        b0, b1, b2 = _weights(kernel_OCK[1, 0], tap)
        b3, b4, b5 = _weights(kernel_OCK[1, 1], tap)
        x0_X, x1_X, x2_X = _shifted(rows_CX[0], size, tap, num)
        x3_X, x4_X, x5_X = _shifted(rows_CX[1], size, tap, num)
        for i in range(first_X.size):
            x0, x1, x2, x3, x4, x5 = x0_X[i], x1_X[i], x2_X[i], x3_X[i], x4_X[i], x5_X[i]
            first_X[i] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3 + a4 * x4 + a5 * x5
            second_X[i] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3 + b4 * x4 + b5 * x5


@compiled
def _add_to_two(first_X: Floats, second_X: Floats, row_X: Floats, first_K: Floats, second_K: Floats, num: int) -> None:
    """Add a row of the maps, shifted and weighted by each tap, to two rows of the output."""
    for tap in range(0, first_K.size, TAPS):
        a0, a1, a2 = _weights(first_K, tap)
        b0, b1, b2 = _weights(second_K, tap)
        x0_X, x1_X, x2_X = _shifted(row_X, first_K.size, tap, num)
        for i in range(first_X.size):
            x0, x1, x2 = x0_X[i], x1_X[i], x2_X[i]
            first_X[i] += a0 * x0 + a1 * x1 + a2 * x2
            second_X[i] += b0 * x0 + b1 * x1 + b2 * x2


@compiled
def _add_to_one(first_X: Floats, row_X: Floats, first_K: Floats, num: int) -> None:
    """Add a row of the maps, shifted and weighted by each tap, to a row of the output."""
    for tap in range(0, first_K.size, TAPS):
        a0, a1, a2 = _weights(first_K, tap)
        x0_X, x1_X, x2_X = _shifted(row_X, first_K.size, tap, num)
        for i in range(first_X.size):
            first_X[i] += a0 * x0_X[i] + a1 * x1_X[i] + a2 * x2_X[i]


@compiled
def _weights(kernel_K: Floats, tap: int) -> tuple[Any, Any, Any]:
    """Three weights from `tap` on; 0 beyond the end."""
    size, none = kernel_K.size, kernel_K.dtype.type(0)
    return kernel_K[tap], kernel_K[tap + 1] if tap + 1 < size else none, kernel_K[tap + 2] if tap + 2 < size else none


@compiled
def _shifted(row_X: Floats, size: int, tap: int, num: int) -> tuple[Floats, Floats, Floats]:
    """The row from three columns on; from the last one where there are no more."""
    last = size - 1
    return row_X[tap * num :], row_X[min(tap + 1, last) * num :], row_X[min(tap + 2, last) * num :]


@compiled
def gradients(
    maps_CHX: Floats,
    gradient_OHX: Floats,
    which_OHX: Places,
    before: int,
    num: int,
    kernel_OCKK: Floats,
    bias_O: Floats,
) -> None:
    """Write the gradients of `correlate` with respect to its kernel and its bias; its output may be pooled."""
    num_out, num_in, size = kernel_OCKK.shape[:3]
    fold = 2 if which_OHX.size else 1
    rows_OX = np.empty((num_out, gradient_OHX.shape[2] * fold), maps_CHX.dtype)
    padded_KCX = np.zeros((size, num_in, rows_OX.shape[1] + (size - 1) * num), maps_CHX.dtype)
    no_places_CHX = np.empty((0, 0, 0), np.uint8)
    num_read = 0
    kernel_OCKK[:] = 0
    bias_O[:] = 0
    for y in range(gradient_OHX.shape[1] * fold):
        first_row, end_row = _rows_met(y, before, size, maps_CHX, no_places_CHX)
        num_read = read_rows(maps_CHX, no_places_CHX, num_read, y + end_row - before, before * num, num, padded_KCX)
        for o in range(num_out):
            if fold == 2:
                _unpool(gradient_OHX[o, y // 2], which_OHX[o, y // 2], y % 2, num, rows_OX[o])
            else:
                rows_OX[o] = gradient_OHX[o, y]
            bias_O[o] += rows_OX[o].sum()
        for o in range(0, num_out, 2):
            other = min(o + 1, num_out - 1)
            for c in range(num_in):
                for row in range(first_row, end_row):
                    row_X = padded_KCX[(y + row - before) % size, c]
                    for tap in range(0, size, TAPS):
                        x0_X, x1_X, x2_X = _shifted(row_X, size, tap, num)
                        sums = _products(rows_OX[o], rows_OX[other], x0_X, x1_X, x2_X)
                        for t in range(min(TAPS, size - tap)):
                            kernel_OCKK[o, c, row, tap + t] += sums[t]
                            if other > o:
                                kernel_OCKK[other, c, row, tap + t] += sums[TAPS + t]


@compiled
def _products(
    first_X: Floats, second_X: Floats, x0_X: Floats, x1_X: Floats, x2_X: Floats
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Inner products of two rows of the gradient with three rows of the maps."""
    none = first_X.dtype.type(0)
    a0, a1, a2, b0, b1, b2 = none, none, none, none, none, none
    for i in range(first_X.size):
        a, b, x0, x1, x2 = first_X[i], second_X[i], x0_X[i], x1_X[i], x2_X[i]
        a0 += a * x0
        a1 += a * x1
        a2 += a * x2
        b0 += b * x0
        b1 += b * x1
        b2 += b * x2
    return a0, a1, a2, b0, b1, b2


@compiled
def _pool(rows_OFX: Floats, y: int, num: int, out_OHX: Floats, which_OHX: Places) -> None:
    """Write row y of the pooled maps: the largest of each square in two rows and 0; not-a-number counts as largest."""
    none = rows_OFX.dtype.type(0)
    for o in range(out_OHX.shape[0]):
        for start in range(0, out_OHX.shape[2], num):
            v0_N, v1_N = rows_OFX[o, 0, 2 * start :], rows_OFX[o, 0, 2 * start + num :]
            v2_N, v3_N = rows_OFX[o, 1, 2 * start :], rows_OFX[o, 1, 2 * start + num :]
            out_N, which_N = out_OHX[o, y, start:], which_OHX[o, y, start:]
            for n in range(num):
                best, place = none, NONE
                if v0_N[n] > best or np.isnan(v0_N[n]):
                    best, place = v0_N[n], np.uint8(0)
                if v1_N[n] > best or np.isnan(v1_N[n]):
                    best, place = v1_N[n], np.uint8(1)
                if v2_N[n] > best or np.isnan(v2_N[n]):
                    best, place = v2_N[n], np.uint8(2)
                if v3_N[n] > best or np.isnan(v3_N[n]):
                    best, place = v3_N[n], np.uint8(3)
                out_N[n], which_N[n] = best, place


@compiled
def _unpool(gradient_X: Floats, which_X: Places, row: int, num: int, out_X: Floats) -> None:
    """Write a square's first or second row of the gradient of `_pool`: all of it at the place of the largest."""
    none = gradient_X.dtype.type(0)
    for start in range(0, gradient_X.size, num):
        gradient_N, which_N = gradient_X[start:], which_X[start:]
        for column in range(2):
            place = np.uint8(2 * row + column)
            out_N = out_X[2 * start + column * num :]
            for n in range(num):
                out_N[n] = gradient_N[n] if which_N[n] == place else none
