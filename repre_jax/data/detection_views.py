"""Views of images with boxes and masks: resized, flipped and cropped for training, the whole image for tests.

What SwinOD does on the host (configs/swin/mask_rcnn_swin_tiny_patch4_window7_mstrain_480-800_adamw_1x_coco.py:27-61, by
mmdetection 2.11): image, boxes and masks go through the same steps. Masks follow OpenCV's nearest neighbour, which only
picks pixels, so that all steps together are one choice of rows and one of columns.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from pycocotools import mask as pycocotools_mask

from repre_jax.core.types import ObjectImages
from repre_jax.data import crops
from repre_jax.data.instances import Instances
from repre_jax.data.resizing import Placement, Resizing, Size
from repre_jax.data.segmentation_views import padded
from repre_jax.data.views import VALUE_RANGE, Sample

NO_RECORD = -1
BITS = 8


@dataclass(frozen=True)
class DetectionView:
    """A sample of ObjectImages for training, as Resizing draws it.

    The canvas is the larger one of `how`, or its transpose for what is higher than wide, so that a batch has to be of
    one orientation (data/detection_order.py). slots: G. Of an image with more objects G are drawn. masks: False leaves
    them out.
    """

    how: Resizing
    slots: int
    channels: int = 3
    masks: bool = True
    batch: ClassVar[Callable[..., ObjectImages]] = ObjectImages

    def __call__(self, record: Mapping, rng: np.random.Generator) -> Sample:
        found: Instances = record["objects"]
        image = crops.decode(record["image"], self.channels, record.get(VALUE_RANGE))
        if image.shape[:2] != found.size:
            stored, given = (f"{size[0]:,} x {size[1]:,}" for size in (image.shape, found.size))
            raise crops.UnreadableImage(f"An image of {stored} pixels, whose objects were marked on one of {given}.")
        placement = self.how.drawn(found.size, rng)
        canvas = self.how.canvas(placement.before_last(found.size))
        chosen = np.flatnonzero(found.trainable())
        boxes, there = moved(found.corners()[chosen], found.size, placement)
        boxes, chosen = boxes[there], chosen[there]
        if len(chosen) > self.slots:
            kept = np.sort(rng.permutation(len(chosen))[: self.slots])
            boxes, chosen = boxes[kept], chosen[kept]
        sample = _of_image(image, placement, canvas, record) | _in_slots(boxes, record["classes"][chosen], self.slots)
        masks = packed_masks(found, chosen, placement, canvas, self.slots) if self.masks else no_masks(self.slots)
        return sample | {"masks": masks}


@dataclass(frozen=True)
class DetectionTestView:
    """The whole image, resized to the largest of `how`, on `canvas`; without objects: ground truth is compared at the
    size of the stored image. Nothing is random."""

    how: Resizing
    canvas: Size
    channels: int = 3
    batch: ClassVar[Callable[..., ObjectImages]] = ObjectImages

    @property
    def filler(self) -> Sample:
        """A black pixel of no record."""
        pixel = np.zeros((1, 1, self.channels), np.uint8)
        record = {"record": NO_RECORD}
        return _without_objects(_of_image(pixel, Placement(flip=False, last=(1, 1)), self.canvas, record))

    def __call__(self, record: Mapping, rng: np.random.Generator) -> Sample:
        del rng
        return self.image(crops.decode(record["image"], self.channels, record.get(VALUE_RANGE)), record)

    def image(self, image: np.ndarray, record: Mapping | None = None) -> Sample:
        """The sample of a decoded image, uint8 [h, w, C], of any origin."""
        placement = self.how.tested((image.shape[0], image.shape[1]))
        return _without_objects(_of_image(image, placement, self.canvas, record or {"record": NO_RECORD}))


def _of_image(image: np.ndarray, placement: Placement, canvas: Size, record: Mapping) -> Sample:
    """All of a sample but its objects."""
    before, last = placement.before_last((image.shape[0], image.shape[1])), placement.last
    return padded(placed(image, placement), canvas) | {
        "records": np.int32(record["record"]),
        "scale": np.array(last, np.float32) / np.array(before, np.float32),
        "sizes": np.array(image.shape[:2], np.int32),
    }


def _without_objects(sample: Sample) -> Sample:
    return sample | _in_slots(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), 0) | {"masks": no_masks(0)}


def no_masks(slots: int) -> np.ndarray:
    """What ObjectImages.masks has of one image where there are none."""
    return np.zeros((slots, 0, 0), np.uint8)


def _in_slots(boxes: np.ndarray, classes: np.ndarray, slots: int) -> Sample:
    """The first slots hold the objects."""
    count = len(boxes)
    found = {"boxes": np.zeros((slots, 4), np.float32), "classes": np.zeros(slots, np.int32)}
    found["boxes"][:count], found["classes"][:count] = boxes, classes
    return {**found, "valid": np.arange(slots) < count}


def placed(image: np.ndarray, placement: Placement) -> np.ndarray:
    """uint8 [h, w, C] -> [*placement.last, C], by OpenCV's bilinear interpolation, which does not average where it
    shrinks: as the recipe has it."""
    if placement.flip and not placement.flip_last:
        image = cv2.flip(image, 1)
    if placement.crop is not None:
        first, (top, left, height, width) = placement.crop
        image = _bilinear(image, first)[top : top + height, left : left + width]
    image = _bilinear(image, placement.last)
    if placement.flip and placement.flip_last:
        image = cv2.flip(image, 1)
    return image.reshape(*placement.last, -1)  # OpenCV drops a single channel


def _bilinear(image: np.ndarray, size: Size) -> np.ndarray:
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def moved(corners: np.ndarray, size: Size, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of an image of `size`, float32 [N, 4] -> (the same on the placed image, cut at its edges; bool [N]: which
    of them are left). A crop leaves those with any area: there is no least one (mmdet transforms.py:681-708)."""
    boxes, there = corners.copy(), np.ones(len(corners), bool)
    if placement.flip and not placement.flip_last:
        boxes = _flipped(boxes, size[1])
    if placement.crop is not None:
        first, (top, left, height, width) = placement.crop
        boxes = _scaled(boxes, size, first)
        boxes = _cut(boxes - np.array((left, top, left, top), np.float32), (height, width))
        there = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes = _scaled(boxes, placement.before_last(size), placement.last)
    if placement.flip and placement.flip_last:
        boxes = _flipped(boxes, placement.last[1])
    return boxes, there


