"""From a ConfigDict to what a detector is trained and tested by: its data, views, order, model and step."""

import math
from collections.abc import Sequence
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, config_checks, methods
from repre_jax.core import optim
from repre_jax.core.errors import UserError
from repre_jax.core.schedules import Plan
from repre_jax.data import detection, detection_order
from repre_jax.data.detection import DetectionData
from repre_jax.data.detection_views import DetectionView
from repre_jax.data.order import Grouped
from repre_jax.data.resizing import MULTIPLE, Resizing
from repre_jax.models.detection import mask_rcnn
from repre_jax.models.detection.mask_rcnn import Detecting, MaskRcnn
from repre_jax.models.detection.targets import Sampling
from repre_jax.models.encoders import Encoder
from repre_jax.models.vit import ViT
from repre_jax.train.detection import Detection

MOST_SIDE = 8192  # pixels, of a canvas


def check(config: ConfigDict) -> None:
    """Raises UserError for what can be seen to be wrong without the encoder and the data."""
    config_checks.ranges(config)
    settings = config.detect
    _sides("detect.shorts", settings.shorts, MULTIPLE)
    if settings.crop:
        _sides("detect.crop_shorts", settings.crop_shorts, 1)
        config_checks.span("detect.crop_sides", settings.crop_sides, MOST_SIDE)
        _sides("detect.crop_sides", settings.crop_sides, 1)
    _longest("detect.longest", settings.longest, "detect.shorts", max(settings.shorts))
    if settings.crop:
        _longest("detect.longest", settings.longest, "detect.crop_shorts", max(settings.crop_shorts))
    _longest("detect.test_longest", settings.test_longest, "detect.test_short", settings.test_short)
    for few, many in (("anchor_positives", "anchors"), ("region_positives", "regions")):
        if settings[few] > settings[many]:
            raise UserError(
                f"detect.{few} is {settings[few]}, and detect.{many} {settings[many]}, of which they are a part.\n"
                f"  change:   --config.detect.{few}={settings[many] // 2}"
            )


def _longest(key: str, value: int, of: str, short: int) -> None:
    """Raises UserError where the longer side, `value` of `key`, could not be as long as the shorter one, of `of`."""
    if value < short:
        raise UserError(
            f"{key} is {value}, below {of}, {short}.\n"
            "  expected: pixels of the longer side of an image, at least those of the shorter one\n"
            f"  change:   --config.{key}={short * 5 // 3}"
        )


def _sides(name: str, given: Sequence[int], least: int) -> None:
    if not given or not all(type(side) is int and least <= side <= MOST_SIDE for side in given):
        raise UserError(
            f"{name} is {tuple(given)}.\n  expected: one number of pixels or several, from {least} to {MOST_SIDE}\n"
            f"  change:   --config.{name}='(...)'"
        )


def resizing(config: ConfigDict) -> Resizing:
    """How training images are resized, flipped and cropped. Their canvases are rounded up to a multiple of 32."""
    settings = config.detect
    return Resizing(
        shorts=tuple(settings.shorts),
        longest=settings.longest,
        flip=config.augment.flip_probability,
        flip_last=settings.flip_last,
        crop=settings.crop,
        crop_shorts=tuple(settings.crop_shorts),
        crop_sides=(settings.crop_sides[0], settings.crop_sides[1]),
    )


def resizing_of_tests(config: ConfigDict) -> Resizing:
    """How test images are resized."""
    settings = config.detect
    return Resizing(shorts=(settings.test_short,), longest=settings.test_longest, flip=0.0, crop=0.0)


def largest_canvas(config: ConfigDict) -> tuple[int, int]:
    """Of training images and of test images."""
    return max((*resizing(config).canvases, *resizing_of_tests(config).canvases), key=math.prod)


def sampling(config: ConfigDict) -> Sampling:
    """What a step learns from."""
    keys = ("anchors", "anchor_positives", "regions", "region_positives", "per_level", "proposals")
    return Sampling(**{key: config.detect[key] for key in keys})


def testing(config: ConfigDict) -> Detecting:
    """What a test finds."""
    keys = ("per_level", "proposals", "score", "threshold", "detections", "candidates")
    return Detecting(**{key: config.detect[f"test_{key}"] for key in keys})


def open_data(config: ConfigDict) -> DetectionData:
    """The images with objects that config.data names. Raises UserError where they cannot be had."""
    data = config.data
    return detection.open_dataset(
        data.name,
        data.dir,
        data.train_split or "train",
        data.test_split,
        masks=config.detect.masks,
        value_range=augmentation.value_range(config),
    )


def train_view(config: ConfigDict) -> DetectionView:
    """The host's half of the augmentation, which is all of it."""
    return DetectionView(resizing(config), config.detect.slots, config.data.channels, config.detect.masks)


def order(config: ConfigDict, found: DetectionData) -> Grouped:
    """Of the training images: batches of one orientation, where canvases have two."""
    return detection_order.grouped(found.indices["train"].sizes, resizing(config), config.batch_size)


def of_detector(encoder: Encoder, blocks: Sequence[int] | None) -> Encoder:
    """The encoder as a detector reads it: of a ViT the last block alone, and no class token. blocks: those that the
    config asks for. Raises UserError for others."""
    if not isinstance(encoder, ViT):
        return encoder
    if blocks is not None and tuple(blocks) != (encoder.depth,):
        raise UserError(
            f"encoder.pyramid_blocks is {tuple(blocks)}, and a detector reads the last block, {encoder.depth}.\n"
            "  change:   leave it out"
        )
    return encoder.clone(pyramid_blocks=(encoder.depth,), class_token=False)


def build_model(config: ConfigDict, encoder: Encoder, classes: int) -> MaskRcnn:
    """encoder: of_detector's. Raises UserError for one whose maps do not fit."""
    settings = config.detect
    return mask_rcnn.build(encoder, classes, masks=settings.masks, width=settings.width, hidden=settings.hidden)


def build_method(config: ConfigDict, model: MaskRcnn, plan: Plan, mesh: Mesh | None = None) -> Detection:
    """The step, on the devices of a mesh. Raises UserError for a fault of the optimiser's settings."""
    rules = tuple(config.optim.rules)
    chosen: dict[str, Any] = {key: config.optim[key] for key in (*methods.OPTIMIZER_KEYS, "nesterov")}
    return Detection(
        model=model,
        optimizer=optim.build(config.optim.name, plan, **chosen, rules=rules),
        rules=rules,
        lr=plan.lr,
        mean=config.data.mean,
        std=config.data.std,
        sampling=sampling(config),
        testing=testing(config),
        accumulate=config.accumulate,
        mesh=mesh,
    )
