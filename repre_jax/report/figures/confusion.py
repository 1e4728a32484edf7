"""Which classes a segmentation takes for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repre_jax.report.figures import sheet

NUMBERED = 25  # classes, up to which each cell has its number
CELL, SMALL_CELL = 0.34, 0.13  # inches of a cell's side, with and without a number
NAME = 22  # letters of a name
BAR = 1.1  # inches of what stands right of the cells
DARK = 0.55  # share from which on a cell's text is white
ABSENT = "0.93"  # grey of a class without a pixel


@sheet.styled
def draw(matrix: np.ndarray, names: Sequence[str], iou: Sequence[float | None], *, title: str, caption: str) -> Figure:
    """matrix: int64 [classes, classes], rows the labels, columns the predictions. iou: of each class, None without one.

    A row shows which share of its pixels was predicted as what, and its class's IoU at its end.
    """
    shares = shares_of(matrix)
    cell = CELL if len(names) <= NUMBERED else SMALL_CELL
    size = sheet.SMALL - 1 if len(names) <= NUMBERED else 5
    short = [sheet.short(name, NAME) for name in names]
    beside = max(map(len, short)) * size / 110 + 0.3
    side = max(len(names) * cell, 2.0)
    figure = Figure(figsize=(max(side + beside + BAR, 4.2), side + beside + 0.3), layout="compressed")
    figure.set_figheight(figure.get_figheight() + sheet.label(figure, title, caption))
    axis = figure.subplots()
    axis.set_facecolor(ABSENT)
    image = axis.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks(range(len(names)), short, rotation=90, fontsize=size)
    axis.set_yticks(range(len(names)), short, fontsize=size)
    axis.tick_params(length=0)
    axis.set(xlabel="predicted as", ylabel="labelled as")
    _name_iou(axis, iou, size)
    if len(names) <= NUMBERED:
        _write_shares(axis, shares, size - 1)
    bar = figure.colorbar(image, ax=axis, shrink=0.5, aspect=30, pad=0.02, format="{x:.0%}")
    bar.set_label("of the pixels labelled so", fontsize=sheet.SMALL)
    bar.ax.tick_params(labelsize=sheet.SMALL, length=0)
    return figure


def shares_of(matrix: np.ndarray) -> np.ndarray:
    """Each row divided by its sum, float64 in 0..1; NaN in the row of a class without pixels."""
    counts = np.asarray(matrix, np.int64)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), np.nan)


def _name_iou(axis: Axes, iou: Sequence[float | None], size: float) -> None:
    """Of each class at the end of its row."""
    right = axis.secondary_yaxis("right")
    right.set_yticks(range(len(iou)), ["none" if value is None else f"{value:.1%}" for value in iou], fontsize=size)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    axis.annotate("IoU", (1, 1), (4, 3), xycoords="axes fraction", textcoords="offset points", fontsize=size)


def _write_shares(axis: Axes, shares: np.ndarray, size: float) -> None:
    """In percent, of those that are not below a half."""
    for row, column in np.argwhere(np.nan_to_num(shares) >= 0.005):
        share = shares[row, column]
        colour = "white" if share > DARK else "0.15"
        axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=size, color=colour)
