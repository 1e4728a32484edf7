"""A batch computed in microbatches, one after another: memory holds the activations of one (config.accumulate)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from repre_jax.core.errors import UserError
from repre_jax.core.types import TrainState

Metrics = dict[str, jax.Array]
Carried = dict[str, Any]  # fields of the state that a forward pass moves, such as framework_state and batch_stats
Gradients = tuple[Any, Carried, Metrics]  # gradients like state.params, what is carried on, what to log
# (state, a batch or microbatch, int32 places of its rows in the batch, its base key) -> Gradients
GradientsOf = Callable[[TrainState, Any, jax.Array, jax.Array], Gradients]

KEY = 2**31  # the base key of microbatch m is folded with KEY + m, which no step comes to


def mean(gradients_of: GradientsOf, state: TrainState, batch: Any, count: int) -> Gradients:
    """Mean of gradients and metrics over `count` microbatches, and the carried fields that the last one leaves.

    batch: a tree of arrays [B, ...]. Microbatch m has the rows m, m + count, ...: each device has an equal share of
    every microbatch, so that no row moves. Queues, centres and running statistics pass from one to the next. Its base
    key is for what is drawn once a microbatch, such as dropped paths; a whole batch has state.rng.
    Raises UserError when count does not divide B.
    """
    rows = jnp.arange(len(jax.tree.leaves(batch)[0]))
    if count == 1:
        return gradients_of(state, batch, rows, state.rng)
    if len(rows) % count:
        raise UserError(
            f"A batch of {len(rows)} cannot be computed in {count} microbatches.\n  expected: a multiple of it"
        )

    def cut(x: jax.Array, number: jax.Array) -> jax.Array:
        """[B, ...] -> [B / count, ...]"""
        return jax.lax.dynamic_index_in_dim(
            x.reshape(len(x) // count, count, *x.shape[1:]), number, axis=1, keepdims=False
        )

    def add(carry: tuple[Any, Carried], number: jax.Array) -> tuple[tuple[Any, Carried], Metrics]:
        total, carried = carry
        microbatch, places = jax.tree.map(lambda x: cut(x, number), (batch, rows))
        key = jax.random.fold_in(state.rng, jnp.uint32(KEY) + number)
        gradients, moved, metrics = gradients_of(dataclasses.replace(state, **carried), microbatch, places, key)
        return (jax.tree.map(jnp.add, total, gradients), carried | moved), metrics

    carried = {name: getattr(state, name) for name in ("framework_state", "batch_stats")}
    start = (jax.tree.map(jnp.zeros_like, state.params), carried)
    (total, carried), metrics = jax.lax.scan(add, start, jnp.arange(count, dtype=jnp.uint32))
    gradients = jax.tree.map(lambda x: x / count, total)
    return gradients, carried, jax.tree.map(lambda x: x.mean(axis=0), metrics)
