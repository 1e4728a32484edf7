"""Images with objects for measurements of detection, and what its parts are given by themselves: random, of a seed."""

from typing import Any

import jax
import numpy as np

from benchmarks import detection_program as program
from repre_jax.core.types import ObjectImages
from repre_jax.models.detection import targets
from repre_jax.models.detection.proposals import Proposals
from repre_jax.train.detection import Detection

OBJECTS = 8  # an image; COCO's images have 7.3 in the mean


def boxes(rng: np.random.Generator, count: int, canvas: tuple[int, int]) -> np.ndarray:
    """float32 [count, 4], x0, y0, x1, y1, within the canvas: sides from a 50th of its to all of it, small ones more."""
    height, width = canvas
    sides = np.array([width, height]) * np.exp(rng.uniform(np.log(0.02), 0, (count, 2)))
    low = rng.uniform(0, 1, (count, 2)) * (np.array([width, height]) - sides)
    return np.concatenate([low, low + sides], axis=1).astype(np.float32)


def batch(count: int, canvas: tuple[int, int], objects: int = OBJECTS) -> ObjectImages:
    """Images as large as the canvas with so many objects, whose masks are ellipses in their boxes."""
    rng, (height, width) = np.random.default_rng(0), canvas
    arrays = {name: np.zeros(x.shape, x.dtype) for name, x in vars(program.batch(count, canvas)).items()}
    arrays["images"] = rng.integers(0, 256, arrays["images"].shape, np.uint8)
    arrays["extents"][:] = arrays["sizes"][:] = canvas
    arrays["valid"][:, :objects] = True
    arrays["classes"][:, :objects] = rng.integers(0, program.CLASSES, (count, objects))
    arrays["scale"][:] = 1
    y, x = np.mgrid[:height, :width] + 0.5
    for image in range(count):
        arrays["boxes"][image, :objects] = boxes(rng, objects, canvas)
        for slot, (x0, y0, x1, y1) in enumerate(arrays["boxes"][image, :objects]):
            inside = ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 <= 1
            arrays["masks"][image, slot] = np.packbits(inside, axis=-1)
    found: dict[str, Any] = arrays
    return ObjectImages(**found)


def of_parts(method: Detection, canvas: tuple[int, int], given: ObjectImages) -> dict[str, tuple[Any, ...]]:
    """What detection_program's geometry is given, by its parts' names: of the batch's first image."""
    rng = np.random.default_rng(1)
    first: Any = jax.tree.map(lambda x: x[0], given)
    objects = targets.Objects(first.boxes, first.classes, first.valid)
    shapes = {part.name: part.given for part in (*program.parts(method, canvas), program.tested(method, canvas))}
    settings, key = method.sampling, np.array([0, 1], np.uint32)

    def normal(shape: Any, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape.shape, np.float32)).astype(shape.dtype)

    def proposals(count: int) -> Proposals:
        """Half of them near an object."""
        found = boxes(rng, count, canvas)
        near = rng.integers(0, int(first.valid.sum()), count // 2)
        found[: count // 2] = first.boxes[near] + rng.normal(0, 4, (count // 2, 4))
        found = np.stack([found[:, :2], np.maximum(found[:, 2:], found[:, :2] + 1)], axis=1).reshape(-1, 4)
        arrays: list[Any] = [found, np.sort(rng.random(count, np.float32))[::-1].copy(), np.ones(count, bool)]
        return Proposals(*arrays)

    logits, deltas, _ = shapes["proposals, NMS"]
    levels = jax.tree.map(normal, shapes["RoIAlign, boxes"][0])
    said = shapes["detections of a test, NMS"]
    positives = settings.region_positives
    near = rng.integers(0, int(first.valid.sum()), positives).astype(np.int32)
    return {
        "anchors' targets": (key, first.extents, objects),
        "proposals, NMS": (normal(logits), normal(deltas, 0.2), first.extents),
        "regions' targets": (key, proposals(settings.proposals), objects),
        "RoIAlign, boxes": (levels, proposals(settings.regions).boxes),
        "RoIAlign, masks": (levels, proposals(positives).boxes),
        "mask targets": (first.masks, near, first.boxes[near], first.extents),
        "detections of a test, NMS": (
            normal(said[0], 3.0),
            normal(said[1], 0.2),
            proposals(method.testing.proposals),
            first.extents,
            np.ones(2, np.float32),
        ),
    }
