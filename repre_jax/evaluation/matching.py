"""Objects that were found, beside those that are there: which are right, and what is wrong with the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from pycocotools import mask as pycocotools_mask

HIT = 0.5  # IoU of boxes from which a detection is where an object is
NEAR = 0.1  # and from which it is near one


class Verdict(StrEnum):
    """What a detection is; an object that is there was found rightly, lies in a crowd, or was missed."""

    RIGHT = "right"
    CLASS = "wrong class"
    TWICE = "found twice"
    PLACE = "badly placed"
    NOTHING = "nothing there"
    CROWD = "in a crowd"  # COCO's programs pass over these
    MISSED = "missed"


@dataclass(frozen=True)
class Objects:
    """Of one image, n objects. boxes: float32 [n, 4], x0, y0, x1, y1 in pixels. classes: int32 [n]. scores: float32
    [n], falling; None of ground truth. masks: bool [n, H, W], or None. crowds: bool [n] of ground truth, or None."""

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None
    crowds: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.classes)

    def above(self, score: float) -> "Objects":
        """Those that were found with at least this score."""
        assert self.scores is not None
        some = self.scores >= score
        masks = None if self.masks is None else self.masks[some]
        return Objects(self.boxes[some], self.classes[some], self.scores[some], masks)

    def alike(self) -> "Objects":
        """The same, all of one class, 0."""
        return replace(self, classes=np.zeros_like(self.classes))


def verdicts(found: Objects, truth: Objects) -> tuple[list[Verdict], list[Verdict]]:
    """(Of each detection, of each object that is there), by the IoU of boxes.

    Detections take their objects in the order given, each the best one of its class that is still free with an IoU of
    HIT, as COCO's programs do. One that gets none is of a wrong class where an object of another class is that near,
    found twice where its own object is taken, badly placed where one of its class is within NEAR, or nothing is there.
    What lies in a crowd of its class is left aside.
    """
    crowds = np.zeros(len(truth), bool) if truth.crowds is None else truth.crowds
    near = overlaps(found.boxes, truth.boxes, crowds)
    same = found.classes[:, None] == truth.classes[None]
    free = ~crowds
    said: list[Verdict] = []
    for place in range(len(found)):
        own = np.where(same[place] & free, near[place], -1)
        if len(truth) and own.max() >= HIT:
            free[own.argmax()] = False
            said.append(Verdict.RIGHT)
        else:
            said.append(_fault(near[place], same[place], crowds))
    of_truth = [
        Verdict.CROWD if crowd else Verdict.MISSED if is_free else Verdict.RIGHT
        for crowd, is_free in zip(crowds, free, strict=True)
    ]
    return said, of_truth


def _fault(near: np.ndarray, same: np.ndarray, crowds: np.ndarray) -> Verdict:
    """Of a detection that gets no object. near, same, crowds: of each object."""
    for verdict, which, least in (
        (Verdict.CROWD, same & crowds, HIT),
        (Verdict.TWICE, same & ~crowds, HIT),
        (Verdict.CLASS, ~same & ~crowds, HIT),
        (Verdict.PLACE, same & ~crowds, NEAR),
    ):
        if (near[which] >= least).any():
            return verdict
    return Verdict.NOTHING


def overlaps(found: np.ndarray, truth: np.ndarray, crowds: np.ndarray) -> np.ndarray:
    """IoU of boxes x0, y0, x1, y1, float64 [found, truth]; of a crowd, how much of what was found lies in it."""
    if not len(found) or not len(truth):
        return np.zeros((len(found), len(truth)))
    return np.asarray(pycocotools_mask.iou(_sides(found), _sides(truth), crowds.astype(np.uint8)))


def _sides(boxes: np.ndarray) -> np.ndarray:
    corners = boxes.astype(np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def counts(said: Sequence[Verdict]) -> dict[Verdict, int]:
    """How many of each there are, of those that there are."""
    return {verdict: number for verdict in Verdict if (number := sum(each == verdict for each in said))}
