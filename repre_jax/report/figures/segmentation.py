"""Segmented images: what is there, what a network predicts, and where it is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repre_jax.data.label_classes import IGNORED, Classes
from repre_jax.report.figures import sheet

WRONG = np.array((0.89, 0.10, 0.11), np.float32)
FADED = 0.35  # of the image, in grey, below the errors; the rest is white
SHADE = 0.55  # of the colours over an image
SIDE = 2.1  # inches of an image's larger side
PIXELS = 640  # of it, that are drawn at most


@dataclass(frozen=True)
class Segmented:
    """One image. image: uint8 [H, W, C]. predicted: the class of each pixel, uint8 [H, W]. label_map: uint8 [H, W], 255
    ignored; None where nobody knows. name: of the record or the file."""

    image: np.ndarray
    predicted: np.ndarray
    label_map: np.ndarray | None = None
    name: str | None = None


@sheet.styled
def draw(shown: Sequence[Segmented], classes: Classes, *, title: str, caption: str) -> Figure:
    """A row an image: itself, the ground truth, the prediction and the errors; without ground truth itself, the
    prediction, and both in one. The legend has the classes that are somewhere."""
    columns = {"image": _image}
    if any(each.label_map is not None for each in shown):
        columns |= {"ground truth": _truth, "prediction": _prediction, "errors": _errors}
        caption = f"Errors: red. {caption}"
    else:
        columns |= {"prediction": _prediction, "prediction on the image": _blended}
    legend = _legend(shown, classes)
    shares = [None if each.label_map is None else correct(each.label_map, each.predicted) for each in shown]
    shown = [_reduced(each) for each in shown]
    shape = tuple(np.max([each.image.shape[:2] for each in shown], axis=0))
    figure, axes = sheet.images(len(shown), list(columns), shape, title=title, caption=caption, side=SIDE, under=0.2)
    for row, each in zip(axes, shown, strict=True):
        for axis, column in zip(row, columns.values(), strict=True):
            column(axis, each, classes)
    for row, each, share in zip(axes, shown, shares, strict=True):
        if each.label_map is not None:
            row[-1].set_xlabel("nothing is labelled" if share is None else f"{share:.1%} correct")
    sheet.name_colours(figure, legend)
    return figure


def correct(label_map: np.ndarray, predicted: np.ndarray) -> float | None:
    """The share of pixels that are predicted correctly, of those that are not ignored; None where all are."""
    scored = label_map != IGNORED
    return float((label_map == predicted)[scored].mean()) if scored.any() else None


def _reduced(each: Segmented) -> Segmented:
    """A large image as it can be seen at this size, and its maps with it."""
    height, width = each.image.shape[:2]
    if max(height, width) <= PIXELS:
        return each
    share = PIXELS / max(height, width)
    size = (max(1, round(width * share)), max(1, round(height * share)))  # as OpenCV takes it
    image = cv2.resize(each.image, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)

    def smaller(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST))

    label_map = None if each.label_map is None else smaller(each.label_map)
    return Segmented(image, smaller(each.predicted), label_map, each.name)


def _legend(shown: Sequence[Segmented], classes: Classes) -> dict[str, Sequence[int]]:
    maps = [each for one in shown for each in (one.predicted, one.label_map) if each is not None]
    there = np.unique(np.concatenate([np.unique(each) for each in maps]))
    legend: dict[str, Sequence[int]] = {
        sheet.short(name, 24): classes.colours[number] for number, name in enumerate(classes.names) if number in there
    }
    return legend | ({"ignored": (255, 255, 255)} if IGNORED in there else {})


def _image(axis: Axes, each: Segmented, classes: Classes) -> None:
    del classes
    sheet.show(axis, each.image / np.float32(255))
    most = sheet.letters(sheet.cell(each.image.shape, SIDE)[1])
    axis.set_xlabel("" if each.name is None else sheet.short(each.name, most))


def _truth(axis: Axes, each: Segmented, classes: Classes) -> None:
    if each.label_map is None:
        axis.set_axis_off()
    else:
        sheet.show(axis, classes.painted(each.label_map) / np.float32(255))


def _prediction(axis: Axes, each: Segmented, classes: Classes) -> None:
    sheet.show(axis, classes.painted(each.predicted) / np.float32(255))


def _errors(axis: Axes, each: Segmented, classes: Classes) -> None:
    """Red on the faded image; what is ignored is white."""
    del classes
    if each.label_map is None:
        axis.set_axis_off()
        return
    grey = sheet.visible(each.image / np.float32(255)).mean(axis=-1, keepdims=True)
    pixels = np.repeat(1 - FADED * (1 - grey), 3, axis=-1)
    pixels[each.label_map != each.predicted] = WRONG
    pixels[each.label_map == IGNORED] = 1
    sheet.show(axis, pixels)


def _blended(axis: Axes, each: Segmented, classes: Classes) -> None:
    colours = classes.painted(each.predicted) / np.float32(255)
    sheet.show(axis, SHADE * colours + (1 - SHADE) * sheet.visible(each.image / np.float32(255)))
