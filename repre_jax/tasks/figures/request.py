"""What a user asks for, and the figures that it gives."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.pretrained import detector, segmenter
from repre_jax.probing import evaluations
from repre_jax.tasks.figures import (
    attention,
    augmentations,
    data,
    detection,
    neighbours,
    precision,
    pyramid,
    reconstructions,
    segmentation,
    tsne,
)
from repre_jax.tasks.figures.subject import NotPossible, Subject

MOST = 64  # images of a figure; a sheet of more can neither be drawn soon nor read
DRAW: dict[str, Callable[["Request", Subject], Figure]] = {
    "reconstructions": lambda request, subject: reconstructions.draw(subject, request.config.network),
    "attention": lambda request, subject: attention.draw(subject),
    "tsne": lambda request, subject: tsne.draw(subject),
    "neighbours": lambda request, subject: neighbours.draw(subject),
    "pyramid": lambda request, subject: pyramid.draw(subject),
    "augmentations": lambda request, subject: request.of_input("augmentations"),
    "data": lambda request, subject: request.of_input("data"),
}
SEGMENTED: dict[str, Callable[["Request", Path], Figure]] = {  # of a run of configs/segment.py
    "segmentation": lambda request, source: segmentation.draw(source, request.config, request.images),
    "confusion": lambda request, source: segmentation.of_result(source, request.config.step),
}
DETECTED: dict[str, Callable[["Request", Path], Figure]] = {  # of a run of configs/detect.py
    "detection": lambda request, source: detection.draw(source, request.config, request.images),
    "precision": lambda request, source: precision.of_result(source, request.config.step),
}
DENSE = SEGMENTED | DETECTED
OF_TASKS = {segmenter.TASK: SEGMENTED, detector.TASK: DETECTED}
OF_ALL = {"confusion", "precision"}  # test images, which a finished run has counted
INPUT = {"augmentations": augmentations.draw, "data": data.draw}  # of a config, before there is a run, too
OF_RUN = ("linear", "knn", "finetune")  # tasks that take their data from the run whose encoder they judge
# Whose configs and runs these draw.
TASKS = {"augmentations": ("pretrain",), "data": ("pretrain", "segment", "detect", *OF_RUN)}


@dataclass(frozen=True)
class Request:
    """config: configs/figures.py's. of: runs' workdirs, or files of weights. images: paths, in place of the data set's.
    seed: where the user gave one."""

    config: ConfigDict
    of: Sequence[Path]
    images: Sequence[Path] = ()
    seed: int | None = None

    def one(self, kind: str) -> Figure:
        """Raises UserError when it cannot be drawn."""
        self._check()
        if kind in INPUT:
            return self.of_input(kind)
        if kind in DENSE:
            return self.of_dense(kind)
        if len(self.of) == 1:
            return DRAW[kind](self, self._subjects()[0])
        if kind != "attention":
            raise UserError(
                f"{kind} is drawn of one run or file, got {len(self.of)}.\n"
                "  expected: several with attention alone, which shows them side by side"
            )
        return attention.compare(self._subjects())

    def every(self) -> Iterator[tuple[str, Figure | NotPossible]]:
        """Each kind with its figure, or why this encoder or these data do not allow it."""
        if len(self.of) != 1:
            raise UserError(f"all is of one run or file, got {len(self.of)}.\n  expected: several with attention alone")
        self._check()
        for kind, draw in self._kinds().items():
            try:
                yield kind, draw()
            except NotPossible as error:
                yield kind, error

    def _kinds(self) -> dict[str, Callable[[], Figure]]:
        """Those that a run or file of this sort may allow, and what draws each."""
        theirs = run_files.read_config(self.of[0]) or {}
        if (kinds := OF_TASKS.get(theirs.get("task", ""))) is not None:
            of_run: dict[str, Callable[[], Figure]] = {kind: functools.partial(self.of_dense, kind) for kind in kinds}
            return of_run | {"data": functools.partial(self.of_input, "data")}
        (subject,) = self._subjects()
        return {kind: functools.partial(draw, self, subject) for kind, draw in DRAW.items()}

    def of_dense(self, kind: str) -> Figure:
        """What the one run of a dense task predicts, or how right that is."""
        if len(self.of) != 1:
            raise UserError(f"{kind} is drawn of one run, got {len(self.of)}.")
        if kind in OF_ALL and self.images:
            raise NotPossible(f"{kind} is of all test images.\n  change:   leave --images out")
        return DENSE[kind](self, self.of[0])

    def of_input(self, kind: str) -> Figure:
        """What the one run, or the run that the file is of, was trained on."""
        if len(self.of) != 1 or self.images:
            raise NotPossible(
                f"{kind} draws one run's own training images.\n  change:   leave --images and other runs out"
            )
        (source,) = self.of
        config = augmentations.config_of(source, self.config, self.seed, TASKS[kind])
        return INPUT[kind](config, self.config.figures.records, source.absolute().name)

    def _subjects(self) -> list[Subject]:
        """All with the data of the first, so that they are shown the same images."""
        mesh = evaluations.check(self.config)
        subjects: list[Subject] = []
        for source in self.of:
            config = ConfigDict(self.config.to_dict())
            if subjects:
                for key in ("name", "dir", "train_split", "test_split", "test_crop"):
                    config.data[key] = subjects[0].config.data[key]
            subjects.append(Subject(config, source, mesh, self.images))
        return subjects

    def _check(self) -> None:
        wanted = self.config.figures
        for key in ("records", "classes", "per_class", "k", "bank"):
            if not isinstance(wanted[key], Integral) or isinstance(wanted[key], bool) or wanted[key] < 1:
                flag = ", or --records" if key == "records" else ""
                raise UserError(
                    f"figures.{key} is {wanted[key]}.\n  expected: a whole number of at least 1\n"
                    f"  change:   --config.figures.{key}{flag}"
                )
        if wanted.records > MOST:
            raise UserError(f"figures.records is {wanted.records}.\n  expected: at most {MOST}\n  change:   --records")
        if len(set(self.of)) < len(self.of):
            raise UserError("A run or file is given twice.\n  change:   leave one of the two out")
        if not isinstance(wanted.mass, int | float) or not 0 < wanted.mass <= 1:
            raise UserError(
                f"figures.mass is {wanted.mass}.\n  expected: above 0, up to 1\n  change:   --config.figures.mass"
            )
        if not isinstance(wanted.score, int | float) or not 0 <= wanted.score < 1:
            raise UserError(
                f"figures.score is {wanted.score}.\n  expected: from 0 to below 1\n  change:   --config.figures.score"
            )
