"""Convolutional layers on a CPU: the loops themselves, compiled, on maps whose innermost axis is the image.

PyTorch's own layers lose most of their time on networks this small: between 1 and 16 channels there is little to
compute for each byte moved. With the images innermost, every loop runs along memory, and the whole step of the
convolutional network takes half the time (benchmarks/NOTES.md).
"""

from aepretrain.convolution.layers import convolve, convolve_pool_relu, convolve_transposed, run_layers

__all__ = ["convolve", "convolve_pool_relu", "convolve_transposed", "run_layers"]
