"""Images with the objects that were found in them: beside those that are there, and what is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repre_jax.evaluation import matching
from repre_jax.evaluation.matching import Objects, Verdict
from repre_jax.report.figures import objects, records, sheet

COLOURS = {  # of what a detection is, 0..255
    Verdict.RIGHT: (44, 160, 44),
    Verdict.CLASS: (227, 26, 28),
    Verdict.TWICE: (255, 127, 14),
    Verdict.PLACE: (148, 103, 189),
    Verdict.NOTHING: (231, 84, 190),
    Verdict.CROWD: (127, 127, 127),
    Verdict.MISSED: (31, 120, 220),
}
FADED = 0.6  # of the image, in grey, below the mistakes; the rest is white
SIDE = 2.6  # inches of an image's larger side
PIXELS = 640  # of it, that are drawn at most
NAMES = 4.5  # points


@dataclass(frozen=True)
class Detected:
    """One image. image: uint8 [H, W, C]. found: by falling score. truth: None where nobody knows. name: of the record
    or the file."""

    image: np.ndarray
    found: Objects
    truth: Objects | None = None
    name: str | None = None


@sheet.styled
def draw(shown: Sequence[Detected], names: Sequence[str], *, title: str, caption: str) -> Figure:
    """A row an image: itself, what is there, what was found and what is wrong; without ground truth itself and what was
    found. names: of the classes."""
    columns = {"image": _image}
    known = any(each.truth is not None for each in shown)
    columns |= (
        {"ground truth": _truth, "detections": _found, "mistakes": _mistakes} if known else {"detections": _found}
    )
    shown = [_reduced(each) for each in shown]
    shape = tuple(np.max([each.image.shape[:2] for each in shown], axis=0))
    figure, axes = sheet.images(len(shown), list(columns), shape, title=title, caption=caption, side=SIDE, under=0.2)
    for row, each in zip(axes, shown, strict=True):
        for axis, column in zip(row, columns.values(), strict=True):
            column(axis, each, names)
    if known:
        sheet.name_colours(figure, {verdict.value: COLOURS[verdict] for verdict in Verdict})
    return figure


def _image(axis: Axes, each: Detected, names: Sequence[str]) -> None:
    del names
    sheet.show(axis, each.image / np.float32(255))
    most = sheet.letters(sheet.cell(each.image.shape, SIDE)[1])
    axis.set_xlabel("" if each.name is None else sheet.short(each.name, most))


def _truth(axis: Axes, each: Detected, names: Sequence[str]) -> None:
    if each.truth is None:
        axis.set_axis_off()
        return
    _objects(axis, each.image, each.truth, [names[number] for number in each.truth.classes])
    axis.set_xlabel(_number(len(each.truth)))


def _found(axis: Axes, each: Detected, names: Sequence[str]) -> None:
    scores = np.ones(len(each.found)) if each.found.scores is None else each.found.scores
    said = [f"{names[number]} {score:.2f}" for number, score in zip(each.found.classes, scores, strict=True)]
    _objects(axis, each.image, each.found, said)
    axis.set_xlabel(_number(len(each.found)))


def _objects(axis: Axes, image: np.ndarray, shown: Objects, said: Sequence[str]) -> None:
    colours = [records.colour(int(number) + 1) for number in shown.classes]
    pixels = image / np.float32(255)
    crowds = () if shown.crowds is None else shown.crowds.tolist()
    objects.over(axis, pixels, _sides(shown.boxes), colours, said, shown.masks, crowds=crowds, side=SIDE, size=NAMES)


def _mistakes(axis: Axes, each: Detected, names: Sequence[str]) -> None:
    """In colours that say what a detection is; what was missed is dashed, and what was found is not named."""
    if each.truth is None:
        axis.set_axis_off()
        return
    grey = sheet.visible(each.image / np.float32(255)).mean(axis=-1, keepdims=True)
    sheet.show(axis, np.repeat(1 - FADED * (1 - grey), 3, axis=-1))
    found, truth = matching.verdicts(each.found, each.truth)
    wrong = [verdict not in (Verdict.RIGHT, Verdict.CROWD) for verdict in found]
    said = [names[number] if is_wrong else "" for number, is_wrong in zip(each.found.classes, wrong, strict=True)]
    shape, whose = each.image.shape, [_colour(verdict) for verdict in found]
    objects.outline(axis, shape, _sides(each.found.boxes), whose, said, side=SIDE, size=NAMES)
    missed = np.array([verdict is Verdict.MISSED for verdict in truth], bool)
    lost = [names[number] for number in each.truth.classes[missed]]
    colours = [_colour(Verdict.MISSED)] * len(lost)
    missing = _sides(each.truth.boxes[missed])
    objects.outline(axis, shape, missing, colours, lost, side=SIDE, size=NAMES, dashed=True)
    axis.set_xlabel(f"{sum(wrong)} wrong, {len(lost)} missed")


def _number(count: int) -> str:
    return "1 object" if count == 1 else f"{count or 'no'} objects"


def _colour(verdict: Verdict) -> np.ndarray:
    return np.array(COLOURS[verdict]) / 255


def _sides(boxes: np.ndarray) -> np.ndarray:
    """x0, y0, x1, y1 -> x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _reduced(each: Detected) -> Detected:
    """A large image as it can be seen at this size, and its objects with it."""
    height, width = each.image.shape[:2]
    if max(height, width) <= PIXELS:
        return each
    share = PIXELS / max(height, width)
    size = (max(1, round(width * share)), max(1, round(height * share)))  # as OpenCV takes it
    image = cv2.resize(each.image, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
    factors = np.array([size[0] / width, size[1] / height] * 2, np.float32)

    def smaller(given: Objects) -> Objects:
        masks = given.masks
        if masks is not None:
            picked = [cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for mask in masks]
            masks = np.array(picked, bool).reshape(-1, size[1], size[0])
        return Objects(given.boxes * factors, given.classes, given.scores, masks, given.crowds)

    truth = None if each.truth is None else smaller(each.truth)
    return Detected(image, smaller(each.found), truth, each.name)
