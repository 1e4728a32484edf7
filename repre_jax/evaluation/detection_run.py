"""A whole split put through a detector, on all devices of all processes, and compared with what is there."""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from repre_jax.core import sharding
from repre_jax.core.types import ObjectImages, Records
from repre_jax.data.detection import Categories
from repre_jax.data.detection_order import by_canvas
from repre_jax.data.detection_views import DetectionTestView
from repre_jax.data.object_index import ObjectIndex
from repre_jax.data.resizing import Resizing
from repre_jax.data.subset import Subset
from repre_jax.evaluation import detected
from repre_jax.evaluation.batches import check_readable, eval_batches
from repre_jax.evaluation.detected import BOXES, MASKS, Precision, Result
from repre_jax.models.detection.mask_rcnn import Found

PIXELS = 2**22  # of a device's images at once: three of 800 x 1344
MOST = 16  # images
WAITING = 64  # images whose masks may wait for a core; each keeps its batch

# (parameters, batch) -> what is found in it
DetectionsOf = Callable[[Any, ObjectImages], Found]


@dataclass(frozen=True)
class Measured:
    """What a detector finds in a split, the same in every process.

    boxes, masks: COCO's results, by the records' numbers and falling score; masks None of a detector of boxes.
    precision: by BOXES, and with masks MASKS. images: how many were read. overflow: in how many of them there were more
    candidates than are compared (mask_rcnn.Detecting). truth: what is there in these images, as COCO's files have it.
    """

    boxes: Sequence[Result]
    masks: Sequence[Result] | None
    precision: dict[str, Precision]
    images: int
    overflow: int
    truth: Mapping[str, list] = field(repr=False)


class DetectionRun:
    """Finds the objects in the images of a split.

    A device always has as many images at once, whatever the batches in training, so that what is found does not change
    with the number of devices or the batch size.
    """

    def __init__(
        self,
        records: Records,
        index: ObjectIndex,
        categories: Categories,
        how: Resizing,
        detections_of: DetectionsOf,
        mesh: Mesh,
        *,
        channels: int,
        masks: bool,
        one_class: bool = False,
    ):
        """records: data/detection.py's, of which index knows the sizes. masks: whether masks are predicted. one_class:
        as detected.precision takes it."""
        self.records, self.categories, self.mesh, self.masks = records, categories, mesh, masks
        self.one_class = one_class
        self.passes = [
            (DetectionTestView(how, canvas, channels), Subset(records, numbers), max(1, min(MOST, PIXELS // area)))
            for canvas, numbers in by_canvas(np.maximum(index.sizes, 1), how)  # 0 of what cannot be read
            for area in [canvas[0] * canvas[1]]
        ]
        self._known: dict[int, Mapping[str, Any]] = {}
        whole, split = PartitionSpec(), PartitionSpec("data")
        each = jax.shard_map(detections_of, mesh=mesh, in_specs=(whole, split), out_specs=split, check_vma=False)
        self._run = jax.jit(each, out_shardings=sharding.replicated(mesh))

    @property
    def at_once(self) -> int:
        """The most images that a device has."""
        return max(count for _, _, count in self.passes)

    def found(self, params: Any, should_stop: Callable[[], bool], max_unreadable: float) -> Measured:
        """Of the whole split. params: float32, whole on each device. Raises Interrupted, and UserError when more than
        the share `max_unreadable` of the images cannot be read."""
        rows = self.rows(params, should_stop)
        check_readable(len(self.records), len(rows), max_unreadable)
        boxes = [result for row in rows for result in row["boxes"]]
        masks = [result for row in rows for result in row["masks"]] if self.masks else None
        truth = self.truth([row["record"] for row in rows])
        precision = {BOXES: detected.precision(truth, boxes, BOXES, one_class=self.one_class)}
        if masks is not None:
            precision[MASKS] = detected.precision(truth, masks, MASKS, one_class=self.one_class)
        overflow = sum(row["overflow"] for row in rows)
        return Measured(boxes, masks, precision, len(rows), overflow, truth)

    def rows(self, params: Any, should_stop: Callable[[], bool]) -> list[dict[str, Any]]:
        """Of each image that can be read, by the records' numbers: 'record', its number; 'size', height and width;
        'boxes' and 'masks', COCO's results; 'overflow'. The same in every process. Raises Interrupted."""
        rows: list[dict[str, Any]] = []
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            waiting: deque[Future[dict[str, Any]]] = deque()
            for view, records, count in self.passes:
                for batch, there, found in self._batches(params, view, records, count, should_stop):
                    waiting.extend(pool.submit(self._row, batch, found, place) for place in range(there))
                    while len(waiting) > WAITING:
                        rows.append(waiting.popleft().result())
            rows += [row.result() for row in waiting]
        return sorted(_of_all_processes(rows), key=lambda row: row["record"])

    def truth(self, numbers: Sequence[int]) -> dict[str, list]:
        """What COCO's annotation file says of the records of these numbers, which can all be read."""
        return detected.ground_truth(map(self._record, numbers), self.categories)

    def _record(self, number: int) -> Mapping[str, Any]:
        """What a record says of its objects, read once."""
        if number not in self._known:
            record = self.records[number]
            self._known[number] = {key: record[key] for key in ("objects", "image_id")}
        return self._known[number]

    def _batches(
        self,
        params: Any,
        view: DetectionTestView,
        records: Records,
        count: int,
        should_stop: Callable[[], bool],
    ) -> Iterator[tuple[ObjectImages, int, Found]]:
        """(This process's batch, how many of it are records, what was found in it), each while the devices are at the
        next one."""
        before: tuple[ObjectImages, int, Found] | None = None
        for batch, there in eval_batches(records, view, count * self.mesh.size, "detecting", should_stop):
            now = batch, there, self._run(params, sharding.shard_batch(batch, self.mesh))
            if before is not None:
                yield self._here(*before)
            before = now
        if before is not None:
            yield self._here(*before)

    def _here(self, batch: ObjectImages, there: int, found: Found) -> tuple[ObjectImages, int, Found]:
        """The rows of this process."""
        first = jax.process_index() * len(batch.records)
        return batch, there, jax.tree.map(lambda x: np.asarray(x)[first : first + len(batch.records)], found)

    def _row(self, batch: ObjectImages, found: Found, place: int) -> dict[str, Any]:
        """What is found in one image, as JSON has it."""
        number = int(batch.records[place])
        some = np.asarray(found.valid[place])
        height, width = batch.sizes[place].tolist()
        of_image = detected.Detections(
            image_id=self._record(number)["image_id"],
            size=(height, width),
            boxes=np.asarray(found.boxes[place])[some],
            scores=np.asarray(found.scores[place])[some],
            classes=np.asarray(found.classes[place])[some],
            masks=None if found.masks is None else np.asarray(found.masks[place])[some],
        )
        return {
            "record": number,
            "size": [height, width],
            "boxes": of_image.of_boxes(self.categories),
            "masks": of_image.of_masks(self.categories),
            "overflow": bool(found.overflow[place]),
        }


def _of_all_processes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all, in every process."""
    if jax.process_count() == 1:
        return rows
    mine = np.frombuffer(json.dumps(rows).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(mine)))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(mine)] = mine
    gathered = multihost_utils.process_allgather(padded)
    return [row for text, size in zip(gathered, sizes, strict=True) for row in json.loads(text[:size].tobytes())]
