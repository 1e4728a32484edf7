"""A part of the labels: as many records of each class, drawn once."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

import grain
import numpy as np

from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import crops
from repre_jax.data.folder import ImageFolder
from repre_jax.data.views import label_of
from repre_jax.system import runtime, terminal


@dataclass(frozen=True)
class Subset:
    """Random access to the records of `source` that `numbers`, int64 [records], names, in that order."""

    source: Records
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Mapping:
        return self.source[int(self.numbers[index])]


@dataclass(frozen=True)
class Without:
    """The records of `source`, of which those that `numbers` names cannot be read, whether or not they could be."""

    source: Records
    numbers: frozenset[int]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping:
        if index in self.numbers:
            raise crops.UnreadableImage(f"Record {index} is left out.")
        return self.source[index]


def balanced(source: Records, share: float, draw: int) -> Records:
    """`share` (above 0, up to 1) of the records of each class, rounded, at least one; in the order of the source.

    draw: which of the possible choices; classes are drawn independently of each other. A share of 1 is the source.
    Raises UserError when there are records without a label.
    """
    if share == 1:
        return source
    labels = labels_of(source)
    if (missing := int((labels < 0).sum())) or not len(labels):
        raise UserError(
            f"data.labels is {share:g}, and {missing:,} of {len(labels):,} training records have no label.\n"
            "  change:   leave data.labels out, or --config.data.name to a data set with labels"
        )
    chosen = []
    for label in np.unique(labels):
        records = np.flatnonzero(labels == label)
        count = max(1, round(share * len(records)))
        chosen.append(np.random.default_rng((draw, int(label))).choice(records, count, replace=False))
    return Subset(source, np.sort(np.concatenate(chosen)))


def labelled(source: Records) -> bool:
    """Whether its first record that can be read has a label: ImageNet's 'test' has none."""
    if isinstance(source, ImageFolder):
        return source.labels is not None
    for number in range(len(source)):
        with contextlib.suppress(crops.UnreadableImage):
            return bool(label_of(source[number]) >= 0)
    return False


def labels_of(source: Records) -> np.ndarray:
    """The classes of all records, int32 [records], -1 without one. Each record is read, but no image decoded."""
    if isinstance(source, ImageFolder):
        return np.asarray(source.labels or np.full(len(source), -1), np.int32)
    labels = grain.MapDataset.range(len(source)).map(lambda number: label_of(source[number]))
    threads = grain.ReadOptions(num_threads=min(16, os.cpu_count() or 1), prefetch_buffer_size=256)
    found = np.empty(len(source), np.int32)
    shown = runtime.is_main()
    with terminal.bar(len(source), "reading labels", unit=" records", leave=False, shown=shown) as bar:
        for number, label in enumerate(labels.to_iter_dataset(threads)):
            found[number] = label
            bar.update()
    return found


def hold_out(source: Records, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """(records to train on, records held out of them), as held_out_numbers draws them."""
    kept, held = held_out_numbers(len(source), fraction, seed)
    return Subset(source, kept), Subset(source, held)


def held_out_numbers(records: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the records to train on, and of those held out: `fraction` of all, drawn at random, at least one of
    each. int64, rising."""
    order = np.random.default_rng(seed).permutation(records)
    held = min(max(1, round(fraction * records)), records - 1)
    return np.sort(order[held:]), np.sort(order[:held])
