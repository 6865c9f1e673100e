"""Evidence and records in, matplotlib figures out. Nothing is shown or written here.

Colours are Okabe and Ito's (2008), which colour-blind people can tell apart; a variant has the same one everywhere.
Names are text, never formulas, whatever characters they have. Shapes: N images, K classes.
"""

from aepretrain.figures.effects import (
    Encoders,
    Point,
    effect_map,
    encoder_diagnostics,
    forest,
    objective_encoders,
    objective_style,
    scratch_encoders,
)
from aepretrain.figures.pipeline import pipeline
from aepretrain.figures.seeds import (
    accuracies,
    curves,
    curves_and_differences,
    grid_accuracy,
    learning_curves,
    paired_differences,
    similarities,
)
from aepretrain.figures.style import DOTS_PER_INCH, png
from aepretrain.figures.training import confused_images, filters, loss_curve, training_figures
from aepretrain.figures.tuning import trials

__all__ = [
    "DOTS_PER_INCH",
    "Encoders",
    "Point",
    "accuracies",
    "confused_images",
    "curves",
    "curves_and_differences",
    "effect_map",
    "encoder_diagnostics",
    "filters",
    "forest",
    "grid_accuracy",
    "learning_curves",
    "loss_curve",
    "objective_encoders",
    "objective_style",
    "paired_differences",
    "pipeline",
    "png",
    "scratch_encoders",
    "similarities",
    "training_figures",
    "trials",
]
