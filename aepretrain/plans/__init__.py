"""Plans: a question, the trainings that answer it and the comparisons to be judged, fixed in a YAML file beforehand.

`read_plan` reads a file. `Plan.specs` are its trainings, and `Plan.comparisons` what a report will judge.
`Plan.arms` are tuned where the plan says so; `Plan.tuned_comparisons` are the same tests at the settings found then.
"""

from aepretrain.plans.plan import (
    COMPARED,
    FAMILIES,
    FIRST_TUNING_SEED,
    Plan,
    PlannedComparison,
    Tuned,
    with_sources,
)
from aepretrain.plans.reading import parse_comparison, read_plan, read_results_plan
from aepretrain.plans.results_plan import ResultsPlan

__all__ = [
    "COMPARED",
    "FAMILIES",
    "FIRST_TUNING_SEED",
    "Plan",
    "PlannedComparison",
    "ResultsPlan",
    "Tuned",
    "parse_comparison",
    "read_plan",
    "read_results_plan",
    "with_sources",
]
