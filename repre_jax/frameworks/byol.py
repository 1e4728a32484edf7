"""BYOL (Grill et al., 2020): predict the momentum encoder's projection of the other view; no negatives.

Heads: as in solo-learn's, solo/methods/byol.py:50-72 (biases, no BatchNorm at the end). Loss: 2 - 2 cos, both
directions summed, solo/losses/byol.py:36-42. Target: moved after the optimiser's step, solo/methods/base.py:814-836.
"""

import jax
from flax.typing import Dtype

from repre_jax.core.schedules import Plan
from repre_jax.frameworks.base import Collapse, Framework, FrameworkState, LossResult, Spec, check_widths
from repre_jax.losses.contrastive import crossed_cosine_distance
from repre_jax.models.heads import MlpHead

REMEDIES = ("--config.framework.momentum nearer to 1",)


def build(plan: Plan, *, hidden: int, out: int, dtype: Dtype) -> Framework:
    """hidden, out: widths of both heads (4096 and 256 in the paper)."""
    del plan
    check_widths(hidden=hidden, out=out)

    def loss(online: jax.Array, target: jax.Array, framework_state: FrameworkState, step: jax.Array) -> LossResult:
        del step
        return 2 * crossed_cosine_distance(online, target), framework_state, {}

    def head() -> MlpHead:
        return MlpHead((hidden,), out, hidden_bias=True, out_bias=True, dtype=dtype)

    return Framework(
        projector=head(),
        predictor=head(),
        loss=loss,
        collapse=Collapse(0.0, "0: every prediction equals every target", 0.01, REMEDIES),
        in_microbatches="BatchNorm sees one microbatch; there are no negatives",
    )


SPEC = Spec(
    title="BYOL",
    build=build,
    digits={
        "epochs": 50.0,
        "framework.hidden": 256,
        "framework.out": 64,
        "framework.momentum": 0.9,
    },  # a short run needs a quick target
    tiny={"framework.hidden": 64, "framework.out": 64},
)
