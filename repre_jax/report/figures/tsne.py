"""Features on a plane, coloured by class."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from repre_jax.report.figures import sheet

HUES = matplotlib.color_sequences["tab20"]  # ten, each dark and light: dark ones for ten classes, light for ten more
MARKERS = ("o", "^", "s", "X", "D")  # neighbours in the legend differ, for whoever cannot tell the hues apart
SMALLEST, LARGEST = 18, 45  # square points


@sheet.styled
def draw(points: np.ndarray, labels: np.ndarray, names: Sequence[str], *, title: str, caption: str) -> Figure:
    """points: float [records, 2]. labels: int [records], the place of each one's class in `names`."""
    figure = Figure(figsize=(7.2, 5.8), layout="constrained")
    axis = figure.subplots()
    size = float(np.clip(9000 / len(points), SMALLEST, LARGEST))
    for number, name in enumerate(names):
        x, y = points[labels == number].T
        axis.scatter(x, y, s=size, label=sheet.short(name, 24), **_look(number))
    axis.set_aspect("equal", adjustable="datalim")
    sheet.framed(axis)
    figure.legend(loc="outside right upper", title="class", markerscale=max(1.0, (30 / size) ** 0.5))
    sheet.label(figure, title, caption)
    return figure


def _look(number: int) -> dict[str, Any]:
    """Of a class: 100 before colour and marker come again together. Light colours have a dark edge."""
    cycle, hue = divmod(number, len(HUES) // 2)
    dark, light = HUES[2 * hue], HUES[2 * hue + 1]
    marker = MARKERS[(number + cycle) % len(MARKERS)]
    if cycle % 2:
        return {"color": light, "edgecolors": dark, "linewidths": 0.6, "marker": marker}
    return {"color": dark, "edgecolors": "white", "linewidths": 0.3, "marker": marker}
