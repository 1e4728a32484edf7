"""MoBY (Xie et al., 2021): MoCo v2's queues and BYOL's predictor, both directions, with one queue a view.

Heads: MoBY models/moby.py:57-59, 170-188. Loss and queues: models/moby.py:102-165; the keys of a batch join the queues
after the loss. Target: moved before it is used, models/moby.py:139-151, and without drop path.
"""

import math

import jax
import jax.numpy as jnp
from flax.typing import Dtype

from repre_jax.core.schedules import Plan
from repre_jax.frameworks.base import (
    QUEUE_REMEDIES,
    Collapse,
    Framework,
    FrameworkState,
    LossResult,
    Spec,
    check_queue,
    check_widths,
)
from repre_jax.losses.contrastive import queue_info_nce
from repre_jax.losses.queue import advance, enqueue, random_keys
from repre_jax.models.heads import MlpHead


def build(plan: Plan, *, hidden: int, out: int, queue: int, temperature: float, dtype: Dtype) -> Framework:
    """hidden, out, queue, temperature: 4096, 256, 4096 keys a view and 0.2 in the paper."""
    check_widths(hidden=hidden, out=out)
    check_queue(queue, plan)

    def init_framework_state(key: jax.Array) -> FrameworkState:
        first, second = jax.random.split(key)
        return {
            "queue1": random_keys(first, queue, out),
            "queue2": random_keys(second, queue, out),
            "pointer": jnp.zeros((), jnp.int32),
        }

    def loss(online: jax.Array, target: jax.Array, framework_state: FrameworkState, step: jax.Array) -> LossResult:
        del step
        q1, q2, k1, k2 = online[:, 0], online[:, 1], target[:, 0], target[:, 1]
        value = queue_info_nce(q1, k2, framework_state["queue2"], temperature) + queue_info_nce(
            q2, k1, framework_state["queue1"], temperature
        )
        pointer = framework_state["pointer"]
        return (
            value,
            {
                "queue1": enqueue(framework_state["queue1"], k1, pointer),
                "queue2": enqueue(framework_state["queue2"], k2, pointer),
                "pointer": advance(pointer, len(k1), queue),
            },
            {},
        )

    def head() -> MlpHead:
        return MlpHead((hidden,), out, hidden_bias=True, out_bias=True, dtype=dtype)

    return Framework(
        projector=head(),
        predictor=head(),
        loss=loss,
        collapse=Collapse(2 * math.log(1 + queue), "2 ln(1 + queue)", 0.02, QUEUE_REMEDIES),
        ema_lead=1,
        init_framework_state=init_framework_state,
        in_microbatches="BatchNorm sees one microbatch; the queues' keys grow by each before the next",
    )


SPEC = Spec(
    title="MoBY",
    build=build,
    ranges={"queue": (1, math.inf), "temperature": (1e-6, 1e6)},
    digits={
        "epochs": 50.0,
        "encoder.drop_path": 0.0,
        "framework.hidden": 256,
        "framework.out": 64,
        "framework.queue": 512,
        "framework.momentum": 0.9,  # a short run needs a quick target
    },
    tiny={"framework.hidden": 64, "framework.out": 64, "framework.queue": 64},
)
