"""A trained detector, taken out of its run: a function of an image that finds its objects. And an encoder made ready to
become one.

detect = detector.load("runs/detect")
found = detect(image)                    # uint8 [H, W, C] -> boxes, scores, labels, masks
found.labels[0], found.scores[0], found.boxes[0], found.masks[0]
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import detection as builder
from repre_jax.core import run_files, sharding
from repre_jax.core.errors import UserError
from repre_jax.core.types import ObjectImages
from repre_jax.data import dense_augment
from repre_jax.data.detection import Categories
from repre_jax.data.detection_views import DetectionTestView
from repre_jax.data.resizing import Resizing, Size
from repre_jax.evaluation import detected
from repre_jax.models.detection.mask_rcnn import Detecting, Found, MaskRcnn
from repre_jax.pretrained import dense, saved_run
from repre_jax.pretrained.backbone import Backbone

TASK = "detect"


@dataclass(frozen=True, eq=False)
class ObjectsFound:
    """The objects found in one image, n of them, by falling score.

    boxes: float32 [n, 4], x0, y0, x1, y1 in pixels of the image as it was given. scores: float32 [n] in 0..1. classes:
    int32 [n], numbers from 0; labels: their names. masks: bool [n, H, W]; None of a detector of boxes.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    labels: tuple[str, ...]
    masks: np.ndarray | None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Detector:
    """A Mask R-CNN, or without a mask head a Faster R-CNN.

    config: the run's. step: of its checkpoint. params: the model's, on each device. how, testing: the test that the run
    itself is measured by. categories: what its classes are. weights: SHA-256 of the encoder that training began with.
    """

    config: ConfigDict
    step: int
    model: MaskRcnn
    params: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    how: Resizing
    testing: Detecting
    categories: Categories
    weights: str
    _compiled: dict[Size, Any] = field(default_factory=dict, repr=False)

    def __call__(self, image: np.ndarray) -> ObjectsFound:
        """What is in an image, uint8 [H, W, C] of any size, by the run's own test. Compiled once for images that are
        wider than high, and once for others. Raises UserError for what is no such image."""
        found = self.raw(image)
        labels = tuple(self.categories.names[number] for number in found.classes)
        masks = None
        if found.masks is not None:
            pairs = zip(found.masks, found.boxes, strict=True)
            masks = np.array([detected.pasted(*pair, found.size) for pair in pairs], bool).reshape(-1, *found.size)
        return ObjectsFound(found.boxes, found.scores, found.classes, labels, masks)

    def raw(self, image: np.ndarray, image_id: int = 0) -> detected.Detections:
        """The same as COCO's results are made of."""
        image, channels = np.asarray(image), len(self.mean)
        if image.ndim != 3 or image.shape[2] != channels or image.dtype != np.uint8 or not image.size:
            raise UserError(
                f"An image to find objects in is {image.dtype} of shape {image.shape}.\n"
                f"  expected: uint8 [height, width, {channels}]"
            )
        size = (image.shape[0], image.shape[1])
        canvas = self.how.canvas(size)
        sample = DetectionTestView(self.how, canvas, channels).image(image)
        batch = ObjectImages(**{name: jnp.asarray(value)[None] for name, value in sample.items()})
        if canvas not in self._compiled:
            self._compiled[canvas] = jax.jit(self.detections)
        found = jax.tree.map(lambda x: np.asarray(x)[0], self._compiled[canvas](self.params, batch))
        some = found.valid
        return detected.Detections(
            image_id=image_id,
            size=size,
            boxes=found.boxes[some],
            scores=found.scores[some],
            classes=found.classes[some],
            masks=None if found.masks is None else found.masks[some],
        )

    def above(self, score: float) -> "Detector":
        """The same, which finds what exceeds this score."""
        return dataclasses.replace(self, testing=dataclasses.replace(self.testing, score=score), _compiled={})

    def detections(self, params: dict[str, Any], batch: ObjectImages, testing: Detecting | None = None) -> Found:
        """What is found in a batch of a test; to be jitted. testing: another test than the run's."""
        pixels = dense_augment.normalised(batch.images, batch.extents, self.mean, self.std)
        return self.model.detections(params, pixels, batch.extents, batch.scale, testing or self.testing)


def load(
    run: str | Path,
    step: int | None = None,
    mesh: Mesh | None = None,
    *,
    dtype: str | None = None,
    attention: str = "xla",
    keys: str = saved_run.KEYS,
) -> Detector:
    """The detector that a run of configs/detect.py has trained, of its newest checkpoint or that of `step`.

    mesh: devices that get its parameters; else all. dtype: of matrix products, else the run's. attention: how it is
    computed, whatever the run was trained by (models/vit.py). keys: how the flag of `step` begins, for messages. Raises
    UserError where there is no such thing.
    """
    mesh = mesh or sharding.make_mesh(jax.device_count())
    found = dense.trained(TASK, ("params",), run, step, mesh, dtype=dtype, attention=attention, keys=keys)
    config, categories = found.config, _categories(found.run, found.record)
    return Detector(
        config=config,
        step=found.step,
        model=builder.build_model(config, found.encoder, len(categories)),
        params=found.state["params"],
        mean=found.mean,
        std=found.std,
        how=builder.resizing_of_tests(config),
        testing=builder.testing(config),
        categories=categories,
        weights=found.record["weights"],
    )


def for_detector(config: ConfigDict, found: Backbone, blocks: Sequence[int] | None) -> Backbone:
    """The encoder as a detector reads it; the config then says so. blocks: those that the config asked for.

    Learned positions stay of the size that they were trained for, and each pass resizes them, as ViTDet does: canvases
    have two orientations. Raises UserError for an encoder that is unfit, before anything is read.
    """
    encoder = builder.of_detector(found.encoder, blocks)
    builder.build_model(config, encoder, 2)
    return dense.read_as(config, found, encoder)


def _categories(run: Path, record: dict[str, Any]) -> Categories:
    """As the run's data set had them; numbered from 1 on, where that was not kept."""
    listed, count = run_files.read_data(run).get("objects") or [], record["data"]["classes"]
    if len(listed) != count:
        return Categories(tuple(range(1, count + 1)), tuple(map(str, range(count))))
    return Categories(tuple(int(each["id"]) for each in listed), tuple(str(each["name"]) for each in listed))