def _flipped(boxes: np.ndarray, width: int) -> np.ndarray:
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def _scaled(boxes: np.ndarray, size: Size, to: Size) -> np.ndarray:
    factors = np.array((to[1] / size[1], to[0] / size[0]) * 2, np.float32)
    return _cut(boxes * factors, to)


def _cut(boxes: np.ndarray, size: Size) -> np.ndarray:
    return np.clip(boxes, 0, np.array((size[1], size[0]) * 2, np.float32))


def packed_masks(found: Instances, chosen: np.ndarray, placement: Placement, canvas: Size, slots: int) -> np.ndarray:
    """Masks of the `chosen` objects on the placed image, uint8 [slots, H, ceil(W / 8)], a bit a pixel."""
    packed = np.zeros((slots, canvas[0], -(-canvas[1] // BITS)), np.uint8)
    rows, columns = picked(found.size, placement)
    for slot, place in enumerate(chosen.tolist()):
        stored = {"size": list(found.size), "counts": found.counts[place]}
        x, y, width, height = pycocotools_mask.toBbox(stored).astype(int).tolist()
        down = np.flatnonzero((rows >= y) & (rows < y + height))
        across = np.flatnonzero((columns >= x) & (columns < x + width))
        if len(down) and len(across):  # an empty mask has no box
            whole = pycocotools_mask.decode(stored)
            top, left, right = down[0], across[0] // BITS, across[-1] // BITS + 1
            part = np.zeros((len(down), (right - left) * BITS), np.uint8)
            part[:, across - left * BITS] = whole[rows[down]][:, columns[across]]
            packed[slot, top : top + len(down), left:right] = np.packbits(part, axis=-1)
    return packed


def picked(size: Size, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Which row and which column of a stored mask each row and column of the placed one is."""
    rows, columns = np.arange(size[0]), np.arange(size[1])
    if placement.flip and not placement.flip_last:
        columns = columns[::-1]
    if placement.crop is not None:
        first, (top, left, height, width) = placement.crop
        rows = rows[nearest(size[0], first[0])][top : top + height]
        columns = columns[nearest(size[1], first[1])][left : left + width]
    rows = rows[nearest(len(rows), placement.last[0])]
    columns = columns[nearest(len(columns), placement.last[1])]
    return rows, columns[::-1] if placement.flip and placement.flip_last else columns


@functools.lru_cache(maxsize=4096)
def nearest(size: int, to: int) -> np.ndarray:
    """What OpenCV's nearest neighbour picks of `size` pixels for each of `to`: asked of OpenCV itself, whose rounding
    is its own."""
    numbers = np.arange(size, dtype=np.float32)[None]
    return cv2.resize(numbers, (to, 1), interpolation=cv2.INTER_NEAREST)[0].astype(np.int64)
