"""SimCLR (Chen, Kornblith, Norouzi and Hinton, 2020): one network, both views are queries and keys.

Head: simclr model_util.py:109-166 (three layers, BatchNorm on each, the last without shift, weights N(0, 0.01)); its
statistics span both views, which pass together. Loss: simclr objective.py:53-86, the sum over both views.
"""

import math

import jax
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.schedules import Plan
from repre_jax.frameworks.base import Collapse, Framework, FrameworkState, LossResult, Spec, check_widths
from repre_jax.losses import contrastive
from repre_jax.models.heads import MlpHead


def build(plan: Plan, *, hidden: int | None, out: int, temperature: float, dtype: Dtype) -> Framework:
    """hidden: width of both hidden layers, None for the feature's own. out: 128 in the paper. temperature: 0.1."""
    check_widths(hidden=hidden, out=out)

    def loss(online: jax.Array, target: None, framework_state: FrameworkState, step: jax.Array) -> LossResult:
        del target, step
        return contrastive.nt_xent(online[:, 0], online[:, 1], temperature), framework_state, {}

    return Framework(
        projector=MlpHead(
            (hidden, hidden),
            out,
            out_norm="gain",
            joint=True,
            kernel_init=nn.initializers.normal(0.01),
            dtype=dtype,
        ),
        loss=loss,
        collapse=Collapse(2 * math.log(2 * plan.microbatch_size - 1), f"2 ln(2 {plan.seen_at_once} - 1)", 0.02),
        target="none",
        in_microbatches="negatives and BatchNorm see one microbatch",
    )


SPEC = Spec(
    title="SimCLR",
    build=build,
    ranges={"temperature": (1e-6, 1e6)},
    digits={"epochs": 50.0, "framework.hidden": 256, "framework.out": 64},
    tiny={"framework.hidden": 64, "framework.out": 64},
)
