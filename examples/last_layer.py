"""A variant between frozen and finetune: only the encoder's last layer and the head learn.

python -m aepretrain grid --plugin examples.last_layer --variant last_layer
"""

from collections.abc import Iterable

from torch import nn

from aepretrain import Network, Variant, register_variant


def last_layer_and_head(network: Network, head: nn.Module) -> Iterable[nn.Module]:
    """The last layer of the encoder that has weights, and the head."""
    with_weights = [module for module in network.encoder.modules() if list(module.parameters(recurse=False))]
    return with_weights[-1], head


register_variant(
    Variant(
        name="last_layer",
        title="Train the last layer of a pretrained encoder, and a new head.",
        encoder="pretrained",
        learns=last_layer_and_head,
    )
)
