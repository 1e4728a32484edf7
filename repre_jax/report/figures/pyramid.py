"""What each pyramid level of an encoder tells apart."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from repre_jax.report.figures import sheet


@sheet.styled
def draw(images: np.ndarray, maps: Sequence[np.ndarray], names: Sequence[str], *, title: str, caption: str) -> Figure:
    """A row an image, a column a pyramid level. images: float [n, H, W, C] in 0..1. maps: for each level float
    [n, h, w, 3] in 0..1; names: of these."""
    figure, axes = sheet.images(len(images), ["image", *names], images.shape[1:], title=title, caption=caption)
    for row, image in enumerate(images):
        for axis, pixels in zip(axes[row], (image, *(level[row] for level in maps)), strict=True):
            sheet.show(axis, pixels)
    return figure
