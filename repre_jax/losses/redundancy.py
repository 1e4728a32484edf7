"""VICReg's three terms over the global batch: agreement of two views, spread and independence of the dimensions.

Embeddings are [B, E], of any scale. Each term is a float32 scalar, at least 0.
"""

import jax
import jax.numpy as jnp

WANTED_DEVIATION = 1.0  # of every dimension over the batch
EPSILON = 1e-4  # added to the variance: a square root has no finite gradient at 0, where a collapsed batch would be


def invariance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean squared error between the two views' embeddings, over records and dimensions."""
    return jnp.mean(jnp.square(a.astype(jnp.float32) - b.astype(jnp.float32)))


def variance(x: jax.Array) -> jax.Array:
    """Mean over the dimensions of how far each one's standard deviation over the batch falls short of 1.

    x: [B, E], B at least 2 (the variance is the unbiased one). 0.99 when all embeddings are equal.
    """
    deviation = jnp.sqrt(jnp.var(x.astype(jnp.float32), axis=0, ddof=1) + EPSILON)
    return jnp.mean(jnp.maximum(0.0, WANTED_DEVIATION - deviation))


def covariance(x: jax.Array) -> jax.Array:
    """Sum of the squared covariances of different dimensions, over the width: 0 when no dimension tells of another.

    x: [B, E], B at least 2 (the covariance is the unbiased one). The product is in full float32: neither TF32 nor
    bfloat16.
    """
    count, width = x.shape
    centred = x.astype(jnp.float32)
    centred = centred - centred.mean(axis=0)
    products = jnp.matmul(centred.T, centred, precision="highest") / (count - 1)
    different = ~jnp.eye(width, dtype=bool)
    return jnp.sum(jnp.where(different, jnp.square(products), 0.0)) / width
