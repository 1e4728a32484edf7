"""Objects on an image: masks in their colours, boxes around them, a name at each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from repre_jax.report.figures import sheet

SHADE = 0.25  # how much of a mask's colour covers the image: small objects stay visible
LETTER, LINE = 0.7, 1.5  # of a name's size: its letters' mean width, and the height of its box
POINTS = 72  # in an inch


def over(
    axis: Axes,
    image: np.ndarray,
    boxes: np.ndarray,
    colours: Sequence[np.ndarray],
    names: Sequence[str],
    masks: np.ndarray | None = None,
    *,
    crowds: Sequence[bool] = (),
    side: float = 1.8,
    size: float = 4,
) -> None:
    """image: float [H, W, C] in 0..1. boxes: float [N, 4], x, y, width, height in pixels. colours: of each, float [3].
    masks: bool [N, H, W], or None. crowds: which of them stand for many, if any. side: inches of the image's larger
    side. size: of the names, in points."""
    pixels = sheet.visible(image)
    for colour, mask in zip(colours, () if masks is None else masks, strict=False):
        pixels[mask] = (1 - SHADE) * pixels[mask] + SHADE * colour
    sheet.show(axis, pixels)
    outline(axis, image.shape, boxes, colours, names, crowds=crowds, side=side, size=size)


def outline(
    axis: Axes,
    shape: Sequence[int],
    boxes: np.ndarray,
    colours: Sequence[np.ndarray],
    names: Sequence[str],
    *,
    crowds: Sequence[bool] = (),
    side: float = 1.8,
    size: float = 4,
    dashed: bool = False,
) -> None:
    """The boxes and names alone, over an image of `shape` that the axis shows. Crowds are hatched, and named so."""
    crowds = list(crowds) or [False] * len(boxes)
    said = [f"crowd: {name}" if crowd else name for name, crowd in zip(names, crowds, strict=True)]
    places = _places(shape, boxes, said, max(shape[:2]) / side * size / POINTS)
    for (x, y, width, height), colour, crowd in zip(boxes, colours, crowds, strict=True):
        style = "--" if dashed else "-"
        # Pixel 0 reaches from -0.5 to 0.5 on the axis.
        corner = (x - 0.5, y - 0.5)
        hatch = "////" if crowd else None
        axis.add_patch(
            Rectangle(corner, width, height, fill=False, color=colour, linewidth=1, linestyle=style, hatch=hatch)
        )
    for (x, y), colour, name in zip(places, colours, said, strict=True):
        if name:
            ink = "black" if np.dot(colour, (0.3, 0.59, 0.11)) > 0.6 else "white"
            behind = {"facecolor": tuple(colour), "edgecolor": "none", "pad": 0.5}
            axis.text(x, y, name, fontsize=size, va="top", color=ink, clip_on=True, bbox=behind)


def _places(shape: Sequence[int], boxes: np.ndarray, names: Sequence[str], em: float) -> list[tuple[float, float]]:
    """Left upper corner of each name, in pixels: at its box's, but inside the image and below names that are there
    already. em: the names' size in pixels."""
    found: list[tuple[float, float]] = []
    taken: list[tuple[float, float, float]] = []  # left, top, right
    line = LINE * em
    for (x, y, *_), name in zip(boxes, names, strict=True):
        wide = LETTER * em * len(name)
        left = max(min(x, shape[1] - wide - 1), 0.0)
        lowest = max(shape[0] - line, 0.0)
        top = min(max(y, 0.0), lowest)
        for _ in taken if name else ():
            below = [up for start, up, end in taken if abs(up - top) < line and start < left + wide and left < end]
            if not below or max(below) + line > lowest:
                break
            top = max(below) + line
        found.append((left, top))
        if name:
            taken.append((left, top, left + wide))
    return found
