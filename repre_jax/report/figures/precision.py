"""How right and how complete detections are: precision over recall, by class, and what is wrong with them."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repre_jax.evaluation.matching import Verdict
from repre_jax.report.figures import sheet
from repre_jax.report.figures.detection import COLOURS

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of IoU, as pycocotools has them
ABSENT = -1  # in curves: there is no such object
LISTED = 24  # classes; of more the best and the worst
BARS = {"box": "0.35", "mask": "#2c7fb8"}


@sheet.styled
def draw(
    curves: Mapping[str, np.ndarray],
    classes: Mapping[str, Mapping[str, float]],
    mistakes: Mapping[Verdict, int],
    *,
    title: str,
    caption: str,
) -> Figure:
    """curves: by 'box' and 'mask', float [10, 101, classes], precision by IoU, recall and class. classes: likewise AP
    of each class by its name. mistakes: how many detections, and objects that were missed, are what."""
    rows = min(max(map(len, classes.values())), LISTED)
    figure = Figure(figsize=(3.1 * len(curves) + 5.6, max(3.0, 1.2 + 0.14 * rows)), layout="constrained")
    figure.set_figheight(figure.get_figheight() + sheet.label(figure, title, caption))
    axes = figure.subplots(1, len(curves) + 2, squeeze=False)[0]
    for axis, (what, values) in zip(axes, curves.items(), strict=False):
        _curves(axis, what, values)
    _classes(axes[-2], classes)
    _mistakes(axes[-1], mistakes)
    return figure


def _curves(axis: Axes, what: str, values: np.ndarray) -> None:
    """The mean over the classes that there are, by IoU."""
    recall, there = np.linspace(0, 1, values.shape[1]), (values > ABSENT).all(axis=(0, 1))
    colours = matplotlib.colormaps["viridis_r"](np.linspace(0.1, 1, len(THRESHOLDS)))
    for threshold, row, colour in zip(THRESHOLDS, values, colours, strict=True):
        mean = row[:, there].mean(axis=1) if there.any() else np.zeros(len(recall))
        label = f"{threshold:.2f}: {mean.mean():.1%}"
        axis.plot(recall, mean, color=colour, linewidth=1.2, label=label)
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    whole = values[:, :, there].mean() if there.any() else 0.0
    axis.set_title(f"{what} AP {whole:.1%}")
    legend = axis.legend(title="IoU: AP", fontsize=5.5, title_fontsize=6, labelspacing=0.2, loc="best")
    legend.set_frame_on(True)
    legend.get_frame().set(alpha=0.85, edgecolor="none")  # curves go on below it


def _classes(axis: Axes, classes: Mapping[str, Mapping[str, float]]) -> None:
    """Bars, the best class above."""
    first = next(iter(classes.values()))
    names = sorted(first, key=lambda name: -first[name])
    some = names if len(names) <= LISTED else [*names[: LISTED // 2], *names[-LISTED // 2 :]]
    thick = 0.8 / len(classes)
    for place, (what, values) in enumerate(classes.items()):
        at = np.arange(len(some)) + (place - (len(classes) - 1) / 2) * thick
        axis.barh(at, [values.get(name, 0.0) for name in some], thick, color=BARS[what], label=what)
    axis.set(xlim=(0, 1), xlabel="AP", ylim=(len(some) - 0.4, -0.6))
    axis.set_yticks(range(len(some)), [sheet.short(name, 18) for name in some], fontsize=6)
    axis.set_title("by class" if len(some) == len(names) else f"best and worst of {len(names)} classes")
    axis.legend(fontsize=6, loc="lower right")


def _mistakes(axis: Axes, mistakes: Mapping[Verdict, int]) -> None:
    kinds: Sequence[Verdict] = [verdict for verdict in Verdict if mistakes.get(verdict)]
    numbers = [mistakes[verdict] for verdict in kinds]
    axis.barh(range(len(kinds)), numbers, color=[np.array(COLOURS[verdict]) / 255 for verdict in kinds])
    for place, number in enumerate(numbers):
        axis.text(number, place, f" {number:,}", va="center", fontsize=6)
    axis.set(xlim=(0, 1.25 * max(numbers, default=1)), ylim=(max(len(kinds), 1) - 0.4, -0.6), xticks=[])
    axis.set_yticks(range(len(kinds)), [verdict.value for verdict in kinds], fontsize=6)
    axis.set_title("detections and what they are")
