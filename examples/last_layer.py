"""A variant of one's own: between frozen and finetune, the encoder's last layer and the head learn.

python -m aepretrain grid --plugin examples.last_layer --variant last_layer
"""

from collections.abc import Iterable

from torch import nn

from aepretrain import Network, Variant, register_variant


class LastLayer(Variant):
    """From the pretrained encoder, of which all but the last layer with weights stays as it is."""

    pretrained = True

    def learned(self, network: Network, head: nn.Module) -> Iterable[nn.Module]:
        """The last layer of the encoder that has weights, and the head."""
        own_weights = [
            one for one in network.encoder.modules() if next(one.parameters(recurse=False), None) is not None
        ]
        return own_weights[-1], head


register_variant("last_layer", LastLayer)
