"""What training a segmentation and measuring one again share: the data, the encoder for a head, what is recorded."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import methods
from repre_jax.builders import segmentation as builder
from repre_jax.core.errors import UserError
from repre_jax.core.types import TrainState
from repre_jax.data.label_classes import Classes
from repre_jax.data.segmentation import SegmentationData
from repre_jax.evaluation.confusion import Scores, scores
from repre_jax.evaluation.segmented import LogitsOf, Segmented
from repre_jax.models import encoders
from repre_jax.pretrained.backbone import Values
from repre_jax.pretrained.segmenter import Segmenter
from repre_jax.probing import evaluations
from repre_jax.report import console
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.train.segmentation import Segmentation

# What a segmentation that was trained for some steps cannot change; segment.test_* is none of it.
TRAINED = (
    "head",
    "frozen",
    "auxiliary_weight",
    "loss_over",
    "train_size",
    "ratios",
    "largest_share",
    "tries",
    "colours",
)
FIXED_KEYS = (
    *("init_from", "step", "network", "encoder", "data.image_size", "data.first_value", "data.num_classes"),
    *("data.classes", "data.class_names"),  # of the data set's identity
    *(f"segment.{key}" for key in TRAINED),
)
# Keys of config.data that a result depends on.
OF_DATA = ("image_size", "channels", "mean", "std", "num_classes", "first_value")

Measured = tuple[Scores, np.ndarray, int]  # the confusion matrix, and how many images it is of


def open_data(config: ConfigDict, mean: Values | None, std: Values | None) -> SegmentationData:
    """The data set; completes data.mean and data.std. mean, std: that the encoder was trained with.

    Raises UserError where it cannot be had, or has no test split.
    """
    data = builder.open_data(config)
    dataset = data.dataset
    if dataset.test is None:
        raise UserError(
            f"Data set {dataset.name} has no test split to measure a segmentation by.\n"
            "  change:   --config.data.test_split, for example a part of train: 'train[90%:]', with\n"
            "            --config.data.train_split='train[:90%]'"
        )
    evaluations.warn_of_shared(config, dataset)
    config.data.mean, config.data.std = config.data.mean or mean, config.data.std or std
    config.data.mean, config.data.std = methods.normalisation(config, dataset)
    return data


def check_classes(found: Segmenter, data: SegmentationData) -> None:
    """Raises UserError for other classes than the network was trained on."""
    ours, theirs = data.classes.names, found.classes.names
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        what = f"{len(ours)} classes, and {len(theirs)} were trained on"
    else:
        first = next(number for number, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
        what = f"class {first} {ours[first]!r}, which was {theirs[first]!r} in training"
    raise UserError(
        f"Data set {data.dataset.name} has {what}.\n"
        "  expected: the classes of the data set that the run was trained on, in their order\n"
        "  change:   --config.data.name or --config.data.num_classes"
    )


def logits_of(method: Segmentation) -> LogitsOf:
    """Of variables(state, encoder)."""
    return lambda of, pixels: method.logits(of["params"], of["batch_stats"], pixels, of.get("encoder"))


def variables(state: TrainState, encoder: Any | None) -> dict[str, Any]:
    """What logits_of's function reads. encoder: the parameters of a frozen one."""
    return {"params": state.params, "batch_stats": state.batch_stats} | ({"encoder": encoder} if encoder else {})


def whole_images(
    config: ConfigDict, data: SegmentationData, mesh: Mesh, of: LogitsOf, align_corners: bool
) -> Segmented:
    """The test split by sliding windows. Raises UserError for an image below the crop, or none with a class."""
    data.check_scored()
    return Segmented(
        data.dataset.split("test"),
        data.sizes("test"),
        data.classes,
        builder.sliding_test(config),
        of,
        mesh,
        align_corners=align_corners,
        mean=config.data.mean,
        std=config.data.std,
        trained=bool(config.get("evaluate")),
    )


def once_a_step(
    config: ConfigDict, whole: Segmented, encoder: Any | None
) -> Callable[[TrainState, ShouldStop], Measured]:
    """Measures a state; one that was just measured is not measured again."""
    last: dict[int, Measured] = {}

    def measure(state: TrainState, should_stop: ShouldStop) -> Measured:
        if (step := int(state.step)) not in last:
            matrix, images = whole.confusion(variables(state, encoder), should_stop, config.data.max_unreadable)
            last.clear()
            last[step] = scores(matrix), matrix, images
        return last[step]

    return measure


def result_of(found: Measured, classes: Classes) -> dict[str, Any]:
    """What result.json says of it. Shares 0..1, None where there is none, as of a class that no image has."""
    all_scores, matrix, images = found

    def by_class(values: np.ndarray) -> dict[str, float | None]:
        return {name: _number(value) for name, value in zip(classes.names, values, strict=True)}

    return {
        "miou": _number(all_scores.miou),
        "macc": _number(all_scores.macc),
        "aacc": _number(all_scores.aacc),
        "miou_constant": _number(all_scores.constant),
        "iou": by_class(all_scores.iou),
        "acc": by_class(all_scores.acc),
        "confusion": matrix.tolist(),
        "test_images": images,
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def record(config: ConfigDict, origin: dict[str, Any], data: SegmentationData) -> dict[str, Any]:
    """What any such result depends on."""
    return evaluations.dense_record(config, origin, data.dataset, "segment", OF_DATA) | {"head": config.segment.head}


def rows(
    config: ConfigDict, encoder: encoders.Encoder, origin: dict[str, Any], data: SegmentationData
) -> list[console.Row]:
    """Rows of the first table: what is trained or measured, and on what."""
    settings, dataset = config.segment, data.dataset
    crop, stride = (" x ".join(map(str, sides)) for sides in (config.data.image_size, settings.test_stride))
    size = f"within {' x '.join(map(str, settings.test_size))}" if settings.test_size else "as they are"
    more = f"; mean of scales {', '.join(f'{scale:g}' for scale in settings.test_scales)}" * (
        len(settings.test_scales) > 1
    )
    return [
        ("encoder", encoders.describe(encoder)),
        ("", console.origin(origin)),
        ("head", f"{settings.head}{', the encoder is frozen' * settings.frozen}; matrix products in {config.dtype}"),
        ("data set", console.dataset(dataset.identity(), dataset.directory, dataset.classes)),
        ("test images", f"{size}, by windows of {crop} every {stride}{more}{', mirrored too' * settings.test_flip}"),
    ]
