"""A whole split segmented by sliding windows, on all devices of all processes, and counted in one confusion matrix."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from repre_jax.core import sharding
from repre_jax.core.types import LabelMaps, Records
from repre_jax.data import segmentation_views
from repre_jax.data.label_classes import Classes
from repre_jax.data.subset import Subset
from repre_jax.evaluation import confusion, sliding_window, windows
from repre_jax.evaluation.batches import check_readable, eval_batches, never
from repre_jax.evaluation.windows import PLAIN, Pass, Size, SlidingTest

PIXELS = 2**20  # of a device's images at once, below which several are
MOST = 16  # images

# (variables of the network, float32 [N, *crop, C], normalised) -> float32 [N, *crop, classes]
LogitsOf = Callable[[Any, jax.Array], jax.Array]


class Segmented:
    """Counts what a network predicts for the images of a split.

    A device always has as many images at once, whatever the batches in training, so that a prediction does not change
    with the number of devices.
    """

    def __init__(
        self,
        records: Records,
        sizes: Mapping[Size, int],
        classes: Classes,
        how: SlidingTest,
        logits_of: LogitsOf,
        mesh: Mesh,
        *,
        align_corners: bool,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        trained: bool = False,
    ):
        """sizes: (height, width) of the images of `records`, see SegmentationData.sizes. align_corners: how logits are
        brought to the label maps' size. mean, std: per channel, of pixels in 0..1. trained: the network is, by this
        crop, for messages.

        Raises UserError for an image that is smaller than the crop.
        """
        self.records, self.how, self.mesh, self.classes = records, how, mesh, len(classes)
        self.layout = windows.layout(sizes, how, trained=trained)
        largest = max(math.prod(size) for size in (self.layout.canvas, *self.layout.scaled))
        self.at_once = max(1, min(MOST, PIXELS // largest))
        # Of several scales the device makes the images.
        within = how.within if how.scales == PLAIN else None
        self.view = segmentation_views.view_with_room(sizes, classes, len(mean), within)

        def on_one_device(variables: Any, batch: LabelMaps, passes: tuple[Pass, ...], there: jax.Array) -> Any:
            found = sliding_window.predict(
                lambda pixels: logits_of(variables, pixels),
                batch,
                passes,
                self.layout,
                how,
                mean=mean,
                std=std,
                align_corners=align_corners,
            )
            matrix = confusion.count(found, batch.label_maps, self.classes)
            return matrix[None], there.sum(dtype=jnp.int32)[None], found.astype(jnp.uint8)

        whole, split = PartitionSpec(), PartitionSpec("data")
        each = jax.shard_map(
            on_one_device, mesh=mesh, in_specs=(whole, split, split, split), out_specs=split, check_vma=False
        )
        everywhere = sharding.replicated(mesh)
        self._run = jax.jit(each, out_shardings=(everywhere, everywhere, sharding.along_batch(mesh)))
        self._shared = jax.jit(lambda predictions: predictions, out_shardings=everywhere)

    def confusion(
        self, variables: Any, should_stop: Callable[[], bool], max_unreadable: float
    ) -> tuple[np.ndarray, int]:
        """(int64 [classes, classes] over the split, rows the labels; number of images that were read).

        variables: float32, whole on each device. Raises Interrupted, and UserError when more than the share
        `max_unreadable` of the images cannot be read.
        """
        total, seen = np.zeros((self.classes, self.classes), np.int64), 0
        for found in self._batches(self.records, variables, "evaluating", should_stop):
            matrices, counts = jax.device_get(found[:2])
            total += matrices.sum(axis=0, dtype=np.int64)
            seen += int(counts.sum())
        check_readable(len(self.records), seen, max_unreadable)
        return total, seen

    def predicted(self, variables: Any, numbers: np.ndarray) -> np.ndarray:
        """The class of each pixel of the records of these numbers, all of which can be read: uint8 [n, *canvas], of
        which the size of each one's label map counts. The same in every process."""
        found = self._batches(Subset(self.records, numbers), variables, "segmenting", never)
        return np.concatenate([np.asarray(self._shared(predictions)) for _, _, predictions in found])[: len(numbers)]

    def _batches(
        self, records: Records, variables: Any, what: str, should_stop: Callable[[], bool]
    ) -> Iterator[tuple[jax.Array, jax.Array, jax.Array]]:
        """Of each batch: int32 [devices, classes, classes], the images that each device has counted, and predictions,
        uint8 [rows, *canvas], each image's on its device."""
        for batch, count in eval_batches(records, self.view, self.at_once * self.mesh.size, what, should_stop):
            rows = len(batch.images)
            there = (np.arange(rows) < count).astype(np.int32)
            sizes = np.asarray(batch.label_extents) * there[:, None]
            on_devices = sharding.shard_batch((batch, windows.passes(sizes, self.layout, self.how), there), self.mesh)
            yield self._run(variables, *on_devices)
