"""SimSiam (Chen and He, 2021): predict the same network's projection of the other view, whose gradient is stopped.

Heads: simsiam/builder.py:24-42. Loss: main_simsiam.py:191, 294-295 plus 1, which has the same gradient and cannot be
negative (losses/weighting.py says why it must not).
"""

import jax
from flax.typing import Dtype

from repre_jax.core.schedules import Plan
from repre_jax.frameworks.base import Collapse, Framework, FrameworkState, LossResult, Spec, check_widths
from repre_jax.losses.contrastive import crossed_cosine_distance
from repre_jax.models.heads import MlpHead


def build(plan: Plan, *, hidden: int | None, predictor_hidden: int, out: int, dtype: Dtype) -> Framework:
    """hidden: width of the projector's two hidden layers, None for the feature's own. predictor_hidden, out: 512, 2048
    in the paper."""
    del plan
    check_widths(hidden=hidden, predictor_hidden=predictor_hidden, out=out)

    def loss(online: jax.Array, target: jax.Array, framework_state: FrameworkState, step: jax.Array) -> LossResult:
        del step
        return crossed_cosine_distance(online, target) / 2, framework_state, {}

    return Framework(
        projector=MlpHead((hidden, hidden), out, out_norm="plain", dtype=dtype),
        predictor=MlpHead((predictor_hidden,), out, out_bias=True, dtype=dtype),
        loss=loss,
        collapse=Collapse(0.0, "0: every prediction equals every target", 0.0025),
        target="self",
        in_microbatches="BatchNorm sees one microbatch; there are no negatives",
    )


SPEC = Spec(
    title="SimSiam",
    build=build,
    digits={"epochs": 50.0, "framework.hidden": 256, "framework.out": 64},
    tiny={"framework.hidden": 64, "framework.out": 64, "framework.predictor_hidden": 32},
)
