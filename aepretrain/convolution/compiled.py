"""Importing this module compiles the loops for float32, or reads them from the disk where they are compiled already.

For the server from which worker processes are forked: it does so while the main process is still getting ready, and
every worker has the loops from its first step on.
"""

import numpy as np

from aepretrain.convolution import loops

_maps_CHX, _kernel_OCKK = np.zeros((1, 3, 3), np.float32), np.zeros((1, 1, 2, 2), np.float32)
_bias_O, _places = np.zeros(1, np.float32), np.zeros((0, 0, 0), np.uint8)
_out_OHX = np.zeros((1, 2, 2), np.float32)
loops.correlate(_maps_CHX, _places, _kernel_OCKK, _bias_O, 0, 1, _out_OHX, _places)
loops.gradients(_maps_CHX, _out_OHX, _places, 0, 1, _kernel_OCKK, _bias_O)
