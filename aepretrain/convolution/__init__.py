"""Convolutional layers on a CPU as compiled loops, on maps whose innermost axis is the image.

PyTorch's layers are slow on networks this small: with 1 to 16 channels there is little to compute for each byte moved.
With the images innermost, every loop runs along memory, and a step of the convolutional network takes half the time
(benchmarks/NOTES.md).
"""

from aepretrain.convolution.layers import convolve, convolve_pool_relu, convolve_transposed, run_layers

__all__ = ["convolve", "convolve_pool_relu", "convolve_transposed", "run_layers"]
