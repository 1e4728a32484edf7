"""The measures that several tables share, and the evaluations that give them."""

from functools import partial

from repre_jax.reproduction.runs import Run
from repre_jax.reproduction.scales import Scale
from repre_jax.reproduction.table import Measure


def evaluated(config: str, variants: str, run: Run) -> Run:
    return Run(config, variants, run.seed, parent=run)


def _linear(scale: Scale, run: Run) -> Run:
    framework = run.config.partition("_")[0]
    return evaluated("linear", scale.linear.get(framework, scale.linear[""]), run)


def own(run: Run) -> Run:
    """What pre-training says of itself."""
    return run


def classification(scale: Scale) -> tuple[Measure, ...]:
    untrained = "top1_untrained" if scale.untrained else ""
    return (
        Measure("top-1, linear", "top1", partial(_linear, scale), untrained=untrained),
        Measure("top-1, k-NN", "knn_top1", own, untrained="knn_top1_untrained"),
    )


def dense(scale: Scale) -> tuple[Measure, ...]:
    """What lines read off patch tokens: all that the probe measures, so that none was chosen."""
    probe = partial(evaluated, "dense_probe", scale.probe)
    measures: list[Measure] = []
    for title, key in (
        ("object AP", "object_ap"),
        ("linear mIoU", "linear_miou"),
        ("detail, R²", "detail_r2"),
        ("detail without colour, R²", "detail_within_r2"),
    ):
        for depth, named in (("last", "last block"), ("all", "all levels")):
            own = f"{key}_{depth}"
            measures.append(Measure(f"{title}, {named}", own, probe, untrained=f"{own}_untrained"))
    for title, key in (
        ("effective rank of tokens", "token_rank"),
        ("effective rank of pooled features", "pooled_rank"),
    ):
        measures.append(Measure(title, key, probe, factor=1.0, untrained=f"{key}_untrained"))
    return tuple(measures)
