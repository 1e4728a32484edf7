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
    in_one = maps.shape[1] == 1
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
        if in_one:
            sheet.show(cells[0, 0], image)
            sheet.heat(cells[0, 1], maps[number, 0])
            sheet.show(cells[0, 2], sheet.picked(image, kept[number, 0]))
        else:
            _two_rows(cells, image, maps[number], kept[number], below)
    return figure


@sheet.styled
def compare(
    images: np.ndarray,
    maps: Sequence[np.ndarray],
    kept: Sequence[np.ndarray],
    names: Sequence[str],
    *,
    below: str,
    title: str,
    caption: str,
) -> Figure:
    """The same two rows an image, with a column an encoder. images: float [n, H, W, C] in 0..1. maps: for each encoder
    float [n, h, w], kept: bool of the same shapes; names: of the encoders."""
    columns, caption = ["image", *names], f"{caption} {SCALED}"
    figure, axes = sheet.images(2 * len(images), columns, images.shape[1:], title=title, caption=caption, side=1.6)
    for row, image in enumerate(images):
        of_image = [of_one[row] for of_one in maps], [of_one[row] for of_one in kept]
        _two_rows(axes[2 * row : 2 * row + 2], image, *of_image, below)
    return figure


def _two_rows(
    cells: np.ndarray, image: np.ndarray, maps: Sequence[np.ndarray], kept: Sequence[np.ndarray], below: str
) -> None:
    """Fills 2 x (1 + M) axes. maps: M of [h, w], kept: likewise."""
    sheet.show(cells[0, 0], image)
    cells[1, 0].set_axis_off()
    cells[1, 0].text(1, 0.5, below, ha="right", va="center", transform=cells[1, 0].transAxes)
    for column, (of_one, patches) in enumerate(zip(maps, kept, strict=True), start=1):
        sheet.heat(cells[0, column], of_one)
        sheet.show(cells[1, column], sheet.picked(image, patches))
