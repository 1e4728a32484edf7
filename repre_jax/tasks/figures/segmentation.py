"""What a segmentation predicts, beside what is there, and which classes it takes for which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from repre_jax.builders import augmentation
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import crops, segmentation_views
from repre_jax.data.label_classes import IGNORED, Classes
from repre_jax.data.segmentation import SegmentationData
from repre_jax.evaluation.segmented import Segmented as TestSplit
from repre_jax.pretrained import segmenter
from repre_jax.pretrained.segmenter import Segmenter
from repre_jax.probing import evaluations, measured_again, segmenting
from repre_jax.report.figures import confusion, sheet
from repre_jax.report.figures import segmentation as drawing
from repre_jax.report.figures.segmentation import Segmented
from repre_jax.system import runtime, terminal
from repre_jax.tasks.figures import readable
from repre_jax.tasks.figures.subject import NotPossible

EXAMPLES = 6  # of a run's own figure
RANDOM = "chosen at random"


@dataclass(frozen=True)
class Examples:
    """Some records: their numbers, images, uint8 [H, W, C], label maps, uint8 [H, W], and names, if they have some."""

    numbers: np.ndarray
    images: Sequence[np.ndarray]
    label_maps: Sequence[np.ndarray]
    names: Sequence[str | None]


def draw(source: Path, ours: ConfigDict, images: Sequence[Path]) -> Figure:
    """Of a run: the images at these paths, else figures.records of its test images. ours: configs/figures.py's, whose
    data.* and step go before the run's.

    Raises UserError where the run, its data or an image cannot be had.
    """
    found = segmenter.load(source, ours.step, evaluations.check(ours))
    title = titled(source, found.config, found.step)
    if images:
        shown = [_of_file(path, found) for path in images]
        return drawing.draw(shown, found.classes, title=title, caption=_resized(found))
    config = measured_again.config_of(found.config, source, measured_again.flags_of_figure(ours))
    data = segmenting.open_data(config, found.mean, found.std)
    segmenting.check_classes(found, data)
    chosen = examples(data, config.data.channels, ours.figures.records, ours.seed)
    predictions = [found(image) for image in chosen.images]
    return of_examples(chosen, predictions, data, title)


def titled(run: Path, config: ConfigDict, step: int, what: str = "Segmentation") -> str:
    """For example 'Segmentation', and below it 'segment: naive, step 80,000'."""
    return f"{what}\n{run.name}: {config.segment.head}, step {step:,}"


def examples(data: SegmentationData, channels: int, count: int, seed: int) -> Examples:
    """`count` test records, chosen at random; those that cannot be read are passed over. Raises UserError when none
    can."""
    records = data.dataset.split("test")
    order = np.random.default_rng(seed).permutation(len(records))
    found = readable.first(count, order, lambda number: (number, *_decoded(records, number, data.classes, channels)))
    if not found:
        raise UserError(f"None of {len(records):,} test records of {data.dataset.name} is a readable image.")
    numbers, images, label_maps, names = zip(*found, strict=True)
    return Examples(np.array(numbers), images, label_maps, names)


def of_examples(chosen: Examples, predictions: Sequence[np.ndarray], data: SegmentationData, title: str) -> Figure:
    """predictions: of the chosen records, uint8 [h, w], of which the label map's size counts."""
    shown = [
        Segmented(image, found[: label_map.shape[0], : label_map.shape[1]], label_map, name)
        for image, found, label_map, name in zip(
            chosen.images, predictions, chosen.label_maps, chosen.names, strict=True
        )
    ]
    white = " White is ignored." if any((each == IGNORED).any() for each in chosen.label_maps) else ""
    records = len(data.dataset.split("test"))
    caption = f"{len(shown)} of {records:,} test images of {data.dataset.name}, {RANDOM}.{white}"
    return drawing.draw(shown, data.classes, title=title, caption=caption)


def of_result(source: Path, wanted: int | None = None) -> Figure:
    """The confusion matrix of a finished run, or of a measurement of one. wanted: the step that the user asks for.

    Raises NotPossible where there is none.
    """
    result = run_files.read_json(source / run_files.RESULT, ("confusion", "iou", "test_images", "head"))
    if result is None:
        raise NotPossible(
            f"{source} holds no result of a segmentation.\n"
            "  expected: a finished run of configs/segment.py, or a workdir of --config.evaluate"
        )
    step = result.get("steps") or result["origin"]["step"]
    if wanted not in (None, step):
        raise NotPossible(
            f"The confusion matrix of {source} is that of step {step:,}.\n"
            f"  change:   leave the step out; --config.evaluate={source} --config.step={wanted} of configs/segment.py\n"
            "            measures another one, in a --workdir of its own, whose matrix can be drawn"
        )
    title = f"Confusion matrix\n{source.name}: {result['head']}, step {step:,}"
    images = f"{result['test_images']:,} test images of {result['data_set']['name']}"
    iou: Mapping[str, Any] = result["iou"]
    miou = np.nan if result["miou"] is None else result["miou"]
    return _confusion(np.array(result["confusion"]), list(iou), list(iou.values()), miou, images, title)


