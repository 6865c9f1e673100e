"""The networks: an encoder, a decoder and two heads each.

A plugin adds one with a subclass of `Network` and `register("name", YourNetwork)` in a module that the command loads
(``--plugin your_module``).
"""

from aepretrain.networks.builder import NETWORKS, Probe, build, build_probe, check, drawing_from, register
from aepretrain.networks.models import Classifier, Reconstructor
from aepretrain.networks.network import Network
from aepretrain.networks.residual import Residual
from aepretrain.networks.source import Convolutional, FullyConnected
from aepretrain.networks.weights import load_part, part_weights

__all__ = [
    "NETWORKS",
    "Classifier",
    "Convolutional",
    "FullyConnected",
    "Network",
    "Probe",
    "Reconstructor",
    "Residual",
    "build",
    "build_probe",
    "check",
    "drawing_from",
    "load_part",
    "part_weights",
    "register",
]
