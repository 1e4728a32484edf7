"""Records of a data set with what is known of them: classes, boxes, masks and label maps."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repre_jax.data import label_classes
from repre_jax.report.figures import objects, sheet

IGNORED = 255  # of a label map: what is not scored, drawn white
SIDE = 1.8  # inches of an image's larger side
ABREAST = 6  # images in a row, where nothing else is known of them


@dataclass(frozen=True)
class Known:
    """One record.

    image: float [H, W, C] in 0..1. name: of its class. boxes: float [N, 4], (x, y, width, height) in pixels. kinds: of
    each box a number, which gives its colour, and a name. masks: bool [N, H, W]. crowds: bool [N], boxes of many
    objects at once. label_map: int [H, W], 0 the background. painted: the label map in colours of its data set's own,
    uint8 [H, W, 3]. None where it is not known.
    """

    image: np.ndarray
    name: str | None = None
    boxes: np.ndarray | None = None
    kinds: Sequence[tuple[int, str]] = ()
    masks: np.ndarray | None = None
    label_map: np.ndarray | None = None
    painted: np.ndarray | None = None
    crowds: np.ndarray | None = None


@sheet.styled
def draw(
    records: Sequence[Known], *, title: str, caption: str, legend: Mapping[str, Sequence[int]] | None = None
) -> Figure:
    """A row a record: its image with the class below it, its objects, its label map; columns that none has are left
    out, and of images alone several are in a row. legend: names of classes and their colours in 0..255, beside all."""
    columns = {"image": _image}
    columns |= {"objects": _objects} if any(each.boxes is not None for each in records) else {}
    columns |= {"label map": _label_map} if any(each.label_map is not None for each in records) else {}
    shape = tuple(np.max([each.image.shape[:2] for each in records], axis=0))
    sized = functools.partial(sheet.images, shape=shape, title=title, caption=caption, side=SIDE, under=0.2)
    if len(columns) == 1:
        abreast = min(len(records), ABREAST)
        figure, axes = sized(-(-len(records) // abreast), [""] * abreast)
        for axis, record in zip(axes.flat, records, strict=False):
            _image(axis, record)
        for axis in axes.flat[len(records) :]:
            axis.set_axis_off()
    else:
        figure, axes = sized(len(records), list(columns))
        for row, record in zip(axes, records, strict=True):
            for axis, column in zip(row, columns.values(), strict=True):
                column(axis, record)
    if legend:
        sheet.name_colours(figure, legend)
    return figure


def colour(kind: int) -> np.ndarray:
    """float [3] in 0..1: those of label maps, the background black, what is ignored white."""
    return np.ones(3) if kind == IGNORED else np.array(label_classes.palette(kind + 1)[kind]) / 255


def _image(axis: Axes, record: Known) -> None:
    sheet.show(axis, record.image)
    most = sheet.letters(sheet.cell(record.image.shape, SIDE)[1])
    axis.set_xlabel("" if record.name is None else sheet.short(record.name, most))


def _objects(axis: Axes, record: Known) -> None:
    boxes = np.zeros((0, 4)) if record.boxes is None else record.boxes
    kinds = record.kinds[: len(boxes)]
    colours, names = [colour(kind) for kind, _ in kinds], [name for _, name in kinds]
    crowds = () if record.crowds is None else record.crowds.tolist()
    objects.over(axis, record.image, boxes[: len(kinds)], colours, names, record.masks, crowds=crowds, side=SIDE)


def _label_map(axis: Axes, record: Known) -> None:
    if record.label_map is None:
        axis.set_axis_off()
        return
    if record.painted is not None:
        sheet.show(axis, record.painted / np.float32(255))
        return
    kinds, places = np.unique(record.label_map, return_inverse=True)
    sheet.show(axis, np.stack([colour(int(kind)) for kind in kinds])[places.reshape(record.label_map.shape)])
