"""The parts of a page: panels with their texts, tables and pictures."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from aepretrain import figures
from aepretrain.report.table import Table

CURVES_CAPTION = (
    "Points are means over seeds with 95 % intervals, moved sideways so that they do not overlap. Below: finetune − "
    "scratch, paired by seed. Grey band: differences that count as negligible. Axes of differences differ."
)
"""Of figures with curves above and differences below."""


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption, which is its alternative text too."""

    name: str
    content: bytes
    caption: str

    @classmethod
    def of(cls, name: str, drawn: Figure, caption: str) -> "Picture":
        """A figure as a picture."""
        return cls(name, figures.png(drawn), caption)

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.content).decode()


@dataclass(frozen=True)
class Panel:
    """A part of the page: heading, text, tables and pictures."""

    heading: str
    text: str
    """Paragraphs with an empty line between them; empty ones are left out."""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs of the text."""
        return list(filter(None, self.text.split("\n\n")))
