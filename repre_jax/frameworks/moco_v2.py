"""MoCo v2 (Chen, Fan, Girshick and He, 2020): tell the momentum encoder's key from a queue of earlier ones.

Head: moco moco/builder.py:34-41 (two layers, no BatchNorm). Loss: moco/builder.py:137-173, one direction: view 1 asks,
view 2 is the key, so the online network sees view 1 only and the target view 2 only. Target: moved before it is used.
The shuffling of the key batch over GPUs is there for a BatchNorm per GPU, which neither the encoders nor this head
have.
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
from repre_jax.losses import contrastive
from repre_jax.losses.queue import advance, enqueue, random_keys
from repre_jax.models.heads import MlpHead


def build(plan: Plan, *, hidden: int | None, out: int, queue: int, temperature: float, dtype: Dtype) -> Framework:
    """hidden: None for the feature's own width. out, queue, temperature: 128, 65,536 keys and 0.2 in the paper."""
    check_widths(hidden=hidden, out=out)
    check_queue(queue, plan)

    def init_framework_state(key: jax.Array) -> FrameworkState:
        return {"queue": random_keys(key, queue, out), "pointer": jnp.zeros((), jnp.int32)}

    def loss(online: jax.Array, target: jax.Array, framework_state: FrameworkState, step: jax.Array) -> LossResult:
        del step
        queries, keys = online[:, 0], target[:, 0]
        value = contrastive.queue_info_nce(queries, keys, framework_state["queue"], temperature)
        pointer = framework_state["pointer"]
        return (
            value,
            {
                "queue": enqueue(framework_state["queue"], keys, pointer),
                "pointer": advance(pointer, len(keys), queue),
            },
            {},
        )

    return Framework(
        projector=MlpHead((hidden,), out, batch_norm=False, hidden_bias=True, out_bias=True, dtype=dtype),
        loss=loss,
        collapse=Collapse(math.log(1 + queue), "ln(1 + queue)", 0.02, QUEUE_REMEDIES),
        ema_lead=1,
        online_views=1,
        target_views=1,
        init_framework_state=init_framework_state,
        in_microbatches="negatives are the queue's as ever, which each microbatch's keys join before the next",
    )


SPEC = Spec(
    title="MoCo v2",
    build=build,
    ranges={"queue": (1, math.inf), "temperature": (1e-6, 1e6)},
    digits={
        "epochs": 50.0,
        "optim.lr": 6e-3,
        "framework.hidden": 256,
        "framework.out": 64,
        "framework.queue": 256,
        # Keys of a target that moves as fast as the other frameworks' can be told apart by their age.
        "framework.momentum": 0.99,
        "framework.momentum_end": 0.99,
    },
    tiny={"framework.hidden": 64, "framework.out": 64, "framework.queue": 64},
)
