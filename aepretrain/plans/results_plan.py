"""How a table of other people's runs is judged."""

from dataclasses import dataclass

from aepretrain.config import SMALLEST_EFFECT, SmallestEffect


@dataclass(frozen=True, kw_only=True)
class ResultsPlan:
    """The comparisons of a table's variants. Fields are the keys of the file, checked by `read_results_plan`."""

    question: str = "Which variant is better?"
    smallest_effect: SmallestEffect = SmallestEffect(SMALLEST_EFFECT)  # noqa: RUF009  # frozen
    """The smallest difference of accuracies that matters."""
    alpha: float = 0.05
    """The level of each family of tests."""
    comparisons: tuple[str, ...] = ()
    """Pairs of variants like ``pretrained - scratch``; none stands for the two variants of the table."""
    families: tuple[str, ...] = ("comparison",)
    """What tests have to agree in to be corrected together: ``comparison``, or columns of the table."""
    seeds: tuple[int, ...] | None = None
    """The seeds that count; None stands for all of the table."""
