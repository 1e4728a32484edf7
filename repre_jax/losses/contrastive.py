"""Contrastive losses over the global batch."""

import jax
import jax.numpy as jnp
import optax


def l2_normalize(x: jax.Array) -> jax.Array:
    """x / |x| along the last axis, in float32. The norm is kept above 1e-12, as in torch's F.normalize."""
    x = x.astype(jnp.float32)
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def info_nce(queries: jax.Array, keys: jax.Array, temperature: float) -> jax.Array:
    """Mean cross-entropy of finding each query's own key among all keys (RePre Eq. 1).

    queries, keys: [B, E], any scale; row b of both belongs to record b, the other rows are its negatives.
    temperature:   unitless, above 0.
    Returns a float32 scalar, at least 0; ln(B) when every key looks alike.
    """
    cosines = jnp.matmul(l2_normalize(queries), l2_normalize(keys).T, precision="highest")  # not TF32 or bfloat16
    logits = cosines / temperature
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(logits.shape[0])).mean()
