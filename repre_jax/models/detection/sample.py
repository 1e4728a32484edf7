"""Which anchors or proposals an image learns from: random ones, without replacement."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from repre_jax.models.detection.assign import BACKGROUND


class Sample(NamedTuple):
    """A static number of slots; the positives stand first, then the background, then empty slots.

    indices:  int32 [number] into what was sampled from, 0 in an empty slot.
    positive: bool [number], an object's.
    used:     bool [number], False in an empty slot.
    """

    indices: jax.Array
    positive: jax.Array
    used: jax.Array


def sample(key: jax.Array, assigned: jax.Array, number: int, positives: int) -> Sample:
    """Up to `positives` of those with an object, and of the background as many as fill `number`, or fewer.

    Each has the same chance: those of the largest random priorities are taken. assigned: int32 [N], `assign`'s. The
    key must be another one for each image. A mask head that takes the positives only finds them in the first
    `positives` slots.
    """
    size = assigned.shape[0]
    priorities = jax.random.uniform(key, (size,))
    with_object, picked = _largest(priorities, assigned > BACKGROUND, positives)
    background, picked_background = _largest(priorities, assigned == BACKGROUND, number)
    count = picked.sum()
    slots = jnp.arange(number)
    positive = slots < count
    used = positive | (slots - count < picked_background.sum())
    indices = jnp.where(
        positive, with_object[jnp.minimum(slots, positives - 1)], background[jnp.maximum(slots - count, 0)]
    )
    return Sample(jnp.where(used, indices, 0), positive, used)


def _largest(priorities: jax.Array, candidates: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """Indices int32 [number] of the candidates of largest priority, in front, and bool [number]: is it one?"""
    found, indices = lax.top_k(jnp.where(candidates, priorities, -1.0), min(number, priorities.shape[0]))
    missing = (0, number - indices.shape[0])
    return jnp.pad(indices, missing), jnp.pad(found, missing, constant_values=-1.0) >= 0
