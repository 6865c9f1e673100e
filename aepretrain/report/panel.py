"""What a page is made of."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from aepretrain import figures
from aepretrain.report.table import Table


@dataclass(frozen=True)
class Picture:
    """A PNG with the sentence that stands beneath it, which is also what a screen reader says."""

    name: str
    content: bytes
    caption: str

    @classmethod
    def of(cls, name: str, drawn: Figure, caption: str) -> "Picture":
        """A figure as a picture."""
        return cls(name, figures.png(drawn), caption)

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        return "data:image/png;base64," + base64.b64encode(self.content).decode()


@dataclass(frozen=True)
class Panel:
    """A part of the page: a heading, a few words, tables and pictures."""

    heading: str
    text: str
    """Paragraphs, with an empty line between them; what is empty is left out."""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()

    @property
    def paragraphs(self) -> list[str]:
        """The text, paragraph by paragraph."""
        return list(filter(None, self.text.split("\n\n")))


def not_run(study: str, missing: Sequence[tuple[str, str]]) -> str:
    """That a study was not run for these experiments (network and augmentation), and what runs it; empty for none."""
    if not missing:
        return ""
    networks, augmentations = (",".join(dict.fromkeys(names)) for names in zip(*missing, strict=True))
    return (
        f"Not run for {'; '.join(map(', '.join, missing))}. To run it: aepretrain study {study} --network {networks} "
        f"--augmentation {augmentations} --seeds …"
    )
