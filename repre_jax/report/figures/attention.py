"""Where encoders look."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from repre_jax.report.figures import sheet

SCALED = "Each map from its own smallest value (dark) to its largest (yellow)."


@sheet.styled
def draw(
    images: np.ndarray,
    maps: np.ndarray,
    kept: np.ndarray,
    names: Sequence[str],
    *,
    below: str,
    title: str,
    caption: str,
) -> Figure:
    """Two rows an image: maps of attention, and the image with all tinted that is not among the patches kept; of a
    single map all of it in one row.

    images: float [n, H, W, C] in 0..1. maps: float [n, M, h, w], kept: bool of the same shape. names: of the M maps.
    below: what the image with the patches kept is called.
    """
    count, in_one = maps.shape[1], maps.shape[1] == 1
    rows = 1 if in_one else 2
    figure, axes = sheet.images(
        rows * len(images),
        ["image", *names, below] if in_one else ["image", *names],
        images.shape[1:],
        title=title,
        caption=f"{caption} {SCALED}",
        side=1.0 + 0.3 * in_one,
    )
    for number, image in enumerate(images):
        cells = axes[rows * number : rows * (number + 1)]
        sheet.show(cells[0, 0], image)
        if not in_one:
            cells[1, 0].set_axis_off()
            cells[1, 0].text(1, 0.5, below, ha="right", va="center", transform=cells[1, 0].transAxes)
        for column in range(count):
            sheet.heat(cells[0, column + 1], maps[number, column])
            sheet.show(cells[0, 2] if in_one else cells[1, column + 1], sheet.picked(image, kept[number, column]))
    return figure


@sheet.styled
def compare(
    images: np.ndarray, maps: Sequence[np.ndarray], names: Sequence[str], *, title: str, caption: str
) -> Figure:
    """A row an image, a column an encoder. images: float [n, H, W, C] in 0..1. maps: for each encoder [n, h, w]."""
    columns, caption = ["image", *names], f"{caption} {SCALED}"
    figure, axes = sheet.images(len(images), columns, images.shape[1:], title=title, caption=caption, side=1.6)
    for row, image in enumerate(images):
        sheet.show(axes[row, 0], image)
        for column, of_one in enumerate(maps, start=1):
            sheet.heat(axes[row, column], of_one[row])
    return figure
