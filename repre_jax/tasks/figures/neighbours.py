"""Images and the training images that lie nearest to them by the pooled feature."""

from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from repre_jax.evaluation import knn
from repre_jax.models import features
from repre_jax.report.figures import neighbours
from repre_jax.tasks.figures.subject import Shown, Subject


def draw(subject: Subject) -> Figure:
    """Raises NotPossible when the data set cannot be opened."""
    (queries, similarity, found), config = nearest(subject), subject.config
    names = np.array(subject.names(found.labels), object).reshape(similarity.shape)
    bank = min(config.figures.bank, len(subject.dataset.train))
    caption = f"Cosine similarity of the {config.feature} feature, among {bank:,} training images of "
    caption += f"{subject.dataset.name}."
    if (queries.labels >= 0).any() and (found.labels >= 0).any():
        caption += " Red frame and ✗: of another class."
    return neighbours.draw(
        queries.pixels,
        subject.names(queries.labels),
        found.pixels.reshape(*similarity.shape, *found.pixels.shape[1:]),
        names.tolist(),
        similarity,
        title=f"Nearest neighbours\n{subject.whose}",
        caption=caption,
    )


def nearest(subject: Subject) -> tuple[Shown, np.ndarray, Shown]:
    """The n queries, cosine similarities float32 [n, k], and the n * k neighbours, query by query.

    As k-NN finds them, in the same bank as pre-training's own; a query that lies in the bank is no neighbour of its
    own.
    """
    config, train = subject.config, subject.dataset.train
    queries = subject.shown

    def encode(params: dict[str, Any], images: jax.Array) -> jax.Array:
        return features.extract(subject.encoder, config.feature, params, images)

    of_queries = subject.run(encode, queries.images)
    numbers = np.linspace(0, len(train) - 1, min(config.figures.bank, len(train))).astype(int)
    of_bank, numbers = subject.features(train, numbers, "training images")
    own = queries.numbers if subject.split[0] is train else None
    similarity, places = knn.nearest(of_bank, of_queries, k=config.figures.k + (own is not None), mesh=subject.mesh)
    if own is not None:
        similarity, places = _without(numbers[places] == own[:, None], similarity, places)
    found = numbers[places]
    shown = subject.records(train, found.ravel(), found.size)
    return queries, similarity, shown


def _without(itself: np.ndarray, *tables: np.ndarray) -> list[np.ndarray]:
    """Each table [n, k] less one column: the one that is the query itself, else the last."""
    keep = ~itself
    keep[~itself.any(axis=1), -1] = False
    return [table[keep].reshape(len(table), -1) for table in tables]
