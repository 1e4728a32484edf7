"""Features on a plane, coloured by class."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from repre_jax.report.figures import sheet

# Colours that most colour-blind people tell apart (Okabe and Ito 2008), without the yellow, which is too light on
# white; and shapes. 7 and 5 have no common factor: 35 classes before both come again together.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "^", "s", "X", "D")


@sheet.styled
def draw(points: np.ndarray, labels: np.ndarray, names: Sequence[str], *, title: str, caption: str) -> Figure:
    """points: float [records, 2]. labels: int [records], the place of each one's class in `names`."""
    figure = Figure(figsize=(7.2, 5.8), layout="constrained")
    axis = figure.subplots()
    size = float(np.clip(9000 / len(points), 10, 45))
    for number, name in enumerate(names):
        here = labels == number
        look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        axis.scatter(*points[here].T, s=size, linewidths=0.3, edgecolors="white", label=sheet.short(name, 24), **look)
    axis.set_aspect("equal", adjustable="datalim")
    sheet.framed(axis)
    figure.legend(loc="outside right upper", title="class", markerscale=max(1.0, (30 / size) ** 0.5))
    sheet.label(figure, title, caption)
    return figure
