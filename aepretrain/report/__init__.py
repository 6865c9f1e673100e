"""Records and evidence in, tables, verdicts and pages out, as values and texts. Nothing is read or written here."""

from aepretrain.report.grid import (
    PUBLISHED,
    Cell,
    Grid,
    Score,
    build_grid,
    choose,
    figure,
    files,
    markdown,
    tables,
)

__all__ = ["PUBLISHED", "Cell", "Grid", "Score", "build_grid", "choose", "figure", "files", "markdown", "tables"]
