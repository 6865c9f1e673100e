"""The page of the grid from a plan: which plans it can be made of, and what it is judged by."""

import math

import pandas as pd

from aepretrain import stats
from aepretrain.config import AUGMENTATIONS, GRID_NETWORKS
from aepretrain.plans import Plan
from aepretrain.report.answer import Terms
from aepretrain.report.planned import PlanResults, find
from aepretrain.report.planned_wording import standing
from aepretrain.variants import is_in_table


def is_source_grid(plan: Plan) -> bool:
    """Whether a plan has the source's four experiments on one dataset, judged as the page of the grid does."""
    return (
        plan.labels == (0,)
        and plan.objectives == ("reconstruct",)
        and len(plan.datasets) == 1
        and set(plan.networks) == set(GRID_NETWORKS)
        and set(plan.augmentations) == set(AUGMENTATIONS)
        and "finetune - scratch" in plan.compared
        and plan.families == ("comparison",)
        and plan.alpha == stats.ALPHA
    )


def grid_of_plan(of: PlanResults) -> pd.DataFrame:
    """The finished trainings of a plan's grid, those of its seeds, each once; empty where no classifier is finished."""
    specs = dict.fromkeys(spec.seedless for spec in of.plan.specs(of.plan.datasets[0]))
    rows = [find(of.matched, spec, of.plan.networks[spec.network]).reset_index() for spec in specs]
    found = [one for one in rows if len(one)]
    if not any(is_in_table(one["variant"].iloc[0]) for one in found):
        return of.matched[()]
    return pd.concat(found, ignore_index=True)


def terms_of(of: PlanResults) -> Terms:
    """What the page of the plan's grid is judged by."""
    return Terms(
        of.effects.get(of.plan.datasets[0], math.nan),
        {network: len(seeds) for network, seeds in of.plan.networks.items()},
        of.plan.name,
        standing(of),
        of.is_exploratory,
    )
