"""Images and those that lie nearest to them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from repre_jax.report.figures import sheet

WRONG = "#C00000"


def decimals(similarity: np.ndarray) -> int:
    """3 to 5, as many as tell neighbours of one row [n, k] apart: of a short training they may all lie near 1."""
    apart = np.diff(np.sort(similarity, axis=1), axis=1)
    smallest = apart[apart > 0].min(initial=1.0)
    return int(np.clip(np.ceil(-np.log10(smallest)), 3, 5))


@sheet.styled
def draw(
    queries: np.ndarray,
    query_names: Sequence[str | None],
    found: np.ndarray,
    names: Sequence[Sequence[str | None]],
    similarity: np.ndarray,
    *,
    title: str,
    caption: str,
) -> Figure:
    """A row a query: itself, then its neighbours with their similarity. Where both have a name and these differ, a
    thick red frame and a cross say so.

    queries: float [n, H, W, C] in 0..1, found: [n, k, H, W, C]. names: of their classes, None where nobody knows.
    similarity: float [n, k].
    """
    columns, most = ["query", *map(str, range(1, 1 + found.shape[1]))], sheet.letters(sheet.cell(queries.shape[1:])[1])
    digits = decimals(similarity)
    figure, axes = sheet.images(len(queries), columns, queries.shape[1:], title=title, caption=caption, under=0.35)
    for row, (image, name) in enumerate(zip(queries, query_names, strict=True)):
        sheet.show(axes[row, 0], image)
        axes[row, 0].set_xlabel("" if name is None else sheet.short(name, most))
        for column, axis in enumerate(axes[row, 1:]):
            other = names[row][column]
            sheet.show(axis, found[row, column])
            wrong = None not in (name, other) and name != other
            known = "" if other is None else f"\n{'✗ ' * wrong}{sheet.short(other, most - 2)}"
            axis.set_xlabel(f"{similarity[row, column]:.{digits}f}{known}", color=WRONG if wrong else "black")
            if wrong:
                axis.spines[:].set(color=WRONG, linewidth=3)
    return figure
