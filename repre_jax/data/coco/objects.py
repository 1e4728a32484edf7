"""The objects of one image in COCO's JSON as they are stored: masks as compressed run lengths at the image's size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as pycocotools_mask

from repre_jax.core.errors import UserError
from repre_jax.data import rle
from repre_jax.data.instances import Instances

POINTS = 3  # that a polygon has at least


def of_image(annotations: Sequence[Mapping], size: tuple[int, int], *, masks: bool) -> tuple[Instances, list[int]]:
    """(The objects, ids of those that are left out, since they have no mask in a data set that has some).

    masks: whether they are kept; else boxes alone are. Raises UserError for run lengths that do not fit the image.
    """
    found, left_out = [], []
    for each in annotations:
        counts = run_lengths(each.get("segmentation"), size, each["id"]) if masks or each.get("bbox") is None else None
        if counts is None and (masks or each.get("bbox") is None):
            left_out.append(int(each["id"]))
            continue
        stored = {"size": list(size), "counts": counts}
        box = each["bbox"] if each.get("bbox") is not None else pycocotools_mask.toBbox(stored).tolist()
        area = each.get("area")
        if lacks_area(each):
            area = float(pycocotools_mask.area(stored)) if counts else box[2] * box[3]
        found.append((each, box, area, (counts or b"") if masks else b""))
    return (
        Instances(
            size=size,
            ids=np.array([each["id"] for each, *_ in found], np.int64),
            category_ids=np.array([each["category_id"] for each, *_ in found], np.int64),
            boxes=np.array([box for _, box, *_ in found], np.float64).reshape(-1, 4),
            areas=np.array([area for *_, area, _ in found], np.float64),
            crowds=np.array([each.get("iscrowd", 0) for each, *_ in found], bool),
            counts=tuple(counts for *_, counts in found),
        ),
        left_out,
    )


def lacks_area(annotation: Mapping) -> bool:
    """Whether it says none above 0, which some programs write for unknown: a detector is trained on no such object."""
    area = annotation.get("area")
    return area is None or area <= 0


def run_lengths(segmentation: Any, size: tuple[int, int], identity: Any) -> bytes | None:
    """Polygons, or run lengths in either form -> compressed run lengths; None where there is no mask.

    A polygon needs three points: one of two would be taken for a box by pycocotools. Parts outside the image are cut.
    Raises UserError for run lengths of another size, or what is neither.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return _of_runs(segmentation, size, identity)
    try:
        parts = [segmentation] if not isinstance(segmentation[0], list) else segmentation
        polygons = [np.array(part, np.float64) for part in parts]
    except (TypeError, ValueError, KeyError):
        raise UserError(f"annotation {identity}: its segmentation is neither polygons nor run lengths") from None
    if any(each.ndim != 1 or len(each) % 2 or not np.isfinite(each).all() for each in polygons):
        raise UserError(f"annotation {identity}: a polygon is no list of x, y, x, y ... in pixels")
    whole = [each.tolist() for each in polygons if len(each) >= 2 * POINTS]
    if not whole:
        return None
    return pycocotools_mask.merge(pycocotools_mask.frPyObjects(whole, *size))["counts"]


def _of_runs(given: Mapping, size: tuple[int, int], identity: Any) -> bytes:
    counts, of_size = given.get("counts"), given.get("size")
    try:
        runs = rle.uncompressed(counts) if isinstance(counts, str | bytes) else [int(each) for each in counts or ()]
        fits = tuple(of_size or ()) == size and min(runs, default=-1) >= 0 and sum(runs) == size[0] * size[1]
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UserError(
            f"annotation {identity}: its run lengths are not of {size[0]} x {size[1]} pixels, as the image is"
        )
    return rle.compressed(runs)


def stored(found: Instances) -> list[dict[str, Any]]:
    """As the feature 'objects' of a record has them."""
    return [
        {
            "id": int(found.ids[place]),
            "category_id": int(found.category_ids[place]),
            "bbox": found.boxes[place],
            "area": found.areas[place],
            "iscrowd": int(found.crowds[place]),
            "counts": found.counts[place],
        }
        for place in range(len(found))
    ]
