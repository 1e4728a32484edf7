"""The numbers that sum up a run, as words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repre_jax.frameworks import FRAMEWORKS
from repre_jax.report import dense_names, metric_names
from repre_jax.report.console import duration
from repre_jax.report.dense_names import MEASURES
from repre_jax.report.metric_names import METRICS, Metric
from repre_jax.report.run import Run, number

ENCODERS = {"vit": "ViT", "swin": "Swin"}
ACCURACIES = ("top1", "knn_top1")  # a run has one of the two
OF_HEADS = ("miou", "box_ap", "mask_ap")  # of trained heads: their first value tells nothing of an untrained encoder
TASKS = {
    "linear": "Linear probe",
    "finetune": "Fine-tuning",
    "knn": "k-NN",
    "dense_probe": "Dense measures",
    "segment": "Segmentation",
    "detect": "Detection",
}


@dataclass(frozen=True)
class Figure:
    """A number with what it is, and what it is to be compared with."""

    name: str
    value: str
    beside: str = ""


def title(run: Run) -> str:
    """For example 'MoCo v3 with RePre, ViT-S, imagenet2012', 'Linear probe of DINO, ViT-S, imagenet2012' or 'MoCo v3
    with RePre from the last feature alone, ViT (width 64, 4 blocks), digits'."""
    config = run.config
    origin = run.result.get("origin") or (run.starts[-1].get("origin") if run.starts else None)
    known = config.get("framework.name") or (origin.get("framework") if isinstance(origin, Mapping) else None)
    name = FRAMEWORKS[str(known)].title if str(known) in FRAMEWORKS else str(known or "")
    if config.get("repre.enabled") is True:
        name = f"{name} with RePre" if name else "RePre"
        name += " from the last feature alone" * (config.get("repre.single") is True)
    task = TASKS.get(str(config.get("task")))
    if task:
        name = f"{task} of {name}" if name else task
    parts = [name, _encoder(config), config.get("data.name")]
    return ", ".join(str(part) for part in parts if part) or "A run"


def _encoder(config: Mapping[str, Any]) -> str:
    """For example 'ViT-S', or with sizes of its own 'ViT (width 64, 4 blocks)'."""
    kind, _, size = str(config.get("encoder.name") or "").partition("_")
    kind = ENCODERS.get(kind, kind)
    width, depth = config.get("encoder.width"), config.get("encoder.depth")
    own = [f"width {width}"] if width else []
    own += [f"{'-'.join(map(str, depth))} blocks"] if isinstance(depth, list | tuple) else []
    return f"{kind} ({', '.join(own)})" if own else "-".join(filter(None, [kind, size.capitalize()]))


def summary(run: Run) -> list[Figure]:
    """Of a finished run what result.json says, of another the newest of what was logged."""
    found = (
        _accuracy(run),
        _before(run),
        *_votes(run),
        *_judged(run),
        *_dense(run),
        _reconstruction(run),
        *_course(run),
    )
    return [figure for figure in found if figure]


def _votes(run: Run) -> list[Figure]:
    """Of the task k-NN, whose result has an accuracy for each k."""
    votes, metric = run.result.get("knn_top1"), METRICS["knn_top1"]
    if not isinstance(votes, Mapping):
        return []
    measured = run.result.get("run")
    known = measured if isinstance(measured, Mapping) else {}
    beside = {str(known.get("knn_k")): _without_training(known, metric)}
    return [
        Figure(metric.result, metric.written(accuracy), ", ".join(filter(None, [f"k = {k}", beside.get(k)])))
        for k, accuracy in votes.items()
    ]


def _before(run: Run) -> Figure | None:
    """Of a probe: k-NN of its encoder and of what was not trained, as the encoder's own run measured them."""
    measured, metric = run.result.get("run"), METRICS["knn_top1"]
    if isinstance(run.result.get("knn_top1"), Mapping):
        return None  # beside the vote of as many
    if not isinstance(measured, Mapping) or (value := number(measured.get("knn_top1"))) is None:
        return None
    return Figure(metric.result, metric.written(value), _without_training(measured, metric))


