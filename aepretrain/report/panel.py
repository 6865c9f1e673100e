"""The parts of a page: panels with their findings, texts, tables and pictures."""

import base64
import io
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from aepretrain import figures
from aepretrain.report.table import Table

CURVES_CAPTION = (
    "Points are means over seeds with 95 % intervals, moved sideways so that they do not overlap. Below: finetune − "
    "scratch, paired by seed. Grey band: differences that count as negligible. Axes of differences differ."
)
"""Of figures with curves above and differences below."""


def smaller(png: bytes) -> bytes:
    """A PNG with at most 256 colours, which takes a third of the bytes; as it is where that does not help."""
    try:
        with Image.open(io.BytesIO(png)) as image:
            reduced, content = image.convert("RGB").quantize(256, dither=Image.Dither.NONE), io.BytesIO()
    except OSError:
        return png
    reduced.save(content, "png", optimize=True)
    return min(png, content.getvalue(), key=len)


IN_TABLES = "The tables of this part have the numbers."


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption."""

    name: str
    content: bytes
    caption: str
    numbers: str = ""
    """The numbers of the picture in words, for its alternative text."""
    specs: Sequence[Mapping[str, Any]] = ()
    """The same as Vega-Lite specifications, which readers can explore; none where it is only seen."""

    @classmethod
    def of(
        cls, name: str, drawn: Figure, caption: str, numbers: str = "", specs: Sequence[Mapping[str, Any]] = ()
    ) -> "Picture":
        """A figure as a picture."""
        return cls(name, smaller(figures.png(drawn)), caption, numbers or IN_TABLES, specs)

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.content).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on a page, in CSS pixels, of which an inch has 96; (0, 0) where it is not known."""
        if self.content[12:16] != b"IHDR" or len(self.content) < 24:
            return 0, 0
        width, height = struct.unpack(">II", self.content[16:24])
        return round(width * 96 / figures.DOTS_PER_INCH), round(height * 96 / figures.DOTS_PER_INCH)

    @property
    def alternative(self) -> str:
        """What is read out in place of the picture."""
        return f"{self.caption} {self.numbers}".strip()


@dataclass(frozen=True)
class Panel:
    """A part of the page: its finding is its heading; figures and the first table follow, all else is folded."""

    topic: str
    """The name of the part, in the table of contents."""
    finding: str
    """What the numbers say, in one sentence that a rule makes of them."""
    text: str = ""
    """Paragraphs below the heading, with an empty line between them; empty ones are left out."""
    tables: Sequence[Table] = ()
    """The first `num_shown` are shown, the others are folded."""
    pictures: Sequence[Picture] = ()
    method: str = ""
    """Paragraphs on how it was measured and how to read it; folded."""
    more: Sequence[Picture] = ()
    """Further pictures; folded."""
    why: str = ""
    """What this part adds to the question why; empty where it adds nothing."""
    num_shown: int = 1
    points: Sequence[tuple[str, str]] = ()
    """A list of sentences, each with the topic of the part that shows it; empty for none."""

    def shown(self, longest: int) -> list[Table]:
        """The tables that are shown: those of at most so many rows among the first `num_shown`."""
        return [table for table in self.tables[: self.num_shown] if len(table[1]) - 1 <= longest]

    def folded(self, longest: int) -> list[Table]:
        """All other tables."""
        first = self.tables[: self.num_shown]
        return [*(table for table in first if len(table[1]) - 1 > longest), *self.tables[self.num_shown :]]

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs of the text."""
        return paragraphs(self.text)

    @property
    def method_paragraphs(self) -> list[str]:
        """The paragraphs on the method."""
        return paragraphs(self.method)


def slug(topic: str) -> str:
    """A part's name in addresses."""
    return re.sub(r"[^a-z0-9]+", "-", topic.lower()).strip("-")


def paragraphs(text: str) -> list[str]:
    """Paragraphs of a text with empty lines between them; empty ones are left out."""
    return list(filter(None, text.split("\n\n")))
