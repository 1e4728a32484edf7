"""Arithmetic that more than one room needs."""

import jax
import jax.numpy as jnp


def l2_normalize(x: jax.Array, axis: int = -1) -> jax.Array:
    """x / |x| along `axis`, in float32. The norm is kept above 1e-12, as in torch's F.normalize."""
    x = x.astype(jnp.float32)
    squared = jnp.sum(x * x, axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def single(value: jax.Array) -> jax.Array:
    """A schedule's value in float32: with JAX's 64-bit mode on, what divides a whole number is float64. A Python number
    stays one, as it takes the dtype of what it meets."""
    return value.astype(jnp.float32) if isinstance(value, jax.Array) else value
