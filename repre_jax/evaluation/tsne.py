"""Features on a plane, and how well classes lie apart there and where they come from."""

from dataclasses import dataclass

import numpy as np

from repre_jax.core.errors import UserError

PERPLEXITY = 30.0  # scikit-learn's default


@dataclass(frozen=True)
class Embedding:
    """points: float32 [records, 2]. silhouette, silhouette_2d: -1..1 (Rousseeuw 1987), of the features by cosine
    distance and of the points by Euclidean distance."""

    points: np.ndarray
    silhouette: float
    silhouette_2d: float


def embed(features: np.ndarray, labels: np.ndarray, seed: int) -> Embedding:
    """features: [records, D], at least 4. labels: int [records], of at least two classes, and fewer than records.

    scikit-learn's t-SNE of the features at unit length, so that near means what k-NN means by it, begun with their
    first two principal components. One thread: the order of sums would change the map.
    Raises UserError when they are all equal: scikit-learn's would end the process.
    """
    from sklearn.manifold import TSNE  # slow to import
    from sklearn.metrics import silhouette_score
    from threadpoolctl import threadpool_limits

    features = np.asarray(features, np.float32)
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if not np.ptp(features, axis=0).any():
        raise UserError("All features are equal: the encoder has collapsed, and there is no map.")
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)  # as its authors advise for few records
    with threadpool_limits(1):
        points = TSNE(init="pca", perplexity=perplexity, random_state=seed % 2**32).fit_transform(features)
        return Embedding(
            points,
            float(silhouette_score(features, labels, metric="cosine")),
            float(silhouette_score(points, labels, metric="euclidean")),
        )


def choose(labels: np.ndarray, *, classes: int, per_class: int, seed: int) -> np.ndarray:
    """Which records to show, int64, rising: at most `per_class` of each of at most `classes` random classes.

    labels: int [records], -1 without one. A class must have two records: one alone is no cluster.
    """
    rng = np.random.default_rng(seed)
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    found = rng.permutation(found[counts > 1])[:classes]
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.sort(found)]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))
