"""What all figures share: their look, sheets of images, and files that are the same to the byte for the same figure."""

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import AbstractPathEffect, withStroke

from repre_jax.core import run_files
from repre_jax.data.listing import shown

DPI = 150
LOOK = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.edgecolor": "0.7",
    "legend.frameon": False,
    "text.parse_math": False,  # names of files and classes may hold dollars
    "figure.constrained_layout.h_pad": 0.05,
    "figure.constrained_layout.w_pad": 0.05,
}
UNDATED = {".png": {"Software": run_files.DRAWN_BY}, ".pdf": {"CreationDate": None, "Creator": None, "Producer": None}}
LARGE, SMALL = 11, 8  # points, of the title and of the caption
GAP = 0.08  # inches between images
SHORTEST = 0.8  # inches of an image's side
LETTERS = 15  # of small text in an inch
LINE = 0.18  # inches of a line of a legend
OUTLINE: list[AbstractPathEffect] = [withStroke(linewidth=1, foreground="black")]  # of light text on an image
OTHERS = np.array((0.33, 0.43, 0.62), np.float32)  # tints what is not meant: seen on black and on white


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draws with one look, whatever the user's own settings of matplotlib are."""

    @functools.wraps(draw)
    def inside(*args: Any, **settings: Any) -> Figure:
        with matplotlib.style.context(["default", LOOK], after_reset=True):
            return draw(*args, **settings)

    return inside


def images(
    rows: int,
    names: Sequence[str],
    shape: Sequence[int],
    *,
    title: str,
    caption: str,
    side: float = 1.2,
    under: float = 0.0,
) -> tuple[Figure, np.ndarray]:
    """A sheet of axes for images of shape [H, W, ...], a column a name, which stands above it, wrapped.

    title: a line or two above; caption: small text below, wrapped. side: inches of an image's larger side. under:
    inches below each image, for text.
    """
    high, wide = cell(shape, side)
    above = ["\n".join(textwrap.fill(line, letters(wide)) for line in name.splitlines()) for name in names]
    height = rows * (high + GAP + under) + 0.25 + max(name.count("\n") + 1 for name in above) * 0.2
    figure = Figure(figsize=(max(len(names) * (wide + GAP) + 0.3, 3.6), height), layout="compressed")
    figure.set_figheight(height + label(figure, title, caption))
    axes = figure.subplots(rows, len(names), squeeze=False)
    for axis, name in zip(axes[0], above, strict=True):
        axis.set_title(name)
    return figure, axes


def cell(shape: Sequence[int], side: float = 1.2) -> tuple[float, float]:
    """Height and width in inches of an image of shape [H, W, ...], whose larger side is `side` unless the other would
    be too short for text."""
    scale = max(side / max(shape[:2]), SHORTEST / min(shape[:2]))
    return scale * shape[0], scale * shape[1]


def letters(inches: float) -> int:
    """As many of the usual size as are sure to fit."""
    return int(12.5 * inches)


def label(figure: Figure, title: str, caption: str) -> float:
    """Text above, whose lines stay lines, and below, both as wide as the figure; returns its height in inches."""
    count = int(figure.get_figwidth() * LETTERS)
    above = "\n".join(wrapped(line, max(count * SMALL // LARGE, 30)) for line in shown(title).splitlines())
    below = wrapped(caption, max(count, 40))
    figure.suptitle(above, fontsize=LARGE)
    figure.supxlabel(below, fontsize=SMALL, color="0.35")
    return sum(1.3 * size / 72 * (text.count("\n") + 1) for text, size in ((above, LARGE), (below, SMALL)))


def wrapped(text: str, most: int) -> str:
    """In as few lines of at most so many letters as it needs, which are about equally long."""
    count = len(textwrap.wrap(text, most))
    while most > 20 and len(textwrap.wrap(text, most - 1)) == count:
        most -= 1
    return "\n".join(textwrap.wrap(text, most))


def name_colours(figure: Figure, legend: Mapping[str, Sequence[int]]) -> None:
    """A legend of names and colours in 0..255, right of all, in as many columns as its height asks for, by which the
    figure becomes wider."""
    squares = [
        Patch(facecolor=(each[0] / 255, each[1] / 255, each[2] / 255), edgecolor="0.7", label=name)
        for name, each in legend.items()
    ]
    columns = -(-len(squares) // max(int(figure.get_figheight() / LINE), 1))
    longest = max(map(len, legend))
    figure.set_figwidth(figure.get_figwidth() + columns * (longest / LETTERS + 0.6))
    figure.legend(handles=squares, loc="outside right center", fontsize=SMALL, ncols=columns)


def show(axis: Axes, image: np.ndarray) -> None:
    """float [H, W, C] in 0..1; of other numbers of channels than 3, the first is shown in grey."""
    axis.imshow(visible(image), vmin=0, vmax=1, interpolation="nearest")
    framed(axis)


def visible(image: np.ndarray) -> np.ndarray:
    """The same as float [H, W, 3]."""
    return np.clip(image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1), 0, 1)


def heat(axis: Axes, values: np.ndarray) -> None:
    """float [h, w], from its smallest value, which is dark, to its largest, which is yellow (as DINO's)."""
    axis.imshow(values, cmap="viridis", interpolation="nearest")
    framed(axis)


def picked(image: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The image with all patches tinted that are not kept. kept: bool [h, w], whose patches divide the image."""
    sides = image.shape[0] // kept.shape[0], image.shape[1] // kept.shape[1]
    pixels = np.repeat(np.repeat(kept, sides[0], axis=0), sides[1], axis=1)[..., None]
    shown = visible(image)
    return np.where(pixels, shown, 0.25 * shown + 0.75 * OTHERS)


def framed(axis: Axes) -> None:
    """A thin frame without ticks."""
    axis.set(xticks=[], yticks=[])


def short(name: str, most: int) -> str:
    """A name; of one of more letters its beginning and its end."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-((most - 1) // 2) :]}"


def save(figure: Figure, path: Path) -> None:
    """Writes a .png or .pdf in one go: no reader sees half a file. Without a date, so that the same figure gives the
    same bytes, with the same versions."""
    with run_files.replacing(path, "wb") as file, matplotlib.style.context(["default", LOOK], after_reset=True):
        figure.savefig(file, format=path.suffix[1:], dpi=DPI, bbox_inches="tight", metadata=UNDATED[path.suffix])
