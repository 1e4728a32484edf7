"""DINO's weighted k-nearest-neighbour vote (dino eval_knn.py:146-196)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

TEMPERATURE = 0.07
CHUNK = 1024  # queries at a time: bounds the similarity matrix


@functools.partial(jax.jit, static_argnames=("classes", "k", "temperature"))
def vote(
    queries: jax.Array, bank: jax.Array, labels: jax.Array, *, classes: int, k: int, temperature: float
) -> jax.Array:
    """Predicted classes int32 [Q]. queries [Q, D] and bank [M, D] have unit length; labels int32 [M].

    Each of the k most similar records votes for its class with weight exp(cosine / temperature).
    """
    similarity, nearest = jax.lax.top_k(jnp.matmul(queries, bank.T, precision="highest"), k)
    ballots = jax.nn.one_hot(labels[nearest], classes) * jnp.exp(similarity / temperature)[..., None]
    return ballots.sum(axis=1).argmax(axis=-1)


def accuracy(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    classes: int,
    k: int,
    temperature: float = TEMPERATURE,
) -> float:
    """Share of test records that the vote names rightly, 0..1. k is cut to the number of train records."""
    bank = _unit(train_features)
    queries = _unit(test_features)
    predicted = [
        vote(chunk, bank, train_labels, classes=classes, k=min(k, len(bank)), temperature=temperature)
        for chunk in np.split(queries, range(CHUNK, len(queries), CHUNK))
    ]
    return float(np.mean(np.concatenate(predicted) == test_labels))


def _unit(features: np.ndarray) -> np.ndarray:
    features = features.reshape(len(features), -1).astype(np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
