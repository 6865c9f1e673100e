"""The loops of a transposed convolution with stride 2, and of its gradients.

Output column 2j + r takes input column j + d through weight k of the kernel's row where 2d = r + padding − k (the
definition of `torch.nn.ConvTranspose2d`). So even and odd columns meet weights of their own. The kernel comes sorted
by them, [O, C, K, R, T]: for each of its K rows, R = 2 parities r of the column, and T shifts d, an even number of
them, filled up with weights of 0. `before` is minus the least d. Rows are met the same way, without being sorted.

Other shapes: C input channels, O output channels, H rows, W columns, N images; X = W·N, a row of maps as one axis, or
the half of a row that has its even or its odd columns.

Two channels and two shifts are computed together, as a loaded number is then used several times.
"""

from typing import Any

import numpy as np

from aepretrain.compilation import compiled
from aepretrain.convolution.loops import Floats, read_rows

SHIFTS = 2
"""Computed together: T is a multiple of it."""


@compiled
def correlate_transposed(
    maps_CHX: Floats, kernel_OCKRT: Floats, bias_O: Floats, padding: int, before: int, num: int, out_OHX: Floats
) -> None:
    """Write the transposed convolution of the maps with the kernel, plus the bias."""
    num_out, num_in, size, _, num_shifts = kernel_OCKRT.shape
    halves_RX = np.empty((2, (out_OHX.shape[2] // num + 1) // 2 * num), maps_CHX.dtype)
    padded_KCX = _room_for_rows(maps_CHX, kernel_OCKRT, halves_RX.shape[1], num)
    num_read = 0
    for y in range(out_OHX.shape[1]):
        num_read = _read_until(maps_CHX, num_read, (y + padding) // 2, before * num, num, padded_KCX)
        for o in range(num_out):
            halves_RX[:] = bias_O[o]
            for c in range(0, num_in, 2):
                other = min(c + 1, num_in - 1)
                for k in range((y + padding) % 2, size, 2):
                    row = (y + padding - k) // 2
                    if 0 <= row < maps_CHX.shape[1]:
                        first_X, second_X = (
                            padded_KCX[row % len(padded_KCX), c],
                            padded_KCX[row % len(padded_KCX), other],
                        )
                        first_RT, second_RT = kernel_OCKRT[o, c, k], kernel_OCKRT[o, other, k]
                        if other == c:
                            second_RT = np.zeros_like(second_RT)
                        for t in range(0, num_shifts, SHIFTS):
                            _add_four(
                                halves_RX[0],
                                halves_RX[1],
                                (first_X[t * num :], first_X[(t + 1) * num :]),
                                (second_X[t * num :], second_X[(t + 1) * num :]),
                                (first_RT[0, t], first_RT[0, t + 1], second_RT[0, t], second_RT[0, t + 1]),
                                (first_RT[1, t], first_RT[1, t + 1], second_RT[1, t], second_RT[1, t + 1]),
                            )
            _interleave(halves_RX, num, out_OHX[o, y])


@compiled
def gradient_of_maps(
    gradient_OHX: Floats, kernel_OCKRT: Floats, padding: int, before: int, num: int, maps_CHX: Floats
) -> None:
    """Write the gradient of `correlate_transposed` with respect to its maps."""
    num_out, num_in, size, _, num_shifts = kernel_OCKRT.shape
    behind = num_shifts - 1 - before
    padded_KORX = np.zeros((size, num_out, 2, maps_CHX.shape[2] + (num_shifts - 1) * num), maps_CHX.dtype)
    num_read = 0
    for row in range(maps_CHX.shape[1]):
        for y in range(num_read, min(2 * row - padding + size, gradient_OHX.shape[1])):
            for o in range(num_out):
                _split(gradient_OHX[o, y], behind * num, num, padded_KORX[y % size, o])
            num_read = y + 1
        for c in range(0, num_in, 2):
            other = min(c + 1, num_in - 1)
            first_X, second_X = maps_CHX[c, row], maps_CHX[other, row]
            first_X[:] = 0
            second_X[:] = 0
            for o in range(num_out):
                for k in range(size):
                    y = 2 * row + k - padding
                    if 0 <= y < gradient_OHX.shape[1]:
                        even_X, odd_X = padded_KORX[y % size, o, 0], padded_KORX[y % size, o, 1]
                        first_RT, second_RT = kernel_OCKRT[o, c, k], kernel_OCKRT[o, other, k]
                        if other == c:
                            second_RT = np.zeros_like(second_RT)
                        for t in range(0, num_shifts, SHIFTS):
                            start = (num_shifts - 1 - t) * num
                            _add_four(
                                first_X,
                                second_X,
                                (even_X[start:], even_X[start - num :]),
                                (odd_X[start:], odd_X[start - num :]),
                                (first_RT[0, t], first_RT[0, t + 1], first_RT[1, t], first_RT[1, t + 1]),
                                (second_RT[0, t], second_RT[0, t + 1], second_RT[1, t], second_RT[1, t + 1]),
                            )


@compiled
def gradients_of_weights(
    maps_CHX: Floats,
    gradient_OHX: Floats,
    padding: int,
    before: int,
    num: int,
    kernel_OCKRT: Floats,
    bias_O: Floats,
) -> None:
    """Write the gradients of `correlate_transposed` with respect to its kernel and its bias."""
    num_out, num_in, size, _, num_shifts = kernel_OCKRT.shape
    halves_ORX = np.zeros((num_out, 2, (gradient_OHX.shape[2] // num + 1) // 2 * num), maps_CHX.dtype)
    padded_KCX = _room_for_rows(maps_CHX, kernel_OCKRT, halves_ORX.shape[2], num)
    num_read = 0
    kernel_OCKRT[:] = 0
    bias_O[:] = 0
    for y in range(gradient_OHX.shape[1]):
        num_read = _read_until(maps_CHX, num_read, (y + padding) // 2, before * num, num, padded_KCX)
        for o in range(num_out):
            bias_O[o] += gradient_OHX[o, y].sum()
            _split(gradient_OHX[o, y], 0, num, halves_ORX[o])
        for o in range(num_out):
            for c in range(0, num_in, 2):
                other = min(c + 1, num_in - 1)
                for k in range((y + padding) % 2, size, 2):
                    row = (y + padding - k) // 2
                    if 0 <= row < maps_CHX.shape[1]:
                        first_X, second_X = (
                            padded_KCX[row % len(padded_KCX), c],
                            padded_KCX[row % len(padded_KCX), other],
                        )
                        for t in range(0, num_shifts, SHIFTS):
                            sums = _products_of_four(
                                halves_ORX[o, 0],
                                halves_ORX[o, 1],
                                (first_X[t * num :], first_X[(t + 1) * num :]),
                                (second_X[t * num :], second_X[(t + 1) * num :]),
                            )
                            for r in range(2):
                                for s in range(SHIFTS):
                                    kernel_OCKRT[o, c, k, r, t + s] += sums[4 * r + s]
                                    if other > c:
                                        kernel_OCKRT[o, other, k, r, t + s] += sums[4 * r + SHIFTS + s]


@compiled
def _room_for_rows(maps_CHX: Floats, kernel_OCKRT: Floats, length: int, num: int) -> Floats:
    """As many rows of the maps as one row of the output meets, [(K + 1) // 2, C, X], with zeros around them."""
    _, num_in, size, _, num_shifts = kernel_OCKRT.shape
    return np.zeros(((size + 1) // 2, num_in, length + (num_shifts - 1) * num), maps_CHX.dtype)


@compiled
def _read_until(maps_CHX: Floats, start: int, last: int, shift: int, num: int, padded_KCX: Floats) -> int:
    """Read the rows up to the last one, where there are so many; gives how many have been read by now."""
    stop = min(last + 1, maps_CHX.shape[1])
    num_read: int = read_rows(maps_CHX, np.empty((0, 0, 0), np.uint8), start, stop, shift, num, padded_KCX)
    return num_read


@compiled
def _add_four(
    first_X: Floats,
    second_X: Floats,
    x_2X: tuple[Floats, Floats],
    y_2X: tuple[Floats, Floats],
    first_4: tuple[Any, Any, Any, Any],
    second_4: tuple[Any, Any, Any, Any],
) -> None:
    """Add four rows, weighted, to each of two rows."""
    x0_X, x1_X = x_2X
    y0_X, y1_X = y_2X
    a0, a1, a2, a3 = first_4
    b0, b1, b2, b3 = second_4
    for i in range(first_X.size):
        x0, x1, y0, y1 = x0_X[i], x1_X[i], y0_X[i], y1_X[i]
        first_X[i] += a0 * x0 + a1 * x1 + a2 * y0 + a3 * y1
        second_X[i] += b0 * x0 + b1 * x1 + b2 * y0 + b3 * y1


@compiled
def _products_of_four(
    first_X: Floats, second_X: Floats, x_2X: tuple[Floats, Floats], y_2X: tuple[Floats, Floats]
) -> tuple[Any, Any, Any, Any, Any, Any, Any, Any]:
    """Inner products of each of two rows with four rows."""
    x0_X, x1_X = x_2X
    y0_X, y1_X = y_2X
    none = first_X.dtype.type(0)
    a0, a1, a2, a3, b0, b1, b2, b3 = none, none, none, none, none, none, none, none
    for i in range(first_X.size):
        a, b, x0, x1, y0, y1 = first_X[i], second_X[i], x0_X[i], x1_X[i], y0_X[i], y1_X[i]
        a0 += a * x0
        a1 += a * x1
        a2 += a * y0
        a3 += a * y1
        b0 += b * x0
        b1 += b * x1
        b2 += b * y0
        b3 += b * y1
    return a0, a1, a2, a3, b0, b1, b2, b3


@compiled
def _interleave(halves_RX: Floats, num: int, row_X: Floats) -> None:
    """Write a row from the halves that have its even and its odd columns."""
    for column in range(row_X.size // num):
        start = column // 2 * num
        row_X[column * num : (column + 1) * num] = halves_RX[column % 2, start : start + num]


@compiled
def _split(row_X: Floats, shift: int, num: int, halves_RX: Floats) -> None:
    """Write the even and the odd columns of a row into halves of it, from `shift` on, as far as there is room."""
    for column in range(row_X.size // num):
        start = shift + column // 2 * num
        if start < halves_RX.shape[1]:
            halves_RX[column % 2, start : start + num] = row_X[column * num : (column + 1) * num]
