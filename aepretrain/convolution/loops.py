"""The loops, in NumPy arrays, compiled by Numba when first called and kept on disk.

Shapes: C input channels, O output channels, H rows, W columns, N images, K rows and columns of a kernel, X = W·N, a row
of maps as one axis. `padded` maps have K - 1 more rows and columns than the output.

Two output channels and three taps of a kernel's row are taken at once, so that a number once loaded serves several
times; where a kernel is narrower or the channels are odd, weights of 0 stand in.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
TAPS = 3

# Sums may be reordered, which lets them run in parallel lanes; not-a-number and infinity keep their meaning.
_compiled = njit(cache=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")


@_compiled
def correlate(padded_CHX: Floats, kernel_OCKK: Floats, bias_O: Floats, out_OHX: Floats) -> None:
    """Write the cross-correlation of the maps with the kernel, plus the bias, as `torch.nn.Conv2d` defines it."""
    num_out, num_in, size = kernel_OCKK.shape[:3]
    num = (padded_CHX.shape[2] - out_OHX.shape[2]) // (size - 1)
    unused_X = np.empty_like(out_OHX[0, 0])
    for y in range(out_OHX.shape[1]):
        for o in range(0, num_out, 2):
            paired = o + 1 < num_out
            first_X, second_X = out_OHX[o, y], out_OHX[o + 1, y] if paired else unused_X
            first_X[:] = bias_O[o]
            second_X[:] = bias_O[o + 1] if paired else 0
            for c in range(num_in):
                for row in range(size):
                    second_K = kernel_OCKK[o + 1, c, row] if paired else np.zeros_like(kernel_OCKK[o, c, row])
                    _add_row(first_X, second_X, padded_CHX[c, y + row], kernel_OCKK[o, c, row], second_K, num)


@_compiled
def _add_row(first_X: Floats, second_X: Floats, row_X: Floats, first_K: Floats, second_K: Floats, num: int) -> None:
    """Add a row of the maps, shifted and weighted by each tap, to two rows of the output."""
    for tap in range(0, first_K.size, TAPS):
        a0, a1, a2 = _weights(first_K, tap)
        b0, b1, b2 = _weights(second_K, tap)
        x0_X, x1_X, x2_X = _shifted(row_X, first_K.size, tap, num)
        for i in range(first_X.size):
            x0, x1, x2 = x0_X[i], x1_X[i], x2_X[i]
            first_X[i] += a0 * x0 + a1 * x1 + a2 * x2
            second_X[i] += b0 * x0 + b1 * x1 + b2 * x2


@_compiled
def _weights(kernel_K: Floats, tap: int) -> tuple[Any, Any, Any]:
    """Three weights from `tap` on; 0 beyond the end."""
    size, none = kernel_K.size, kernel_K.dtype.type(0)
    return kernel_K[tap], kernel_K[tap + 1] if tap + 1 < size else none, kernel_K[tap + 2] if tap + 2 < size else none


@_compiled
def _shifted(row_X: Floats, size: int, tap: int, num: int) -> tuple[Floats, Floats, Floats]:
    """The row from three columns on; from the last one where there are no more."""
    last = size - 1
    return row_X[tap * num :], row_X[min(tap + 1, last) * num :], row_X[min(tap + 2, last) * num :]


@_compiled
def kernel_gradient(padded_CHX: Floats, gradient_OHX: Floats, out_OCKK: Floats) -> None:
    """Write the gradient of `correlate` with respect to its kernel."""
    num_out, num_in, size = out_OCKK.shape[:3]
    num = (padded_CHX.shape[2] - gradient_OHX.shape[2]) // (size - 1)
    out_OCKK[:] = 0
    for y in range(gradient_OHX.shape[1]):
        for o in range(0, num_out, 2):
            other = min(o + 1, num_out - 1)
            for c in range(num_in):
                for row in range(size):
                    row_X = padded_CHX[c, y + row]
                    for tap in range(0, size, TAPS):
                        x0_X, x1_X, x2_X = _shifted(row_X, size, tap, num)
                        sums = _products(gradient_OHX[o, y], gradient_OHX[other, y], x0_X, x1_X, x2_X)
                        for t in range(min(TAPS, size - tap)):
                            out_OCKK[o, c, row, tap + t] += sums[t]
                            if other > o:
                                out_OCKK[other, c, row, tap + t] += sums[TAPS + t]


@_compiled
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


@_compiled
def pool(maps_CHWN: Floats, out_CHWN: Floats, which_CHWN: NDArray[np.uint8]) -> None:
    """Write the largest of each 2×2 square and its place in it: 0 to 3, row by row, the first among equals."""
    num_channels, height, width, num = out_CHWN.shape
    for c in range(num_channels):
        for y in range(height):
            for x in range(width):
                v0_N, v1_N = maps_CHWN[c, 2 * y, 2 * x], maps_CHWN[c, 2 * y, 2 * x + 1]
                v2_N, v3_N = maps_CHWN[c, 2 * y + 1, 2 * x], maps_CHWN[c, 2 * y + 1, 2 * x + 1]
                out_N, which_N = out_CHWN[c, y, x], which_CHWN[c, y, x]
                for n in range(num):
                    best, place = v0_N[n], np.uint8(0)
                    if v1_N[n] > best:
                        best, place = v1_N[n], np.uint8(1)
                    if v2_N[n] > best:
                        best, place = v2_N[n], np.uint8(2)
                    if v3_N[n] > best:
                        best, place = v3_N[n], np.uint8(3)
                    out_N[n], which_N[n] = best, place


@_compiled
def unpool(gradient_CHWN: Floats, which_CHWN: NDArray[np.uint8], out_CHWN: Floats) -> None:
    """Write the gradient of `pool` with respect to its maps: all of it at the place of the largest."""
    num_channels, height, width, num = gradient_CHWN.shape
    none = gradient_CHWN.dtype.type(0)
    for c in range(num_channels):
        for y in range(height):
            for x in range(width):
                gradient_N, which_N = gradient_CHWN[c, y, x], which_CHWN[c, y, x]
                for place in range(4):
                    out_N = out_CHWN[c, 2 * y + place // 2, 2 * x + place % 2]
                    for n in range(num):
                        out_N[n] = gradient_N[n] if which_N[n] == place else none
