"""Importing this module compiles the loops for float32, or loads them from the disk if they are compiled already.

The server from which worker processes are forked imports it while the main process is still starting. So every worker
has the loops from its first step on.
"""

import numpy as np

from aepretrain.convolution import loops, transposed


def _call_each() -> None:
    """Call each loop on the smallest maps, with the types and axes of a training."""
    maps_CHX, kernel_OCKK, bias_O = (np.zeros(shape, np.float32) for shape in ((1, 3, 3), (1, 1, 2, 2), (1,)))
    out_OHX, no_places = np.zeros((1, 2, 2), np.float32), np.zeros((0, 0, 0), np.uint8)
    loops.correlate(maps_CHX, no_places, kernel_OCKK, bias_O, 0, 1, out_OHX, no_places)
    loops.gradients(maps_CHX, out_OHX, no_places, 0, 1, kernel_OCKK, bias_O)
    kernel_OCKRT = np.zeros((1, 1, 2, 2, transposed.SHIFTS), np.float32)
    transposed.correlate_transposed(maps_CHX, kernel_OCKRT, bias_O, 0, 0, 1, out_OHX)
    transposed.gradients_of_weights(maps_CHX, out_OHX, 0, 0, 1, kernel_OCKRT, bias_O)
    transposed.gradient_of_maps(out_OHX, kernel_OCKRT, 0, 0, 1, maps_CHX)


_call_each()
