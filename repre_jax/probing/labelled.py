"""Labelled images for evaluations that train: batches to train on, and the accuracy on others."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, config_checks
from repre_jax.core import sharding
from repre_jax.core.errors import Interrupted, UserError
from repre_jax.core.types import LabelledImages
from repre_jax.data import loader, subset
from repre_jax.data.crops import RandomCrops
from repre_jax.data.randaugment import RandAugment
from repre_jax.data.sources import DataSet
from repre_jax.data.views import NO_LABEL, LabelledView
from repre_jax.evaluation.features import EMPTY, all_labels
from repre_jax.probing import evaluations
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.system import runtime, shipped, terminal

Batch = tuple[np.ndarray, np.ndarray]  # this process's rows, of which the first ones count; their labels, int32 [n]


def check(config: ConfigDict, dataset: DataSet) -> None:
    """Raises UserError when there are no labels to train on, or no test images with labels, or only some have one."""
    evaluations.check_classes(dataset)
    named = [
        (dataset.classes, "labels that its train and test images have in common"),
        (dataset.test is not None, "a test split"),
    ]
    missing = [what for there, what in named if not there]  # a folder's classes are those that both splits share
    if not missing:
        splits = [("train", dataset.train), ("test", dataset.test)]
        missing = [f"labels in its {name} split" for name, split in splits if not subset.labelled(split)]
    if missing:
        raise UserError(
            f"Data set {dataset.name} lacks {' and '.join(missing)}, and task {config.task} needs labels to train on "
            "and others to count.\n"
            "  change:   --config.data.name or the splits, or without labels "
            f"{shipped.program()} --config configs/knn.py"
        )


def train_view(config: ConfigDict, randaugment: RandAugment | None = None) -> LabelledView:
    """One random crop of each image."""
    augment = config.augment
    config_checks.span("augment.crop_scale", augment.crop_scale, 1)
    config_checks.span("augment.crop_ratio", augment.crop_ratio, 100)
    augmentation.check_interpolation("augment.interpolation", augment.interpolation)
    crops = RandomCrops(
        1, augmentation.image_size(config), tuple(augment.crop_scale), tuple(augment.crop_ratio), augment.interpolation
    )
    return LabelledView(crops, config.data.channels, randaugment)


def test_images(config: ConfigDict, source: Sequence[Mapping]) -> tuple[int, Iterator[Batch]]:
    """Their number, and the images of `source`, each cut from its centre: uint8 [rows, H, W, C], no more at once than
    devices encode at once."""
    return len(source), loader.test_batches(
        source,
        augmentation.build_test_view(config),
        batch_size=min(config.batch_size, sharding.CHUNK * jax.device_count()),
        host=jax.process_index(),
        hosts=jax.process_count(),
    )


def accuracy(
    batches: Iterable[Batch],
    records: int,
    largest_share: float,
    mesh: Mesh,
    count: Callable[[jax.Array, np.ndarray], jax.Array],
    should_stop: ShouldStop,
) -> tuple[np.ndarray, int]:
    """Returns (accuracy, 0..1, in the shape that `count` gives; number of records).

    records: how many there should be; at most `largest_share` of them may be unreadable.
    count: (rows of all processes, labels int32 [B], EMPTY where there is no record) -> numbers of correct ones.
    Raises Interrupted when it should stop, and UserError when more cannot be read, or one has no label.
    """
    total, seen, unlabelled = 0, 0, 0
    with terminal.bar(records, "evaluating", leave=False, shown=runtime.is_main()) as bar:
        for rows, known in batches:
            if should_stop():
                raise Interrupted(f"{seen:,} of {records:,} images")
            labels = all_labels(known, len(rows), mesh)
            total += np.asarray(count(sharding.shard_batch(rows, mesh), labels))
            seen += int((labels != EMPTY).sum())
            unlabelled += int((labels == NO_LABEL).sum())
            bar.update(min(len(labels), records - bar.n))
    if unlabelled:
        raise UserError(
            f"{unlabelled:,} of {records:,} records to evaluate on have no label.\n"
            "  change:   --config.data.test_split and train_split to records that have one"
        )
    if records - seen > math.floor(largest_share * records) or not seen:
        raise UserError(
            f"{records - seen:,} of {records:,} records to evaluate on could not be read.\n"
            "  change:   the data, or --config.data.max_unreadable to a larger share of the records"
        )
    return total / seen, seen


def check_batch(batch: LabelledImages) -> None:
    """Raises UserError when one of its records has no label."""
    if missing := int((batch.labels < 0).sum()):
        raise UserError(
            f"{missing} training records of one batch have no label.\n"
            "  change:   --config.data.train_split to records that have one"
        )
