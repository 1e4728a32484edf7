"""What is known of all records with objects beforehand: sizes of images and numbers of objects.

`prepare coco` keeps it beside the records (metadata.json), since of COCO 19 GB would have to be read for it; of others,
which are small, it is read from the records.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds

from repre_jax.core.types import Records
from repre_jax.data import crops
from repre_jax.data.instances import Instances

INDEX, MASKS = "index", "masks"  # in metadata.json
COLUMNS = ("heights", "widths", "annotations", "objects")


@dataclass(frozen=True, eq=False)  # of arrays
class ObjectIndex:
    """Of n records.

    sizes: int32 [n, 2], height and width of the image. annotations: int32 [n], how many there are; objects: int32 [n],
    how many of them are trained on (Instances.trainable).
    """

    sizes: np.ndarray
    annotations: np.ndarray
    objects: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def of(self, numbers: np.ndarray) -> "ObjectIndex":
        """That of the records of these numbers."""
        return ObjectIndex(self.sizes[numbers], self.annotations[numbers], self.objects[numbers])


@dataclass(frozen=True)
class Stored:
    """masks: whether the objects have some. splits: split -> the index of all its records; {} where none is stored."""

    masks: bool
    splits: Mapping[str, ObjectIndex] = field(default_factory=dict)


Row = tuple[int, int, int, int]  # of COLUMNS


def row(found: Instances) -> Row:
    """What the index has of one record."""
    return *found.size, len(found), int(found.trainable().sum())


def as_metadata(rows: Iterable[Row]) -> dict[str, list[int]]:
    """The rows of a split, in the order of its records, as metadata.json has them."""
    return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=False))


def stored(builder: tfds.core.DatasetBuilder) -> Stored:
    """What metadata.json has. An index that does not fit its split is left alone, and read from the records."""
    metadata: Mapping[str, Any] = builder.info.metadata or {}
    splits = {}
    for name, columns in metadata.get(INDEX, {}).items():
        heights, widths, annotations, objects = (np.array(columns.get(key, ()), np.int32) for key in COLUMNS)
        counts = {len(heights), len(widths), len(annotations), len(objects)}
        if name in builder.info.splits and counts == {builder.info.splits[name].num_examples}:
            splits[name] = ObjectIndex(np.stack([heights, widths], axis=1), annotations, objects)
    return Stored(bool(metadata.get(MASKS, True)), splits)


def of(builder: tfds.core.DatasetBuilder, known: Stored, spec: str, records: Records) -> ObjectIndex:
    """Of `records`, which are those that `spec`, in TFDS's syntax, names."""
    infos = {split.name: split for split in builder.info.splits.values()}
    parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
    if not all(part.splitname in known.splits for part in parts):
        return read(records)
    taken: list[ObjectIndex] = []
    for part in parts:
        whole = known.splits[part.splitname]
        first, last = part.from_ or 0, len(whole) if part.to is None else part.to
        taken.append(whole.of(np.arange(first, last)))
    return _joined(taken)


def read(records: Records) -> ObjectIndex:
    """By reading all of them. One that cannot be read has no object, and one pixel."""

    def known(number: int) -> Row:
        try:
            return row(records[number]["objects"])
        except (crops.UnreadableImage, OSError):
            return 1, 1, 0, 0

    threads = grain.ReadOptions(num_threads=min(16, os.cpu_count() or 1), prefetch_buffer_size=256)
    rows = list(grain.MapDataset.range(len(records)).map(known).to_iter_dataset(threads))
    table = np.array(rows, np.int32).reshape(-1, len(COLUMNS))
    return ObjectIndex(table[:, :2], table[:, 2], table[:, 3])


def _joined(parts: Sequence[ObjectIndex]) -> ObjectIndex:
    columns = ("sizes", "annotations", "objects")
    return ObjectIndex(*(np.concatenate([getattr(part, key) for part in parts]) for key in columns))
