"""The work of `obvious.py` as a skorch program.

python -m benchmarks.peers.skorch FOLDER EPOCHS
"""

import tempfile
from functools import partial
from typing import Any

import torch
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import Checkpoint
from skorch.helper import predefined_split
from torch import Tensor, nn

from aepretrain.config import Settings
from aepretrain.networks import Network
from benchmarks import obvious


class Layers(nn.Module):
    """A network's layers as a variant uses them."""

    def __init__(self, network: Network, variant: str) -> None:
        super().__init__()
        self.network = network
        self.variant = variant

    def forward(self, images: Tensor) -> Tensor:
        """Images from the decoder, or logits."""
        return obvious.forward(self.network, self.variant, images)


class Autoencoder(NeuralNet):
    """A net whose target is its input."""

    def get_loss(self, y_pred: Tensor, y_true: Tensor, X: Tensor, training: bool = False) -> Any:  # noqa: ARG002
        """The loss against the images; their classes are left aside. The names are skorch's."""
        return super().get_loss(y_pred, X, X, training)


def train(network: Network, variant: str, training: obvious.Images, validation: obvious.Images, epochs: int) -> None:
    """Fit, with the weights of the lowest validation loss in the network at the end."""
    settings = Settings()
    if variant == "pretrain":
        make_net = partial(Autoencoder, criterion=nn.MSELoss)
    else:
        make_net = partial(NeuralNetClassifier, criterion=nn.CrossEntropyLoss, classes=range(network.num_classes))
    with tempfile.TemporaryDirectory() as folder:
        net = make_net(
            Layers(network, variant),
            optimizer=torch.optim.Adam,
            lr=settings.lr,
            max_epochs=epochs,
            batch_size=settings.batch_size,
            iterator_train__shuffle=True,
            train_split=predefined_split(validation),
            callbacks=[Checkpoint(monitor="valid_loss_best", dirname=folder, load_best=True)],
            callbacks__print_log=None,
        )
        net.fit(training, y=None)


if __name__ == "__main__":
    obvious.main(train)
