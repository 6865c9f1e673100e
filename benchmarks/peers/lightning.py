"""The work of `obvious.py` as a PyTorch Lightning program.

python -m benchmarks.peers.lightning FOLDER EPOCHS
"""

import tempfile
import warnings

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from aepretrain.config import Settings
from aepretrain.networks import Network
from benchmarks import obvious


class Training(lightning.LightningModule):
    """A network, with what a variant does with it."""

    def __init__(self, network: Network, variant: str) -> None:
        super().__init__()
        self.network = network
        self.variant = variant

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        return obvious.loss_of(self.variant, obvious.forward(self.network, self.variant, images), images, labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        """Log the loss of a batch and, for classifiers, its accuracy."""
        images, labels = batch
        outputs = obvious.forward(self.network, self.variant, images)
        self.log("val_loss", obvious.loss_of(self.variant, outputs, images, labels))
        if self.variant != "pretrain":
            self.log("val_accuracy", (outputs.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over what the variant learns."""
        return torch.optim.Adam(obvious.learned_weights(self.network, self.variant), lr=Settings().lr)


def train(network: Network, variant: str, training: obvious.Images, validation: obvious.Images, epochs: int) -> None:
    """Fit, and put the weights of the checkpoint with the lowest validation loss into the network."""
    module = Training(network, variant)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_loss")
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[checkpoint],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(module, *obvious.loaders(training, validation))
        module.load_state_dict(torch.load(checkpoint.best_model_path, weights_only=True)["state_dict"])


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="pytorch_lightning")  # advice on the number of loading processes
    obvious.main(train)
