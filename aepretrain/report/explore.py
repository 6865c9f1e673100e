"""Figures that readers can explore, as Vega-Lite specifications (version 6), and the script that shows them.

Each stands beside a static picture of the same numbers, which is there on paper and where scripts do not run.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from aepretrain.figures import objective_style
from aepretrain.report.answer import Answer, sides
from aepretrain.report.grid import title
from aepretrain.report.numbers import interval_text
from aepretrain.report.planned import PlanResults
from aepretrain.report.planned_wording import labels_text, place_text
from aepretrain.report.wording import verdict_words
from aepretrain.stats import Estimate, Kind

Spec = Mapping[str, Any]

CONFIG = {
    "background": "white",
    "view": {"stroke": None},
    "font": "system-ui, sans-serif",
    "axis": {"grid": False, "labelFontSize": 12, "titleFontSize": 12},
    "legend": {"labelFontSize": 12},
}
BAND, PALE, INK = "#e8e8e8", "#999999", "#222222"
SHAPES = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "P": "cross"}
"""Matplotlib's markers by Vega's names."""


Link = Callable[[str], str]
"""The address of a run by the key of its training; empty where it has none."""


def paired_spec(answer: Answer, source: Mapping[str, float], link: Link) -> Spec:
    """Finetune minus scratch: a dot a seed, which names its runs and leads to finetune's; means with 95 % intervals."""
    seeds, means = [], []
    for experiment, comparison in answer.primary.items():
        finetune, scratch = sides(answer.grid, experiment)
        for seed in finetune.index.intersection(scratch.index).sort_values():
            first, second = (float(one["test_accuracy"][seed]) for one in (finetune, scratch))
            if not np.isfinite(first - second):
                continue
            address = link(finetune["key"][seed])
            seeds.append(
                {
                    "experiment": title(experiment),
                    "seed": int(seed),
                    "difference": _points(first - second),
                    "finetune": round(first, 4),
                    "scratch": round(second, 4),
                    **({"run": address} if address else {}),
                }
            )
        means.append({"experiment": title(experiment), **_mean(comparison.difference)})
    y = {"field": "experiment", "type": "nominal", "title": None, "sort": None}
    return _spec(
        [
            _band(answer.terms.smallest_effect, "x"),
            {
                "data": {"values": seeds},
                "mark": {"type": "circle", "size": 60, "opacity": 0.55, "color": PALE},
                "encoding": {
                    "y": y,
                    "x": {"field": "difference", "type": "quantitative", "title": "finetune − scratch, points"},
                    "yOffset": {"field": "seed", "type": "ordinal", "sort": "ascending"},
                    "tooltip": [{"field": name} for name in seeds[0] if name != "run"],
                    **({"href": {"field": "run"}} if any("run" in one for one in seeds) else {}),
                },
            },
            *([_source(source, y)] if source else []),
            {
                "data": {"values": means},
                "mark": {"type": "rule", "color": INK, "strokeWidth": 2},
                "encoding": {"y": y, "x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}},
            },
            {
                "data": {"values": means},
                "mark": {"type": "square", "color": INK, "size": 90, "opacity": 1},
                "encoding": {
                    "y": y,
                    "x": {"field": "mean", "type": "quantitative"},
                    "tooltip": [{"field": "experiment"}, {"field": "interval", "title": "mean (95 % interval)"}],
                },
            },
        ],
        height=70 * len(means),
    )


def _source(differences: Mapping[str, float], y: Spec) -> Spec:
    """The source's differences as hollow diamonds, a little below the seeds."""
    rows = [{"experiment": name, "difference": _points(value)} for name, value in differences.items()]
    x = {"field": "difference", "type": "quantitative"}
    return {
        "data": {"values": rows},
        "mark": {"type": "point", "shape": "diamond", "size": 70, "color": INK, "yOffset": 14},
        "encoding": {"y": y, "x": x, "tooltip": [{"field": "difference", "title": "the source, one run each"}]},
    }


def map_specs(of: PlanResults, name: str) -> list[Spec]:
    """A comparison by the number of labels, a specification for each place; the legend hides and shows objectives."""
    objectives = {one.planned.objective: objective_style(one.planned.objective) for one in of.results}
    labels = [labels_text(num) for num in sorted(of.plan.labels, key=lambda num: (num == 0, num))]
    places: dict[str, list[dict[str, Any]]] = {}
    effects: dict[str, float] = {}
    for one in of.of(name):
        place = place_text(of.plan, one.planned)
        rows = places.setdefault(place, [])
        if one.comparison:
            effects[place] = one.smallest_effect
            rows.append(
                {
                    "objective": one.planned.objective,
                    "labels": labels_text(one.planned.labels),
                    **_mean(one.verdict.difference),
                    "verdict": verdict_words(one.verdict, is_interim=one.is_interim),
                    "seeds": one.verdict.num_seeds,
                    "found": one.verdict.kind in (Kind.BETTER, Kind.WORSE),
                }
            )
    return [_map_spec(place, rows, objectives, labels, effects[place]) for place, rows in places.items() if rows]


def _map_spec(
    place: str,
    rows: Sequence[Mapping[str, Any]],
    objectives: Mapping[str, tuple[str, str]],
    labels: Sequence[str],
    effect: float,
) -> Spec:
    shown = list(objectives)
    colours = {"domain": shown, "range": [colour for colour, _ in objectives.values()]}
    shapes = {"domain": shown, "range": [SHAPES[marker] for _, marker in objectives.values()]}
    legend = {"title": "click to hide or show", "orient": "bottom"}
    both = {
        "x": {"field": "labels", "type": "ordinal", "sort": list(labels), "axis": {"labelAngle": 0}},
        "xOffset": {"field": "objective", "sort": shown},
        "color": {"field": "objective", "type": "nominal", "scale": colours, "legend": legend},
        "opacity": {"condition": {"param": "shown", "value": 1}, "value": 0},
    }
    return _spec(
        [
            _band(effect, "y"),
            {
                "data": {"values": list(rows)},
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {**both, "y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}},
            },
            {
                "data": {"values": list(rows)},
                "params": [
                    {"name": "shown", "select": {"type": "point", "fields": ["objective"]}, "bind": "legend"},
                ],
                "mark": {"type": "point", "size": 90, "strokeWidth": 2},
                "encoding": {
                    **both,
                    "y": {"field": "mean", "type": "quantitative", "title": "points"},
                    "shape": {"field": "objective", "type": "nominal", "scale": shapes, "legend": legend},
                    "fill": {
                        "condition": {"test": "datum.found", "field": "objective", "type": "nominal", "scale": colours},
                        "value": "white",
                    },
                    "tooltip": [
                        *({"field": name} for name in ("objective", "labels", "verdict", "seeds")),
                        {"field": "interval", "title": "mean (95 % interval)"},
                    ],
                },
            },
        ],
        height=230,
        name=place,
    )


def _spec(layers: Sequence[Spec], height: int, name: str = "") -> Spec:
    return {
        **({"title": name} if name else {}),
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": CONFIG,
        "layer": list(layers),
    }


def _band(effect: float, axis: str) -> Spec:
    """The differences that count as negligible, around zero."""
    ends = {axis: {"datum": -100 * effect}, f"{axis}2": {"datum": 100 * effect}}
    return {"data": {"values": [{}]}, "mark": {"type": "rect", "color": BAND}, "encoding": ends}


def _mean(estimate: Estimate) -> dict[str, Any]:
    """A mean with the ends of its interval; both are the mean where it has none."""
    ends = (estimate.low, estimate.high) if np.isfinite(estimate.low) else (estimate.value, estimate.value)
    low, high = map(_points, ends)
    return {"mean": _points(estimate.value), "low": low, "high": high, "interval": interval_text(estimate)}


def _points(share: float) -> float:
    return round(100 * float(share), 4)


@cache
def script() -> str:
    """BSD-licensed Vega, Vega-Lite and Vega-Embed, with what shows the figures of a page."""
    import vl_convert  # which takes a second, and only pages with such figures need it

    ours = files("aepretrain.report").joinpath("explore.js").read_text(encoding="utf-8")
    return vl_convert.javascript_bundle(ours).replace("</script", "<\\/script").replace("<!--", "<\\!--")


def as_json(specs: Sequence[Spec]) -> str:
    """Specifications as JSON that may stand in a page."""
    return json.dumps(list(specs), ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
