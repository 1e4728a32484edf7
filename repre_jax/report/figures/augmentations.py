"""What a network sees."""

import numpy as np
from matplotlib.figure import Figure

from repre_jax.report.figures import sheet


@sheet.styled
def draw(views: np.ndarray, local: np.ndarray | None, *, title: str = "Augmentations") -> Figure:
    """A contact sheet, a row a record: its views, then its local views.

    views: float [n, V, H, W, C] in 0..1. local: [n, L, h, w, C], or None.
    """
    names = [f"view {number + 1}" for number in range(views.shape[1])]
    names += [] if local is None else [f"local {number + 1}" for number in range(local.shape[1])]
    caption = "The first records of the first batch, augmented, before they are normalised. Local views are enlarged."
    caption = caption if local is not None else caption.rpartition(" Local")[0]
    figure, axes = sheet.images(len(views), names, views.shape[2:], title=title, caption=caption)
    for row in range(len(views)):
        for column, image in enumerate([*views[row], *(() if local is None else local[row])]):
            sheet.show(axes[row, column], image)
    return figure
