"""Detections as COCO's programs take them, and their average precision, which pycocotools computes.

All of it runs on the host, at the size of the stored images.
"""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from repre_jax.core.errors import UserError
from repre_jax.data.detection import Categories

BOXES, MASKS = "bbox", "segm"  # what is compared, as pycocotools calls it
# Places in COCOeval.stats; AP, of all sizes, is its mean over IoU from 0.5 to 0.95.
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "AP_small": 3, "AP_medium": 4, "AP_large": 5}
OBJECT = "object"  # the name of all classes as one
ABSENT = -1.0  # COCOeval's, where there is no ground truth
ALL_SIZES, HUNDRED = 0, -1  # places in COCOeval's tables: of the area ranges, and of the numbers of detections
Result = dict[str, Any]


@dataclass(frozen=True)
class Detections:
    """What was found in one image, n objects, the most certain first or in any order.

    image_id: as the ground truth has it. size: height and width of the stored image.
    boxes: float32 [n, 4], x0, y0, x1, y1 in pixels of it. scores: float32 [n] in 0..1. classes: int32 [n].
    masks: float32 [n, m, m], how likely each part of the box is the object; None without masks.
    """

    image_id: int
    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None = None

    def of_boxes(self, categories: Categories) -> list[Result]:
        """COCO's results with 'bbox'."""
        corners = self.boxes.astype(np.float64)
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        return [self._result(place, categories) | {"bbox": sides[place].tolist()} for place in range(len(self.scores))]

    def of_masks(self, categories: Categories) -> list[Result]:
        """COCO's results with 'segmentation', at the image's size. Without 'bbox', whose area COCO's programs would
        take for the mask's when they sort by size (pycocotools coco.py:335-353)."""
        found = []
        for place, probabilities in enumerate(self.masks if self.masks is not None else ()):
            mask = pasted(probabilities, self.boxes[place], self.size)
            found.append(self._result(place, categories) | {"segmentation": run_lengths(mask)})
        return found

    def _result(self, place: int, categories: Categories) -> Result:
        identity = categories.ids[int(self.classes[place])]
        return {"image_id": self.image_id, "category_id": identity, "score": float(self.scores[place])}


def pasted(probabilities: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where a mask [m, m] that was predicted within `box`, x0, y0, x1, y1, is at least 0.5: bool [H, W].

    Each pixel's middle is looked up between the mask's values, which lie in the middles of its cells, and beyond which
    is 0: grid_sample without align_corners, by one product for the rows and one for the columns. A box without area has
    an empty mask, whatever a division by it would give.
    """
    canvas = np.zeros(size, bool)
    x0, y0, x1, y1 = np.asarray(box, np.float32)
    if not (x1 > x0 and y1 > y0):
        return canvas
    cells = np.asarray(probabilities, np.float32)
    top, rows = _weights(y0, y1, size[0], cells.shape[0])
    left, columns = _weights(x0, x1, size[1], cells.shape[1])
    canvas[top : top + len(rows), left : left + len(columns)] = rows @ cells @ columns.T >= np.float32(0.5)
    return canvas


def _weights(start: np.float32, end: np.float32, pixels: int, cells: int) -> tuple[int, np.ndarray]:
    """(The first pixel of a side that the mask reaches, float32 [pixels that it reaches, cells]): how much each cell
    counts in each of these pixels."""
    beyond = (end - start) / cells  # half of it would do, but for rounding
    first, last = max(0, int(np.floor(start - beyond))), min(pixels, int(np.ceil(end + beyond)))
    middles = np.arange(first, max(first, last), dtype=np.float32) + np.float32(0.5)
    places = (((middles - start) / (end - start) * 2 - 1 + 1) * cells - 1) / 2
    near = 1 - np.abs(places[:, None] - np.arange(cells, dtype=np.float32))
    return first, np.maximum(near, 0).astype(np.float32)


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's compressed run lengths of a mask [H, W], as they stand in JSON."""
    found = pycocotools_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in found["size"]], "counts": found["counts"].decode()}


@dataclass(frozen=True)
class Precision:
    """Average precision of detections.

    values: by the names of STATS, in 0..1; None of a size that no object of the ground truth has, or of none at all.
    classes: AP of each class that the ground truth has, by its name.
    curves: float64 [10, 101, classes], precision by IoU (0.5 to 0.95), recall (0 to 1) and class; -1 where the class
            has no object.
    """

    values: Mapping[str, float | None]
    classes: Mapping[str, float]
    curves: np.ndarray = field(repr=False)


def ground_truth(records: Iterable[Mapping], categories: Categories) -> dict[str, list]:
    """Of records as data/detection.py gives them, as COCO's files have it; annotations are numbered from 1.

    Raises UserError where two images have one id, as those of several splits may.
    """
    images: list[Result] = []
    annotations: list[Result] = []
    for record in records:
        (height, width), identity = record["objects"].size, record["image_id"]
        images.append({"id": identity, "height": height, "width": width})
        annotations += record["objects"].annotations(identity)
    if len({each["id"] for each in images}) != len(images):
        raise UserError(
            "Two images to be scored have the same id, as images of several splits may have.\n"
            "  change:   --config.data.test_split to one split"
        )
    numbered = [each | {"id": number} for number, each in enumerate(annotations, 1)]
    return {"images": images, "annotations": numbered, "categories": categories.listed()}


def precision(truth: Mapping[str, list], results: Sequence[Result], what: str, *, one_class: bool = False) -> Precision:
    """Of `results`, as Detections gives them, by COCO's rules.

    truth: ground_truth's, of the images that were looked at, no less and no more.
    what: BOXES or MASKS. one_class: whatever things are, and are taken for, all are of the class OBJECT. Nothing found
    is a precision of 0, not an error, as it would be in pycocotools.
    """
    ids = [each["id"] for each in truth["annotations"]]
    if ids and (min(ids) < 1 or len(set(ids)) != len(ids)):  # 0 would count as unmatched (cocoeval.py:375)
        raise ValueError("Annotations need ids from 1 on, each its own.")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints a table, and times
        known = _indexed(truth)
        # A copy of each, since both the reading and the comparison write into them.
        found = known.loadRes([dict(each) for each in results]) if results else _indexed({**truth, "annotations": []})
        judge = COCOeval(known, found, what)
        judge.params.useCats = not one_class
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    curves = judge.eval["precision"][:, :, :, ALL_SIZES, HUNDRED]
    names = {each["id"]: each["name"] for each in truth["categories"]}
    columns = [OBJECT] if one_class else [names[identity] for identity in judge.params.catIds]
    of_classes = {
        name: float(curves[:, :, place].mean())
        for place, name in enumerate(columns)
        if (curves[:, :, place] != ABSENT).any()
    }
    stats = {name: float(judge.stats[place]) for name, place in STATS.items()}
    values = {name: None if value == ABSENT else value for name, value in stats.items()}
    return Precision(values, of_classes, curves)


def _indexed(truth: Mapping[str, list]) -> COCO:
    known = COCO()
    known.dataset = {**truth, "annotations": [dict(each) for each in truth["annotations"]]}
    known.createIndex()
    return known


def truth_as_results(truth: Mapping[str, list], what: str) -> list[Result]:
    """The ground truth as if it had been found, with certainty: its precision is 1."""
    taken = ("image_id", "category_id", "bbox" if what == BOXES else "segmentation")
    return [
        {name: each[name] for name in taken} | {"score": 1.0} for each in truth["annotations"] if not each["iscrowd"]
    ]
