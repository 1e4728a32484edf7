"""A batch computed in parts, one after another, so that memory holds the activations of one (config.accumulate)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from repre_jax.core.errors import UserError

Extra = dict[str, jax.Array]  # what a framework keeps; it passes from part to part
Gradients = tuple[Any, tuple[Extra, dict[str, jax.Array]]]  # like the parameters; the next extra, what to log
# (a part of the batch, its rows in the batch, extra, uint32 number of the part or None if it is all) -> Gradients
GradientsOfPart = Callable[[Any, jax.Array, Extra, jax.Array | None], Gradients]


def mean(of_part: GradientsOfPart, params: Any, batch: Any, extra: Extra, count: int) -> Gradients:
    """The mean of gradients and metrics over `count` parts, and the extra that the last part leaves.

    params: what the gradients are like. batch: a tree of arrays [B, ...].

    Part a has the rows a, a + count, ...: each device has an equal share of every part, so that none moves a row.
    """
    rows = jnp.arange(len(jax.tree.leaves(batch)[0]))
    if count == 1:
        return of_part(batch, rows, extra, None)
    if len(rows) % count:
        raise UserError(f"A batch of {len(rows)} cannot be computed in {count} parts.\n  expected: a multiple of it")

    def cut(x: jax.Array, part: jax.Array) -> jax.Array:
        """[B, ...] -> [B / count, ...]"""
        return jax.lax.dynamic_index_in_dim(x.reshape(-1, count, *x.shape[1:]), part, axis=1, keepdims=False)

    def add(carry: tuple[Any, Extra], part: jax.Array) -> tuple[tuple[Any, Extra], dict[str, jax.Array]]:
        total, extra = carry
        here, of_batch = jax.tree.map(lambda x: cut(x, part), (batch, rows))
        gradients, (extra, metrics) = of_part(here, of_batch, extra, part)
        return (jax.tree.map(jnp.add, total, gradients), extra), metrics

    start = (jax.tree.map(jnp.zeros_like, params), extra)
    (total, extra), metrics = jax.lax.scan(add, start, jnp.arange(count, dtype=jnp.uint32))
    return jax.tree.map(lambda x: x / count, total), (extra, jax.tree.map(lambda x: x.mean(axis=0), metrics))
