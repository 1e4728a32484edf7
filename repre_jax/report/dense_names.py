"""What dense measures are called that sum up a run. They stand in result.json alone: nothing logs them step by step."""

from repre_jax.report.metric_names import Metric

_KINDS = {
    "object_ap": "Average precision of objects",
    "linear_miou": "Linear mean IoU",
    "detail_r2": "Variance of pixels explained",
    "detail_within_r2": "Variance within patches explained",
}
_DEPTHS = {"last": "last block", "all": "all levels"}
_RANKS = {
    "token_rank": "Effective rank of the last block's tokens",
    "pooled_rank": "Effective rank of the pooled features",
}


def _measure(title: str, form: str) -> Metric:
    return Metric(title, percent=form.endswith("%"), form=form, result=title, best="larger")


MEASURES = {
    f"{kind}_{depth}": _measure(f"{title}, {where}", ".1%")
    for kind, title in _KINDS.items()
    for depth, where in _DEPTHS.items()
} | {name: _measure(title, ".1f") for name, title in _RANKS.items()}


def constant(name: str) -> str:
    """Where a result has what the same answer everywhere is worth, which does not depend on the depth."""
    return f"{name.removesuffix('_last').removesuffix('_all')}_constant"
