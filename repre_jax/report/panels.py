"""Which curves a report has, and in which order; what they are called stands in metric_names.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from repre_jax.frameworks.base import NARROW
from repre_jax.report import metric_names
from repre_jax.report.curves import LOOKS, Line, Panel
from repre_jax.report.metric_names import METRICS
from repre_jax.report.run import Run, Series, number

EVEN = "embedding_std_uniform"
EVEN_LABEL = METRICS[EVEN].label


@dataclass(frozen=True)
class Group:
    """Metrics that are drawn in one panel, each with its label."""

    title: str
    labels: Mapping[str, str]
    percent: bool = False
    log: bool = False


def of_run(run: Run) -> tuple[list[Panel], list[Panel]]:
    """The main panels and, each metric for itself, all others. Metrics without a finite value have none."""
    there = {name: series for name, series in run.series.items() if series.newest}
    marks = run.interruptions()
    groups = _main()
    main = [
        Panel(group.title, _lines(group, run, there), group.percent, group.log, marks)
        for group in groups
        if any(name in there for name in group.labels)
    ]
    shown = {name for group in groups for name in group.labels}
    others = [
        Panel(group.title, _lines(group, run, there), group.percent, group.log, marks)
        for name in sorted(there.keys() - shown, key=_order)
        for group in [_alone(name)]
    ]
    return main, others


def of_runs(runs: Sequence[Run], run_names: Sequence[str], images: bool) -> list[Panel]:
    """One panel per metric, one line per run; reference values shared by all runs in grey.

    images: x is images seen instead of steps, for which each run's batch size must be known."""
    there = {name for run in runs for name, series in run.series.items() if series.newest}
    known = [name for group in _main() for name in group.labels]
    names = [name for name in known if name in there] + sorted(there - set(known), key=_order)
    panels, shown = [], set()
    for name in names:
        group, lines, having = _alone(name), [], []
        for look, (run, label) in enumerate(zip(runs, run_names, strict=True)):
            if (series := run.series.get(name)) and series.newest:
                x = series.x * (number(run.config.get("batch_size")) if images else 1)
                lines.append(Line(f"curve-{name}-{look + 1}", label, x, series.y, look))
                having.append(run)
        agreed = _agreed(name, having)
        lines += [_across(lines, label, value, LOOKS + grey) for grey, (label, value) in enumerate(agreed.items())]
        panels.append((name, Panel(group.title, lines, group.percent, group.log)))
        shown |= {EVEN} if EVEN_LABEL in agreed else set()
    return [panel for name, panel in panels if name not in shown]


def _agreed(name: str, runs: Sequence[Run]) -> dict[str, float]:
    """What each of the runs is to be compared with by the same value."""
    compared: list[Mapping[str, float | None]] = [
        _compared((name, EVEN) if name == "embedding_std" else (name,), run) for run in runs
    ]
    if name == "embedding_std":
        compared = [{EVEN_LABEL: run.newest(EVEN), **of_run} for run, of_run in zip(runs, compared, strict=True)]
    first, *others = compared
    alike = {label: all(of_run.get(label) == value for of_run in others) for label, value in first.items()}
    return {label: value for label, value in first.items() if value is not None and alike[label]}


def _across(lines: Sequence[Line], label: str, value: float, look: int) -> Line:
    """As far as the curves go."""
    ends = np.array([min(line.x[0] for line in lines), max(line.x[-1] for line in lines)])
    return Line(None, label, ends, np.full(2, value), look)


def without_value(run: Run) -> list[str]:
    """Metrics that were never finite."""
    return [name for name, series in run.series.items() if not series.newest]


def _lines(group: Group, run: Run, there: Mapping[str, Series]) -> list[Line]:
    names = [name for name in group.labels if name in there]
    lines = [
        Line(f"curve-{name}", group.labels[name], there[name].x, there[name].y, look) for look, name in enumerate(names)
    ]
    for label, value in _compared(names, run).items():
        lines.append(_across(lines, label, value, len(lines)))
    return lines


def _compared(names: Sequence[str], run: Run) -> dict[str, float]:
    """What a panel's curves are to be compared with."""
    references: dict[str, float | None] = {}
    even = run.newest(EVEN)
    if EVEN in names and even is not None:
        references["collapse, below"] = NARROW * even
    if "knn_top1" in names:
        references["raw pixels"] = number(run.result.get("knn_top1_pixels"))
        references["HOG"] = number(run.result.get("knn_top1_hog"))
        references["untrained encoder"] = run.first("knn_top1")
    if "effective_rank" in names:
        references["untrained encoder"] = run.first("effective_rank")
    if "top1" in names:
        references["untrained encoder, test"] = number(run.result.get("top1_untrained"))
    if "miou" in names:
        references["best constant answer, mean IoU"] = number(run.result.get("miou_constant"))
    return {label: value for label, value in references.items() if value is not None}


def _main() -> list[Group]:
    """The main panels, in their order."""
    groups = []
    for title, names in metric_names.panels().items():
        first = METRICS[names[0]]
        groups.append(Group(title, {name: METRICS[name].label for name in names}, first.percent, first.log))
    return groups


def _alone(name: str) -> Group:
    metric = metric_names.of(name)
    return Group(metric.title, {name: metric.title}, metric.percent, metric.log)


def _order(name: str) -> tuple[int, str]:
    """Those known by name first, in the table's order."""
    names = list(METRICS)
    return (names.index(name) if name in names else len(names), name)
