"""The confusion matrix of a segmentation, and the numbers that sum it up: mIoU, mAcc, aAcc and the IoU of each class.

All images of a split are counted in one matrix before anything is divided, so that no number depends on batches,
devices or processes (SETR mmseg/core/evaluation/mean_iou.py:22-74).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from repre_jax.losses.segmentation import IGNORED


def count(predictions: jax.Array, label_maps: jax.Array, classes: int) -> jax.Array:
    """How many pixels of each class (row) were predicted as each (column): int32 [classes, classes], under jit too.

    Ignored pixels do not count, whatever was predicted there. At most 2^31 - 1 pixels; label_maps hold 0 .. classes - 1
    and IGNORED.
    """
    place = label_maps.astype(jnp.int32) * classes + predictions.astype(jnp.int32)
    place = jnp.where(label_maps == IGNORED, classes * classes, place)  # beyond the matrix, where it is dropped
    counts = jnp.zeros(classes * classes, jnp.int32).at[place.reshape(-1)].add(1, mode="drop")
    return counts.reshape(classes, classes)


@dataclass(frozen=True)
class Scores:
    """What one confusion matrix gives, shares 0..1.

    miou, macc: means over the classes that have one. aacc: of all pixels, that are predicted correctly.
    iou, acc:   of each class, NaN for one that has none.
    constant:   the mIoU of the best answer that is the same class everywhere.
    """

    miou: float
    macc: float
    aacc: float
    iou: np.ndarray
    acc: np.ndarray
    constant: float


def scores(matrix: np.ndarray) -> Scores:
    """Of int64 [classes, classes], rows the labels, columns the predictions.

    A class that is neither labelled nor predicted anywhere is left out of both means; one that is only predicted has an
    IoU of 0 and no accuracy. NaN where no pixel was counted.
    """
    matrix = np.asarray(matrix, np.int64)
    hits, labelled, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    iou, acc = _shares(hits, labelled + predicted - hits), _shares(hits, labelled)
    total = labelled.sum()
    # Everywhere class c: its IoU is its share of the pixels, that of every other labelled class 0.
    constant = labelled.max() / total / np.count_nonzero(labelled) if total else np.nan
    return Scores(
        miou=_mean(iou),
        macc=_mean(acc),
        aacc=float(hits.sum() / total) if total else np.nan,
        iou=iou,
        acc=acc,
        constant=float(constant),
    )


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    """Of those that are not NaN; NaN where none is."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else np.nan
