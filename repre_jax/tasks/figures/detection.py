"""What a detector finds, beside what is there, how precise it is, and what its mistakes are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from repre_jax.builders import detection as builder
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.data import crops
from repre_jax.data.detection import DetectionData
from repre_jax.data.views import VALUE_RANGE
from repre_jax.evaluation.detected import OBJECT
from repre_jax.evaluation.detection_run import Measured
from repre_jax.evaluation.matching import Objects
from repre_jax.pretrained import detector
from repre_jax.pretrained.detector import Detector
from repre_jax.probing import detecting, evaluations, measured_again
from repre_jax.report.figures import detection as drawing
from repre_jax.report.figures import sheet
from repre_jax.report.figures.detection import Detected
from repre_jax.system import runtime, terminal
from repre_jax.tasks.figures import precision, readable
from repre_jax.tasks.figures.segmentation import read_image

EXAMPLES = 6  # of a run's own figure
WHAT = "Detection"


@dataclass(frozen=True)
class Example:
    """A test record. image: uint8 [H, W, C]. truth: its objects. name: of the record or its file."""

    image_id: int
    image: np.ndarray
    truth: Objects
    name: str | None


def draw(source: Path, ours: ConfigDict, images: Sequence[Path]) -> Figure:
    """Of a run: the images at these paths, else figures.records of its test images. ours: configs/figures.py's, whose
    data.* and step go before the run's.

    Raises UserError where the run, its data or an image cannot be had.
    """
    found = detector.load(source, ours.step, evaluations.check(ours))
    title = precision.titled(source, found.config, found.step, WHAT)
    names, score = found.categories.names, float(ours.figures.score)
    found = found.above(min(score, found.testing.score))  # what is to be drawn must be found
    if images:
        shown = [_of_file(path, found, score) for path in images]
        return drawing.draw(shown, names, title=title, caption=f"{_resized(found.config)} {_drawn(score)}")
    config = measured_again.config_of(found.config, source, measured_again.flags_of_figure(ours))
    data = detecting.open_data(config, found.mean, found.std)
    detecting.check_categories(found.categories, data)
    chosen = examples(data, config.data.channels, ours.figures.records, ours.seed)
    objects = [_objects(found, each.image) for each in chosen]
    return of_examples(chosen, objects, data, title, score, one_class=detecting.one_class(config, data))


def examples(data: DetectionData, channels: int, count: int, seed: int) -> list[Example]:
    """`count` test records, chosen at random; those that cannot be read are passed over. Raises UserError when none
    can."""
    records = data.dataset.split("test")
    order = np.random.default_rng(seed).permutation(len(records))

    def read(number: int) -> Example:
        record = records[number]
        image = crops.decode(record["image"], channels, record.get(VALUE_RANGE))
        return Example(record["image_id"], image, truth_of(record, masks=data.masks), record.get("file_name"))

    found = readable.first(count, order, read)
    if not found:
        raise UserError(f"None of {len(records):,} test records of {data.dataset.name} is a readable image.")
    return found


def truth_of(record: Mapping[str, Any], *, masks: bool) -> Objects:
    """The objects of a record as data/detection.py gives it."""
    known = record["objects"]
    whole = known.masks() if masks and all(known.counts) else None
    return Objects(known.corners(), record["classes"], None, whole, known.crowds)


def of_examples(
    chosen: Sequence[Example],
    found: Sequence[Objects],
    data: DetectionData,
    title: str,
    score: float,
    *,
    one_class: bool,
) -> Figure:
    """found: of each of the chosen records, of any score; score: the least that is drawn. one_class: as it is scored,
    without classes."""
    shown = [
        Detected(each.image, objects.alike(), each.truth.alike(), each.name)
        if one_class
        else Detected(each.image, objects, each.truth, each.name)
        for each, objects in zip(chosen, (each.above(score) for each in found), strict=True)
    ]
    names = (OBJECT,) if one_class else data.categories.names
    records = len(data.dataset.split("test"))
    caption = f"{len(shown)} of {records:,} test images of {data.dataset.name}, chosen at random. {_drawn(score)}"
    return drawing.draw(shown, names, title=title, caption=caption)


class Drawing:
    """The figures of a run that trains, of the same test images each time. Where they cannot be written, a warning."""

    def __init__(self, config: ConfigDict, workdir: Path, data: DetectionData):
        self.config, self.workdir, self.data = config, workdir, data
        self._chosen: list[Example] | None = None

    def __call__(self, step: int, found: Measured, suffixes: Sequence[str]) -> None:
        """found: in all test images."""
        if not runtime.is_main():
            return
        if self._chosen is None:
            self._chosen = examples(self.data, self.config.data.channels, EXAMPLES, self.config.seed)
        ids, categories = {each.image_id for each in self._chosen}, self.data.categories
        some = [place for place, result in enumerate(found.boxes) if result["image_id"] in ids]
        masks = None if found.masks is None else [found.masks[place] for place in some]
        objects = precision.of_results([found.boxes[place] for place in some], masks, categories)
        shown = [objects.get(each.image_id, precision.NOTHING) for each in self._chosen]
        images = f"{found.images:,} test images of {self.data.dataset.name}"
        one_class = detecting.one_class(self.config, self.data)
        counted = precision.mistakes(found.boxes, found.truth, categories, one_class=one_class)
        detections, whole = (precision.titled(self.workdir, self.config, step, what) for what in (WHAT, "Precision"))
        figures = {
            "detection": of_examples(self._chosen, shown, self.data, detections, precision.SCORE, one_class=one_class),
            "precision": precision.draw(found.precision, counted, images, whole),
        }
        try:
            run_files.make_folder(self.workdir / run_files.FIGURES)
            for kind, figure in figures.items():
                for suffix in suffixes:
                    sheet.save(figure, self.workdir / run_files.FIGURES / f"{kind}{suffix}")
        except OSError as error:
            terminal.warn(f"Warning: {run_files.FIGURES}/ cannot be written: {error.strerror}.")


def _objects(found: Detector, image: np.ndarray) -> Objects:
    each = found(image)
    return Objects(each.boxes, each.classes, each.scores, each.masks)


def _of_file(path: Path, found: Detector, score: float) -> Detected:
    image = read_image(path, found.config)
    return Detected(image, _objects(found, image).above(score), None, path.name)


def _resized(config: ConfigDict) -> str:
    """What is done to images before."""
    how = builder.resizing_of_tests(config)
    return f"Found in images resized to a shorter side of {max(how.shorts)} pixels, a longer of at most {how.longest}."


def _drawn(score: float) -> str:
    return f"Drawn are detections with a score of at least {score:g}."