class Drawing:
    """The figures of a run that trains, of the same test images each time. Where they cannot be written, a warning."""

    def __init__(self, config: ConfigDict, workdir: Path, data: SegmentationData, whole: TestSplit):
        self.config, self.workdir, self.data, self.whole = config, workdir, data, whole
        self._chosen: Examples | None = None
        self._step: int | None = None
        self._figures: dict[str, Figure] = {}  # after that step
        self._saved: set[str] = set()  # suffixes of those that are files

    def __call__(self, step: int, measured: segmenting.Measured, variables: Any, suffixes: Sequence[str]) -> None:
        """To be called in every process. measured: of all test images. variables: of the network. What was drawn of a
        step is not drawn again."""
        if step != self._step:
            self._step, self._figures, self._saved = step, self._drawn(step, measured, variables), set()
        try:
            for kind, figure in self._figures.items():
                run_files.make_folder(self.workdir / run_files.FIGURES)
                for suffix in suffixes:
                    if suffix not in self._saved:
                        sheet.save(figure, self.workdir / run_files.FIGURES / f"{kind}{suffix}")
            self._saved.update(suffixes)
        except OSError as error:
            terminal.warn(f"Warning: {run_files.FIGURES}/ cannot be written: {error.strerror}.")

    def _drawn(self, step: int, measured: segmenting.Measured, variables: Any) -> dict[str, Figure]:
        """By kind; in the main process, others only help to segment."""
        if self._chosen is None:
            self._chosen = examples(self.data, self.config.data.channels, EXAMPLES, self.config.seed)
        predictions = self.whole.predicted(variables, self._chosen.numbers)
        if not runtime.is_main():
            return {}
        found, matrix, count = measured
        title = titled(self.workdir, self.config, step, "Confusion matrix")
        iou = [None if np.isnan(value) else float(value) for value in found.iou]
        images = f"{count:,} test images of {self.data.dataset.name}"
        return {
            "confusion": _confusion(matrix, self.data.classes.names, iou, found.miou, images, title),
            "segmentation": of_examples(
                self._chosen, list(predictions), self.data, titled(self.workdir, self.config, step)
            ),
        }


def _confusion(
    matrix: np.ndarray, names: Sequence[str], iou: Sequence[float | None], miou: float, images: str, title: str
) -> Figure:
    known = "" if np.isnan(miou) else f" mIoU {miou:.1%}."
    caption = f"{images}: of each class's pixels, in percent, how many were predicted as what.{known}"
    if (np.asarray(matrix).sum(axis=1) == 0).any():
        caption += " Grey: no pixel is labelled so."
    return confusion.draw(matrix, names, iou, title=title, caption=caption)


def _decoded(
    records: Records, number: int, classes: Classes, channels: int
) -> tuple[np.ndarray, np.ndarray, str | None]:
    record = records[number]
    return *segmentation_views.decoded(record, classes, channels), record.get("file_name")


def _of_file(path: Path, found: Segmenter) -> Segmented:
    image = read_image(path, found.config)
    return Segmented(image, found(image), None, path.name)


def read_image(path: Path, config: ConfigDict) -> np.ndarray:
    """uint8 [H, W, C], as the config's images are read. Raises UserError where it cannot be."""
    try:
        return crops.decode(run_files.read_bytes(path), config.data.channels, augmentation.value_range(config))
    except OSError as error:
        hint = "name runs and files before --images" if run_files.is_folder(path) else "--images"
        raise UserError(f"The image {path} cannot be read: {error.strerror}.\n  change:   {hint}") from None
    except crops.UnreadableImage as error:
        raise UserError(f"The image {path} cannot be read: {error}\n  change:   --images") from None


def _resized(found: Segmenter) -> str:
    """What is done to images before they are segmented."""
    crop, within = (found.how.crop, found.how.resize_to)
    windows = f"Segmented by windows of {crop[0]} x {crop[1]} pixels"
    return f"{windows}, of images resized to within {within[0]} x {within[1]}." if within else f"{windows}."
