"""VICReg (Bardes, Ponce and LeCun, 2022): two views agree while each dimension varies and repeats no other.

Head: the paper's section 4.2, three layers, BatchNorm and ReLU on the first two, the last plain and without bias; each
view passes on its own. Loss: section 4.1, equations 1 to 6, over the global batch. No negatives and no target network:
the variance term is what keeps embeddings apart.
"""

import math

import jax
from flax.typing import Dtype

from repre_jax.core.schedules import Plan
from repre_jax.frameworks.base import Collapse, Framework, FrameworkState, LossResult, Spec, check_widths
from repre_jax.losses import redundancy
from repre_jax.models.heads import MlpHead


def build(
    plan: Plan, *, hidden: int, out: int, invariance: float, variance: float, covariance: float, dtype: Dtype
) -> Framework:
    """hidden, out: widths of the projector's layers, all 8192 in the paper. invariance, variance, covariance: what
    each term counts, at least 0; 25, 25 and 1 in the paper."""
    del plan
    check_widths(hidden=hidden, out=out)

    def loss(online: jax.Array, target: None, framework_state: FrameworkState, step: jax.Array) -> LossResult:
        del target, step
        a, b = online[:, 0], online[:, 1]
        terms = {
            "invariance": redundancy.invariance(a, b),
            "variance": (redundancy.variance(a) + redundancy.variance(b)) / 2,
            "covariance": redundancy.covariance(a) + redundancy.covariance(b),
        }
        value = invariance * terms["invariance"] + variance * terms["variance"] + covariance * terms["covariance"]
        return value, framework_state, terms

    return Framework(
        projector=MlpHead((hidden, hidden), out, hidden_bias=True, dtype=dtype),
        loss=loss,
        collapse=Collapse(
            variance * (redundancy.WANTED_DEVIATION - math.sqrt(redundancy.EPSILON)),
            "variance * (1 - sqrt(1e-4))",
            0.02,
            ("a larger --config.framework.variance",),
        ),
        target="none",
        in_microbatches="variance, covariance and BatchNorm see one microbatch; there are no negatives",
    )


SPEC = Spec(
    title="VICReg",
    build=build,
    ranges={"invariance": (0, 1e6), "variance": (0, 1e6), "covariance": (0, 1e6)},
    digits={"epochs": 50.0, "framework.hidden": 256, "framework.out": 256},
    tiny={"framework.hidden": 64, "framework.out": 64},
    metrics={
        "invariance": "VICReg's invariance term",
        "variance": "VICReg's variance term",
        "covariance": "VICReg's covariance term",
    },
)
