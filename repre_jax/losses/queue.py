"""A queue of keys from earlier batches: negatives for MoCo v2 and MoBY."""

import jax
import jax.numpy as jnp

from repre_jax.core.numerics import l2_normalize


def random_keys(key: jax.Array, size: int, width: int) -> jax.Array:
    """[size, width]: random directions, for the time before the queue is full (moco moco/builder.py:49-55)."""
    return l2_normalize(jax.random.normal(key, (size, width), jnp.float32))


def enqueue(queue: jax.Array, keys: jax.Array, start: jax.Array) -> jax.Array:
    """The queue [Q, E] with the keys [B, E], normalised, at rows start .. start + B - 1.

    B must divide Q, so that a batch never runs over the end.
    """
    return jax.lax.dynamic_update_slice(queue, l2_normalize(keys), (start, jnp.zeros_like(start)))


def advance(start: jax.Array, batch: int, size: int) -> jax.Array:
    """Where the next batch goes; the oldest keys are the first to be replaced."""
    return (start + batch) % size
