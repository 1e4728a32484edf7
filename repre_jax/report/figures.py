"""Figures by matplotlib, drawn without a display."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def reconstructions(path: Path, views: np.ndarray, rebuilt: np.ndarray) -> None:
    """Draws view, reconstruction and (brightened) absolute difference, a column an image, with its L1 and PSNR.

    views, rebuilt: float [n, H, W, 3] in 0..1; values of `rebuilt` beyond that are cut for display only.
    """
    count = len(views)
    difference = np.abs(views - rebuilt)
    # Small differences would be black: shown twice, four times ... as bright, as far as 99 % of them allow.
    gain = 2 ** int(np.clip(np.floor(-np.log2(np.quantile(difference, 0.99) + 1e-9)), 0, 5))
    figure = Figure(figsize=(1.25 * count + 0.9, 4.6), layout="constrained")
    axes = figure.subplots(3, count, squeeze=False)
    for column in range(count):
        rows = (views[column], np.clip(rebuilt[column], 0, 1), np.clip(gain * difference[column], 0, 1))
        for row, image in enumerate(rows):
            _show(axes[row, column], image)
        error = np.mean((views[column] - rebuilt[column]) ** 2)
        decibels = 10 * np.log10(1 / max(error, 1e-12))
        axes[2, column].set_xlabel(f"L1 {difference[column].mean():.3f}\n{decibels:.1f} dB", fontsize=9)
    for row, name in enumerate(("view", "reconstruction", f"difference x {gain}")):
        axes[row, 0].set_ylabel(name, fontsize=10)
    figure.savefig(path, dpi=150)


def augmentations(path: Path, views: np.ndarray, local: np.ndarray | None) -> None:
    """Draws a contact sheet, a row a record: its views, then its local views.

    views: float [n, V, H, W, C] in 0..1. local: [n, L, h, w, C], or None.
    """
    columns = views.shape[1] + (0 if local is None else local.shape[1])
    figure = Figure(figsize=(1.25 * columns, 1.25 * len(views) + 0.4), layout="constrained")
    axes = figure.subplots(len(views), columns, squeeze=False)
    for row in range(len(views)):
        for column, image in enumerate([*views[row], *(() if local is None else local[row])]):
            _show(axes[row, column], image)
    for column in range(columns):
        large = column < views.shape[1]
        name = f"view {column + 1}" if large else f"local {column + 1 - views.shape[1]}"
        axes[0, column].set_title(name, fontsize=9)
    figure.savefig(path, dpi=150)


def _show(axis: Axes, image: np.ndarray) -> None:
    """float [H, W, C] in 0..1; of other numbers of channels than 3, the first is shown in grey."""
    shown = np.clip(image if image.shape[-1] == 3 else image[..., 0], 0, 1)
    axis.imshow(shown, vmin=0, vmax=1, cmap="gray", interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_color("0.7")
