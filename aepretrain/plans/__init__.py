"""Plans: a question, the trainings that answer it and the comparisons to be judged, fixed in a YAML file beforehand.

`read_plan` reads a file. `Plan.specs` are its trainings, and `Plan.comparisons` what a report will judge.
"""

from aepretrain.plans.plan import COMPARED, FAMILIES, FIRST_TUNING_SEED, Plan, PlannedComparison, Tuned
from aepretrain.plans.reading import read_plan

__all__ = [
    "COMPARED",
    "FAMILIES",
    "FIRST_TUNING_SEED",
    "Plan",
    "PlannedComparison",
    "Tuned",
    "read_plan",
]
