"""Objects on an image: masks in their colours, boxes around them, a name at each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from repre_jax.report.figures import sheet

SHADE = 0.45  # how much of a mask's colour covers the image


def over(
    axis: Axes,
    image: np.ndarray,
    boxes: np.ndarray,
    colours: Sequence[np.ndarray],
    names: Sequence[str],
    masks: np.ndarray | None = None,
    *,
    size: float = 4,
    dashed: bool = False,
) -> None:
    """image: float [H, W, C] in 0..1. boxes: float [N, 4], x, y, width, height in pixels. colours: of each, float [3].
    masks: bool [N, H, W], or None. size: of the names, in points."""
    pixels = sheet.visible(image)
    for colour, mask in zip(colours, () if masks is None else masks, strict=False):
        pixels[mask] = (1 - SHADE) * pixels[mask] + SHADE * colour
    sheet.show(axis, pixels)
    outline(axis, boxes, colours, names, size=size, dashed=dashed)


def outline(
    axis: Axes,
    boxes: np.ndarray,
    colours: Sequence[np.ndarray],
    names: Sequence[str],
    *,
    size: float = 4,
    dashed: bool = False,
) -> None:
    """The boxes and names alone, over what the axis shows."""
    for (x, y, width, height), colour, name in zip(boxes, colours, names, strict=True):
        style = "--" if dashed else "-"
        # Pixel 0 reaches from -0.5 to 0.5 on the axis.
        corner = (x - 0.5, y - 0.5)
        axis.add_patch(Rectangle(corner, width, height, fill=False, color=colour, linewidth=1, linestyle=style))
        text = axis.text(x, y, name, fontsize=size, va="top", color="white", clip_on=True)
        text.set_path_effects(sheet.OUTLINE)
