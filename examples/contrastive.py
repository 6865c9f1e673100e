"""An objective of one's own: two views of an image have similar codes (SimCLR, Chen et al. 2020). There is no decoder.

aepretrain grid --plugin examples.contrastive --objective contrastive --network fc --augmentation none

Shapes: N images, B of a batch, V = 2 views, D features of a projection, C channels, H rows, W columns.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain import Network, Objective, register_objective

TEMPERATURE = 0.5
MOVES = 3
"""A view is moved by up to this number of pixels in each direction."""
HIDDEN = 10
"""Side of the square that is hidden in each view."""


class Contrastive(Objective):
    """Of all views in a batch, recognise the other view of the same image."""

    def draw(self, num: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
        """For both views of each image, how far it moves and where the hidden square begins, int64 [N, V, 4]."""
        moves = torch.randint(-MOVES, MOVES + 1, (num, 2, 2), generator=generator)
        corners = torch.randint(0, min(shape[1:]) - HIDDEN + 1, (num, 2, 2), generator=generator)
        return torch.cat((moves, corners), dim=2)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        """Two views of each image, [B, V, C, H, W]."""
        return torch.stack([_view(images_BCHW, drawn_B[:, view]) for view in (0, 1)], dim=1)

    def model(self, network: Network) -> nn.Module:
        """Encoder and a projection of its codes, which only this objective uses."""
        return Projector(network)

    def loss(self, outputs: Tensor, targets_BCHW: Tensor) -> Tensor:  # noqa: ARG002  # views are compared, not pixels
        """SimCLR's loss, NT-Xent: cross-entropy of finding each view's partner among all other views of the batch."""
        first_BD, second_BD = functional.normalize(outputs, dim=2).unbind(1)
        views_VBD = torch.cat((first_BD, second_BD))
        num = len(views_VBD)
        similarities = views_VBD @ views_VBD.T / TEMPERATURE - 1e9 * torch.eye(num, device=outputs.device)
        partners = torch.arange(num, device=outputs.device).roll(num // 2)
        return functional.cross_entropy(similarities, partners)


class Projector(nn.Module):
    """Views [B, V, C, H, W] → projections of their codes, [B, V, D]."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        code_size = network.encode(torch.zeros(1, *network.image_shape)).shape[1]
        self.projection = nn.Sequential(nn.Linear(code_size, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, views_BVCHW: Tensor) -> Tensor:
        """Projections."""
        codes = self.network.encode(views_BVCHW.flatten(0, 1))
        projections: Tensor = self.projection(codes).unflatten(0, views_BVCHW.shape[:2])
        return projections


def _view(images_BCHW: Tensor, drawn_B4: Tensor) -> Tensor:
    """The images, each moved and with a square hidden."""
    down_B1, right_B1, top_B1, left_B1 = (drawn_B4[:, [i]] for i in range(4))
    row_H, column_W = (torch.arange(length, device=drawn_B4.device) for length in images_BCHW.shape[2:])
    image_B11 = torch.arange(len(images_BCHW), device=drawn_B4.device).view(-1, 1, 1)
    padded_BHWC = functional.pad(images_BCHW, (MOVES, MOVES, MOVES, MOVES)).movedim(1, 3)
    from_row_BH, from_column_BW = row_H - down_B1 + MOVES, column_W - right_B1 + MOVES
    moved_BCHW = padded_BHWC[image_B11, from_row_BH.unsqueeze(2), from_column_BW.unsqueeze(1)].movedim(3, 1)
    hidden_BH = (row_H >= top_B1) & (row_H < top_B1 + HIDDEN)
    hidden_BW = (column_W >= left_B1) & (column_W < left_B1 + HIDDEN)
    return moved_BCHW * ~(hidden_BH.unsqueeze(2) & hidden_BW.unsqueeze(1)).unsqueeze(1)


register_objective("contrastive", Contrastive)
