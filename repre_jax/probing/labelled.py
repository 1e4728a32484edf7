"""Labelled images for evaluations that train: batches to train on, and the accuracy on others."""

import math
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation
from repre_jax.core import sharding
from repre_jax.core.errors import UserError
from repre_jax.core.types import LabelledImages, Records
from repre_jax.data import subset
from repre_jax.data.randaugment import RandAugment
from repre_jax.data.sources import DataSet
from repre_jax.data.views import NO_LABEL, LabelledView
from repre_jax.evaluation.batches import Batch, eval_batches, images_and_labels
from repre_jax.evaluation.features import EMPTY, all_labels
from repre_jax.probing import evaluations
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.system import shipped


def check(config: ConfigDict, dataset: DataSet) -> tuple[int, Records]:
    """(Number of classes, test images). Raises UserError when there are no labels to train on, or no test images with
    labels, or only some have one."""
    evaluations.check_classes(dataset)
    classes, test = dataset.classes, dataset.test
    if classes and test is not None:  # a folder's classes are those that both splits share
        splits = [("train", dataset.train), ("test", test)]
        missing = [f"labels in its {name} split" for name, split in splits if not subset.labelled(split)]
        if not missing:
            return classes, test
    else:
        named = [(classes, "labels that its train and test images have in common"), (test is not None, "a test split")]
        missing = [what for there, what in named if not there]
    raise UserError(
        f"Data set {dataset.name} lacks {' and '.join(missing)}, and task {config.task} needs labels to train on "
        "and others to count.\n"
        "  change:   --config.data.name or the splits, or without labels "
        f"{shipped.program()} --config configs/knn.py"
    )


def train_view(config: ConfigDict, randaugment: RandAugment | None = None) -> LabelledView:
    """One random crop of each image."""
    return LabelledView(augmentation.build_crops(config, 1), config.data.channels, randaugment)


def test_images(config: ConfigDict, source: Records, should_stop: ShouldStop) -> tuple[int, Iterator[Batch]]:
    """The images to be judged: how many `source` has, and batches of them, each image cut from its centre: uint8 [rows,
    H, W, C], no more at once than the devices encode at once. Raises Interrupted."""
    view, batch_size = augmentation.build_test_view(config), min(config.batch_size, sharding.CHUNK * jax.device_count())
    batches = eval_batches(source, view, batch_size, "evaluating", should_stop)
    return len(source), images_and_labels(batches)


def accuracy(
    batches: Iterable[Batch],
    records: int,
    largest_fraction: float,
    mesh: Mesh,
    count: Callable[[jax.Array, np.ndarray], jax.Array],
) -> tuple[np.ndarray, int]:
    """Returns (accuracy, 0..1, in the shape that `count` gives; number of records).

    records: how many there should be; at most `largest_fraction` of them may be unreadable.
    count: (rows of all processes, labels int32 [B], EMPTY where there is no record) -> numbers of correct ones.
    Raises UserError when more cannot be read, or one has no label.
    """
    correct, seen, unlabelled = np.zeros(()), 0, 0
    for rows, known in batches:
        labels = all_labels(known, len(rows), mesh)
        correct = correct + np.asarray(count(sharding.shard_batch(rows, mesh), labels))
        seen += int((labels != EMPTY).sum())
        unlabelled += int((labels == NO_LABEL).sum())
    if unlabelled:
        raise UserError(
            f"{unlabelled:,} of {records:,} records to evaluate on have no label.\n"
            "  change:   --config.data.test_split and train_split to records that have one"
        )
    if records - seen > math.floor(largest_fraction * records) or not seen:
        raise UserError(
            f"{records - seen:,} of {records:,} records to evaluate on could not be read.\n"
            "  change:   the data, or --config.data.max_unreadable to a larger share of the records"
        )
    return correct / seen, seen


def check_batch(batch: LabelledImages) -> None:
    """Raises UserError when one of its records has no label."""
    if missing := int((batch.labels < 0).sum()):
        raise UserError(
            f"{missing} training records of one batch have no label.\n"
            "  change:   --config.data.train_split to records that have one"
        )
