"""MoCo v3 (Chen, Xie and He, 2021): contrast two views within the batch, against a momentum encoder.

Heads: moco-v3 moco/builder.py:36-52 and 112-122. Loss: moco/builder.py:63-73, 96. Target: moved before it is used,
moco/builder.py:85-94.
"""

import math

import jax
from flax.typing import Dtype

from repre_jax.core.schedules import Plan
from repre_jax.frameworks.base import Collapse, Framework, FrameworkState, LossResult, Spec, check_widths
from repre_jax.losses import contrastive
from repre_jax.models.heads import MlpHead


def build(plan: Plan, *, hidden: int, out: int, temperature: float, dtype: Dtype) -> Framework:
    """hidden, out: widths of the heads (4096 and 256 in the paper). temperature: unitless, 0.2 for ViT."""
    check_widths(hidden=hidden, out=out)

    def loss(online: jax.Array, target: jax.Array, framework_state: FrameworkState, step: jax.Array) -> LossResult:
        del step
        q1, q2, k1, k2 = online[:, 0], online[:, 1], target[:, 0], target[:, 1]
        both = contrastive.info_nce(q1, k2, temperature) + contrastive.info_nce(q2, k1, temperature)
        return 2 * temperature * both, framework_state, {}

    return Framework(
        projector=MlpHead((hidden, hidden), out, out_norm="plain", dtype=dtype),
        predictor=MlpHead((hidden,), out, out_norm="plain", dtype=dtype),
        loss=loss,
        collapse=Collapse(
            4 * temperature * math.log(plan.microbatch_size), f"4 * temperature * ln({plan.seen_at_once})", 0.02
        ),
        ema_lead=1,
        in_microbatches="negatives and BatchNorm see one microbatch",
    )


SPEC = Spec(
    title="MoCo v3",
    build=build,
    ranges={"temperature": (1e-6, 1e6)},
    digits={
        "framework.hidden": 256,
        "framework.out": 64,
        "framework.momentum": 0.9,
    },  # a short run needs a quick target
    tiny={"framework.hidden": 64, "framework.out": 64},
)
