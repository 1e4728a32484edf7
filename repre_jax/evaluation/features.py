"""Features of a whole split."""

from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.sharding import Mesh

from repre_jax.core.sharding import shard_batch


def extract(
    encode: Callable[[jax.Array], jax.Array], batches: Iterable[tuple[np.ndarray, np.ndarray]], mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """Runs `encode` over batches of (uint8 images [B, H, W, C], labels [n]), of which the first n images count.

    encode: uint8 [B, H, W, C] -> [B, D]. Returns float32 features [records, D] and int32 labels [records].
    """
    features, labels = [], []
    for images, known in batches:
        features.append(np.asarray(encode(shard_batch(images, mesh)), np.float32)[: len(known)])
        labels.append(known)
    return np.concatenate(features), np.concatenate(labels)
