"""Figures by matplotlib, drawn without a display."""

from pathlib import Path

import numpy as np
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
            axes[row, column].imshow(image, vmin=0, vmax=1, interpolation="nearest")
            axes[row, column].set(xticks=[], yticks=[])
            axes[row, column].spines[:].set_color("0.7")
        error = np.mean((views[column] - rebuilt[column]) ** 2)
        decibels = 10 * np.log10(1 / max(error, 1e-12))
        axes[2, column].set_xlabel(f"L1 {difference[column].mean():.3f}\n{decibels:.1f} dB", fontsize=9)
    for row, name in enumerate(("view", "reconstruction", f"difference x {gain}")):
        axes[row, 0].set_ylabel(name, fontsize=10)
    figure.savefig(path, dpi=150)
