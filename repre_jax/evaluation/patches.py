"""Patches of images with label maps: what frozen encoders give of each, and what can be asked of it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from repre_jax.core.sharding import shard_batch
from repre_jax.core.types import LabelMaps, Records
from repre_jax.data import loader
from repre_jax.data.segmentation_views import SegmentationCentreView
from repre_jax.evaluation.batches import check_readable, eval_batches

ENOUGH = 0.5  # share of a patch's pixels that are scored: with fewer it has no class
OBJECT = 0.5  # share of its scored pixels that are of objects: with as many it is one

# (batch, bool [B]: which rows are records) -> the same and what each encoder gives: (float32 [B, T, F], float32 [B, D])
Encode = Callable[[LabelMaps, jax.Array], tuple[LabelMaps, jax.Array, list[tuple[jax.Array, jax.Array]]]]


@dataclass(frozen=True)
class Patches:
    """T patches of each of N images, of side x side pixels.

    tokens: of each encoder float32 [N, T, F]. pooled: of each float32 [N, D].
    pixels: uint8 [N, T, side * side, C]. inside: bool [N, T], whether all of the patch is image.
    counts: int32 [N, T, classes], how many of its pixels are of each class; what is ignored is of none.
    """

    tokens: list[np.ndarray]
    pooled: list[np.ndarray]
    pixels: np.ndarray
    inside: np.ndarray
    counts: np.ndarray

    @property
    def scored(self) -> np.ndarray:
        """bool [N, T]: it has a class."""
        return self.counts.sum(axis=-1) >= ENOUGH * self.pixels.shape[2]

    @property
    def majority(self) -> np.ndarray:
        """int [N, T]: the class of most of its pixels, of equals the first."""
        return self.counts.argmax(axis=-1)

    def objects(self, background: Collection[int]) -> np.ndarray:
        """bool [N, T]: it counts as object. background: the classes that are none."""
        of_objects = np.delete(self.counts, list(background), axis=-1).sum(axis=-1)
        return of_objects >= OBJECT * np.maximum(self.counts.sum(axis=-1), 1)

    def of_images(self, chosen: np.ndarray) -> "Patches":
        """bool [N] -> those of some of the images."""
        tokens, pooled = ([each[chosen] for each in arrays] for arrays in (self.tokens, self.pooled))
        return Patches(tokens, pooled, self.pixels[chosen], self.inside[chosen], self.counts[chosen])


def in_patches(images: np.ndarray, side: int) -> np.ndarray:
    """[N, H, W, C] -> [N, patches, side * side, C], patches and their pixels row by row."""
    count, height, width, channels = images.shape
    cut = images.reshape(count, height // side, side, width // side, side, channels).swapaxes(2, 3)
    return cut.reshape(count, -1, side * side, channels)


def of_batch(
    batch: LabelMaps, encoded: list[tuple[np.ndarray, np.ndarray]], numbers: np.ndarray, side: int, classes: int
) -> Patches:
    """Of arrays in NumPy. numbers: which patches of an image. encoded: of each encoder its tokens of these patches, and
    what it pools."""
    labels = in_patches(np.asarray(batch.label_maps)[..., None], side)[..., 0][:, numbers]
    height, width = np.asarray(batch.images).shape[1:3]
    places = np.moveaxis(np.mgrid[:height, :width], 0, -1)
    last = in_patches(places[None], side)[0, numbers, -1]  # row and column of the lower right pixel of each patch
    extents = np.asarray(batch.extents)
    return Patches(
        tokens=[tokens for tokens, _ in encoded],
        pooled=[pooled for _, pooled in encoded],
        pixels=in_patches(np.asarray(batch.images), side)[:, numbers],
        inside=(last < extents[:, None]).all(axis=-1),
        counts=np.stack([(labels == number).sum(axis=-1, dtype=np.int32) for number in range(classes)], axis=-1),
    )


def numbers_of(size: tuple[int, int], side: int, limit: int) -> np.ndarray:
    """At most `limit` patches of an image of this size, evenly spaced over them."""
    return loader.numbers((size[0] // side) * (size[1] // side), limit)


def read(
    records: Records,
    view: SegmentationCentreView,
    encode: Encode,
    mesh: Mesh,
    *,
    numbers: np.ndarray,
    side: int,
    batch_size: int,
    limit: int,
    what: str,
    should_stop: Callable[[], bool],
    max_unreadable: float,
) -> Patches:
    """Of at most `limit` images, evenly spaced over the records; the same in every process.

    encode: of all rows, its results whole in every process. numbers: the patches of an image that it gives.
    Raises Interrupted, and UserError where more than the share `max_unreadable` of the images cannot be read.
    """
    found: list[Patches] = []
    for batch, count in eval_batches(records, view, batch_size, what, should_stop, limit=limit):
        there = np.arange(len(batch.images)) < count
        everywhere: Any = jax.device_get(encode(*shard_batch((batch, there), mesh)))
        whole, rows, encoded = everywhere
        found.append(of_batch(whole, encoded, numbers, side, len(view.classes)).of_images(rows))
    images = sum(len(each.inside) for each in found)
    check_readable(min(limit, len(records)), images, max_unreadable)
    return _joined(found)


def _joined(parts: list[Patches]) -> Patches:
    encoders = range(len(parts[0].tokens))
    return Patches(
        tokens=[np.concatenate([part.tokens[number] for part in parts]) for number in encoders],
        pooled=[np.concatenate([part.pooled[number] for part in parts]) for number in encoders],
        pixels=np.concatenate([part.pixels for part in parts]),
        inside=np.concatenate([part.inside for part in parts]),
        counts=np.concatenate([part.counts for part in parts]),
    )


def held_out(images: int, share: float) -> np.ndarray:
    """bool [images]: this share of them, evenly spaced."""
    ends = np.floor(np.arange(images + 1) * share + 1e-9)
    return np.diff(ends) > 0
