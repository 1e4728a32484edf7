"""DINO (Caron et al., 2021): a student matches its momentum teacher over prototypes, from views of two sizes.

Head: dino vision_transformer.py:257-291. Loss and centre: main_dino.py:363-416. Target: moved after the optimiser's
step, main_dino.py:343-350. The frozen prototypes of the first epoch are a rule of the optimiser.
"""

import math

import jax
import jax.numpy as jnp
from flax.typing import Dtype

from repre_jax.core.errors import UserError
from repre_jax.core.schedules import Plan, linear_by_epoch
from repre_jax.frameworks.base import Collapse, Framework, FrameworkState, LossResult, Spec, check_widths
from repre_jax.models.heads import PrototypeHead


def build(
    plan: Plan,
    *,
    hidden: int,
    bottleneck: int,
    out: int,
    train_gain: bool,
    batch_norm: bool,
    temperature: float,
    teacher_temperature: tuple[float, float],
    teacher_warmup_epochs: float,
    centre_momentum: float,
    dtype: Dtype,
) -> Framework:
    """hidden, bottleneck, out: 2048, 256 and 65,536 prototypes in the paper. train_gain: learn the prototypes' lengths.
    batch_norm: in the head; DINO has it off for ViT.

    temperature: the student's, 0.1. teacher_temperature: first and last, over teacher_warmup_epochs one value an epoch.
    centre_momentum: 0.9.
    """
    check_widths(hidden=hidden, bottleneck=bottleneck, out=out)
    if len(teacher_temperature) != 2 or not all(isinstance(t, int | float) and t > 0 for t in teacher_temperature):
        raise UserError(
            f"framework.teacher_temperature is {teacher_temperature}.\n  expected: two numbers above 0, first and last"
        )
    warming = linear_by_epoch(*teacher_temperature, teacher_warmup_epochs, plan.planned_epoch)

    def loss(online: jax.Array, target: jax.Array, framework_state: FrameworkState, step: jax.Array) -> LossResult:
        teacher_temperature = warming(step)
        target = target.astype(jnp.float32)
        teacher = jax.nn.softmax((target - framework_state["centre"]) / teacher_temperature)
        value = across_views(teacher, jax.nn.log_softmax(online.astype(jnp.float32) / temperature))
        centre = centre_momentum * framework_state["centre"] + (1 - centre_momentum) * target.mean(axis=(0, 1))
        entropy = jax.scipy.special.entr(teacher).sum(axis=-1).mean()
        metrics = {"teacher_temperature": jnp.float32(teacher_temperature), "teacher_entropy": entropy}
        return value, {"centre": centre}, metrics

    return Framework(
        projector=PrototypeHead(hidden, bottleneck, out, train_gain, batch_norm, dtype),
        loss=loss,
        collapse=Collapse(
            math.log(out),
            "ln(prototypes)",
            0.02,
            remedies=(
                "a lower --config.framework.teacher_temperature, if the entropy is near ln(prototypes)",
                "--config.framework.momentum nearer to 1, if the entropy is near 0 or jumps",
            ),
        ),
        local_views=True,
        init_framework_state=lambda key: {"centre": jnp.zeros(out, jnp.float32)},
        in_microbatches="the centre moves with each microbatch"
        + ("; BatchNorm sees one microbatch" if batch_norm else ""),
    )


def across_views(teacher: jax.Array, log_student: jax.Array) -> jax.Array:
    """Mean cross-entropy over all pairs of a teacher's view and another view of the student.

    teacher: [B, V, K] probabilities. log_student: [B, V + L, K] log-probabilities, the teacher's views first.
    """
    pairs = -jnp.einsum("bgk,bvk->gv", teacher, log_student, precision="highest") / len(teacher)
    other = 1 - jnp.eye(pairs.shape[0], pairs.shape[1], dtype=pairs.dtype)
    return (pairs * other).sum() / other.sum()


SPEC = Spec(
    title="DINO",
    build=build,
    evaluated="target",  # the teacher
    ranges={"temperature": (1e-6, 1e6), "teacher_warmup_epochs": (0, 1e9), "centre_momentum": (0, 1)},
    digits={
        "epochs": 50.0,
        "encoder.variant": "moco_v3",
        "encoder.drop_path": 0.0,
        "framework.hidden": 256,
        # A small network's features differ too little from one digit to the next for a head without BatchNorm: it
        # collapses.
        "framework.batch_norm": True,
        "framework.bottleneck": 64,
        "framework.out": 256,
        "framework.momentum": 0.97,
        "framework.teacher_temperature": (0.04, 0.04),
        "framework.teacher_warmup_epochs": 0.0,
        "augment.local_scale": (0.5, 1.0),
        "optim.lr": 4e-3,
        "optim.weight_decay_end": 0.04,
    },
    tiny={"framework.hidden": 64, "framework.out": 64, "framework.bottleneck": 32},
)