def _without_training(measured: Mapping[str, Any], metric: Metric) -> str:
    compared = {"untrained encoder": number(measured.get("knn_top1_untrained")), **_without_learning(measured)}
    return _listed({key: _as(metric, accuracy) for key, accuracy in compared.items()})


def _without_learning(result: Mapping[str, Any]) -> dict[str, float | None]:
    """k-NN of what nothing is trained for, where pre-training measured it."""
    return {"raw pixels": number(result.get("knn_top1_pixels")), "HOG": number(result.get("knn_top1_hog"))}


def _accuracy(run: Run) -> Figure | None:
    result = run.result
    classifier = number(result.get("top1")) is not None or run.newest("top1") is not None
    name = "top1" if classifier else "knn_top1"
    value = _first(number(result.get(name)), run.newest(name))
    if value is None:
        return None
    compared = {
        "untrained encoder": _first(number(result.get(f"{name}_untrained")), None if classifier else run.first(name)),
        **_without_learning(result),
        "raw pixels by a ridge classifier": number(result.get("top1_pixels")),
        "the protocol's learning rate": number(result.get("top1_protocol")),
    }
    metric = METRICS[name]
    title = metric.result if classifier or result else f"{metric.result} now"
    beside = _listed({key: _as(metric, accuracy) for key, accuracy in compared.items()})
    return Figure(title, metric.written(value), beside)


def _judged(run: Run) -> list[Figure]:
    """What else tells how good the encoder is, beside what it was before training."""
    figures = []
    for name in metric_names.judges():
        metric = METRICS[name]
        value = _first(number(run.result.get(name)), run.newest(name))
        if name not in ACCURACIES and value is not None:
            begun = None if name in OF_HEADS else run.first(name)
            before = _first(number(run.result.get(f"{name}_untrained")), begun)
            beside = _listed({"untrained encoder": _as(metric, before), **_constant(name, run)})
            figures.append(Figure(metric.result, metric.written(value), beside))
    return figures


def _constant(name: str, run: Run) -> dict[str, str | None]:
    """What the same class everywhere would give."""
    return {"best constant answer": _as(METRICS[name], number(run.result.get(f"{name}_constant")))}


def _dense(run: Run) -> list[Figure]:
    """Dense measures, each beside that of the encoder before training."""
    figures = []
    for name, metric in MEASURES.items():
        if (value := number(run.result.get(name))) is not None:
            compared = {
                "untrained encoder": number(run.result.get(f"{name}_untrained")),
                "the same answer everywhere": number(run.result.get(dense_names.constant(name))),
            }
            beside = _listed({what: _as(metric, other) for what, other in compared.items()})
            figures.append(Figure(metric.result, metric.written(value), beside))
    return figures


def _reconstruction(run: Run) -> Figure | None:
    metric, l1, newest = (
        METRICS["reconstruction"],
        number(run.result.get("reconstruction_l1")),
        run.newest("reconstruction"),
    )
    if l1 is not None:
        mean_colour = _as(metric, number(run.result.get("reconstruction_l1_mean_colour")))
        return Figure(metric.result, metric.written(l1), _listed({"each image's mean colour": mean_colour}))
    return None if newest is None else Figure(metric.result, metric.written(newest), "training views")


def _course(run: Run) -> list[Figure | None]:
    seconds = number(run.result.get("seconds"))
    took = f"in {duration(seconds)}" if seconds is not None else ""
    skipped = _first(number(run.result.get("skipped_steps")), run.newest("skipped"))
    beside = ", ".join(filter(None, [took, f"{skipped:,.0f} of them skipped" if skipped else ""]))
    speed = _first(number(run.result.get("images_per_second")), run.newest("images_per_second"))
    steps = Figure("Steps", f"{run.step:,}", beside) if run.series or run.step else None
    return [steps, Figure(METRICS["images_per_second"].result, f"{speed:,.0f}")] if speed else [steps]


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _as(metric: Metric, value: float | None) -> str | None:
    return None if value is None else metric.written(value)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
