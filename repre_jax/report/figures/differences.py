"""Differences of means with their intervals, one below the other, and those of a paper beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from repre_jax.report.figures import sheet

OURS, PAPERS = "#2c7fb8", "0.35"


@dataclass(frozen=True)
class Bar:
    """mean, low, high: of a difference and its interval, NaN where it was not measured, or has no interval. paper: the
    paper's difference, None where it has none."""

    name: str
    mean: float
    low: float
    high: float
    paper: float | None


@sheet.styled
def draw(bars: Sequence[Bar], *, title: str, caption: str, unit: str) -> Figure:
    """unit: what the differences are of, for the axis."""
    figure = Figure(figsize=(6.0, 1.2 + 0.3 * len(bars)), layout="constrained")
    figure.set_figheight(figure.get_figheight() + sheet.label(figure, title, caption))
    axis = figure.subplots()
    axis.axvline(0, color="0.8", linewidth=1)
    measured = [(place, bar) for place, bar in enumerate(bars) if math.isfinite(bar.mean)]
    published = [(place, bar.paper) for place, bar in enumerate(bars) if bar.paper is not None]
    if measured:
        axis.plot([bar.mean for _, bar in measured], [place for place, _ in measured], "o", color=OURS, label="ours")
    for place, bar in measured:
        if math.isfinite(bar.low):
            axis.hlines(place, bar.low, bar.high, color=OURS, linewidth=1.5)
    if published:
        places, values = zip(*published, strict=True)
        axis.plot(values, places, "D", color=PAPERS, fillstyle="none", label="paper")
    axis.set_yticks(range(len(bars)), [bar.name for bar in bars])
    axis.set(ylim=(len(bars) - 0.5, -0.5), xlabel=unit)
    axis.legend(loc="best")
    return figure
