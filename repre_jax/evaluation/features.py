"""Features of a whole split."""

import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.sharding import Mesh

from repre_jax.core.sharding import replicated, shard_batch

EMPTY = -2  # where a label would be: a row without a record


def extract(
    encode: Callable[[jax.Array], jax.Array], batches: Iterable[tuple[np.ndarray, np.ndarray]], mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """Runs `encode` over batches of (uint8 images, labels [n]), this process's rows, of which the first n count.

    encode: uint8 [B, H, W, C], all rows -> [B, D], in every process. Returns, in every process, float32 features
    [records, D] and int32 labels [records] of all of them, in the order of the split.
    """
    features, labels = zip(*(of_batch(encode, *batch, mesh) for batch in batches), strict=True)
    return np.concatenate(features), np.concatenate(labels)


def of_batch(
    encode: Callable[[jax.Array], jax.Array], images: np.ndarray, known: np.ndarray, mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of one batch's records, without what fills it up: float32 [records, D], int32 [records]."""
    labels = all_labels(known, len(images), mesh)
    counts = labels != EMPTY
    return np.asarray(encode(shard_batch(images, mesh)), np.float32)[counts], labels[counts]


def all_labels(known: np.ndarray, rows: int, mesh: Mesh) -> np.ndarray:
    """This process's labels [n] of `rows` rows -> those of every process's rows, int32 [B]; EMPTY beyond each n."""
    mine = np.full(rows, EMPTY, np.int32)
    mine[: len(known)] = known
    return mine if jax.process_count() == 1 else np.asarray(_gather(mesh)(shard_batch(mine, mesh)))


@functools.cache
def _gather(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda rows: rows, out_shardings=replicated(mesh))
