"""Terms of a page, explained for students."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from aepretrain.report.panel import slug

if TYPE_CHECKING:
    from aepretrain.report.page import Page

GLOSSARY = {
    "95 % interval": "A range that holds the true mean in 95 of 100 such experiments.",
    "autoencoder": "A network that squeezes an image into a short code, and draws the image again from the code.",
    "CKA": "Centred kernel alignment: how alike two layers arrange the same images; 1 is alike, 0 is unrelated.",
    "code": "The numbers that an encoder makes of an image.",
    "cross-entropy": "The loss of classifiers: −log of the probability given to the true class.",
    "dead units": "Units that are 0 for every image, and so say nothing about any of them.",
    "effective rank": "About how many independent directions the codes use.",
    "equivalent": "By its 90 % interval, the difference is smaller than the smallest one that matters.",
    "erasing": "An augmentation: a random rectangle of each training image is painted over.",
    "exploratory": "Found in runs that were not planned beforehand: a hint that fresh seeds must confirm.",
    "finetune": "The pretrained encoder and a new head are trained together on labelled images.",
    "frozen": "The pretrained encoder stays as it is; only a linear head on its codes is trained.",
    "Holm's method": "Makes p-values larger when many are tested, so that chance findings stay rare in all of them.",
    "macro-F1": "The mean of the classes' F1 scores: each class counts the same, however many images it has.",
    "objective": "What an autoencoder must do: give back the image as it is, or the clean image from a damaged one.",
    "paired": "Both sides share a seed: the split, the order of images, and where possible the initial weights.",
    "pooled": "The mean difference over experiments, each weighted by how exactly it is known.",
    "pretraining": "A first training without labels; its weights are the start of the classifier.",
    "scratch": "The same classifier, trained from random weights, without pretraining.",
    "seed": "One repetition of everything: another split of the images, other initial weights, another order.",
    "sign-flip test": "Asks how often differences as large come out if each seed's sign is drawn by a coin.",
    "undecided": "The data do not say: there may be a difference or none.",
    "validation": "Images that are held out of training to choose the best epoch; the test images choose nothing.",
}
"""What a term means, in one sentence."""


def glossary_of(page: "Page") -> dict[str, str]:
    """The terms that a page uses, with their meanings."""
    text = " ".join(_texts(page)).lower()
    return {term: meaning for term, meaning in GLOSSARY.items() if re.search(rf"\b{re.escape(term.lower())}", text)}


def explained(text: str, glossary: Mapping[str, str]) -> Markup:
    """A text in which the first use of each term is a button that explains it."""
    terms = "|".join(re.escape(str(escape(term))) for term in sorted(glossary, key=len, reverse=True))
    lower, used = {str(escape(term)).lower(): term for term in glossary}, set[str]()

    def replaced(found: re.Match[str]) -> str:
        term = lower[found[0].lower()]
        if term in used:
            return found[0]
        used.add(term)
        return f'<button type="button" class="term" popovertarget="term-{slug(term)}">{found[0]}</button>'

    escaped = str(escape(text))
    if glossary:
        escaped = re.sub(rf"\b(?:{terms})(?!\w)", replaced, escaped, flags=re.IGNORECASE)
    return Markup(escaped)  # noqa: S704  # escaped above, before the buttons were put in


def _texts(page: "Page") -> Iterator[str]:
    for opening in page.openings:
        yield from (opening.question, opening.sentence)
        for card in opening.cards:
            yield from (card.title, card.finding, *card.lines)
    for panel in page.panels:
        yield from (panel.topic, panel.finding, panel.text, panel.method, *(text for text, _ in panel.points))
        for picture in (*panel.pictures, *panel.more):
            yield picture.caption
        for name, rows in panel.tables:
            yield from (name, *rows[0])
