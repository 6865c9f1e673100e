"""Studies: one module a question, with the trainings that answer it (`STUDY`) and its panel of the report (`panel`).

A further study is a module here and its name in `config.STUDIES`.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module

from aepretrain import config
from aepretrain.report import MakePanel
from aepretrain.runner import Study

_MODULES = [import_module(f"aepretrain.studies.{name}") for name in config.STUDIES]

STUDIES: Mapping[str, Study] = {one.STUDY.name: one.STUDY for one in _MODULES}
PANELS: Sequence[MakePanel] = [one.panel for one in _MODULES]

__all__ = ["PANELS", "STUDIES"]
