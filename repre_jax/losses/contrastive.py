"""Contrastive losses over the global batch: what frameworks are made of. Embeddings are [B, E], of any scale."""

import jax
import jax.numpy as jnp
import optax

from repre_jax.core.numerics import l2_normalize


def info_nce(queries: jax.Array, keys: jax.Array, temperature: float) -> jax.Array:
    """Mean cross-entropy of finding each query's own key among all keys (RePre Eq. 1).

    queries, keys: [B, E]; row b of both belongs to record b, the other rows are its negatives.
    temperature:   unitless, above 0.
    Returns a float32 scalar, at least 0; ln(B) when every key looks alike.
    """
    logits = _cosines(queries, keys) / temperature
    return _cross_entropy(logits, jnp.arange(logits.shape[0]))


def queue_info_nce(queries: jax.Array, keys: jax.Array, queue: jax.Array, temperature: float) -> jax.Array:
    """Mean cross-entropy of telling each query's own key from the queue's; other keys of the batch are no negatives.

    queries, keys: [B, E]. queue: [Q, E], of length 1. Returns a float32 scalar, at least 0; ln(1 + Q) when all look
    alike (moco moco/builder.py:152-173).
    """
    positive = jnp.sum(l2_normalize(queries) * l2_normalize(keys), axis=-1, keepdims=True)
    negative = jnp.matmul(l2_normalize(queries), queue.T, precision="highest")
    logits = jnp.concatenate([positive, negative], axis=1) / temperature
    return _cross_entropy(logits, jnp.zeros(logits.shape[0], jnp.int32))


def nt_xent(a: jax.Array, b: jax.Array, temperature: float) -> jax.Array:
    """SimCLR's: each embedding finds its other view among the 2B - 1 others; the means of both views, summed.

    a, b: [B, E], the two views. Returns a float32 scalar, at least 0; 2 ln(2B - 1) when all look alike
    (simclr objective.py:53-86; other libraries take half of it).
    """
    labels = jnp.arange(a.shape[0])
    myself = jnp.eye(a.shape[0], dtype=bool)

    def one_view(own: jax.Array, other: jax.Array) -> jax.Array:
        same = jnp.where(myself, -1e9, _cosines(own, own) / temperature)
        return _cross_entropy(jnp.concatenate([_cosines(own, other) / temperature, same], axis=1), labels)

    return one_view(a, b) + one_view(b, a)


def crossed_cosine_distance(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean of 1 - cos between each view's prediction and the other view's target, both directions summed: 0..4.

    predictions, targets: [B, 2, E]. Written as half the squared distance of unit vectors, which rounding cannot bring
    below 0.
    """
    difference = l2_normalize(predictions) - l2_normalize(targets[:, ::-1])
    return jnp.sum(difference * difference, axis=(1, 2)).mean() / 2


def _cosines(a: jax.Array, b: jax.Array) -> jax.Array:
    """[A, E], [B, E] -> [A, B], in full float32: neither TF32 nor bfloat16."""
    return jnp.matmul(l2_normalize(a), l2_normalize(b).T, precision="highest")


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
