"""Opens a data set of images with label maps: what TFDS prepared, a folder, or scenes/dense.

A record is {'image': encoded bytes or an array, 'label_map': the same, 'file_name' if it has a name}.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import tensorflow_datasets as tfds

from repre_jax.core import config_paths
from repre_jax.core.config_paths import FOLDER
from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import (
    crops,
    deep,
    first_use,
    identity,
    label_checks,
    label_features,
    label_folder,
    prepared,
    sources,
    split_syntax,
)
from repre_jax.data.cityscapes import builder as cityscapes
from repre_jax.data.cityscapes import labels
from repre_jax.data.label_classes import IGNORED, MOST, Classes, numbered, plain
from repre_jax.data.label_folder import PairedFolder
from repre_jax.data.label_palettes import Palettes
from repre_jax.data.sources import DataSet
from repre_jax.data.views import VALUE_RANGE
from repre_jax.system import terminal


@dataclass(frozen=True)
class Asked:
    """What the user says of a data set beside its name; None: as it is found.

    image_key, label_map_key: features of a TFDS data set. num_classes: where the data set does not tell.
    first_value: the stored value of class 0; lower ones are ignored, as ADE20K's 0 is with 1.
    """

    image_key: str | None = None
    label_map_key: str | None = None
    num_classes: int | None = None
    first_value: int = 0
    channels: int = 3
    value_range: deep.Ranges | None = None


@dataclass(frozen=True)
class SegmentationData:
    """dataset: its records have 'image' and 'label_map'; its classes are these.

    size: (height, width) of all images, where the data set says that they have one size. unlabelled: whether none of
    some test records has a pixel of a class, see check_scored.
    """

    dataset: DataSet
    classes: Classes
    size: tuple[int, int] | None = None
    unlabelled: bool = False

    def check_scored(self) -> None:
        """Raises UserError where the test images have label maps without a single class, after looking at all of them
        if some had none."""
        if self.unlabelled:
            label_checks.refuse_unlabelled(self.dataset.split("test"), self.classes, self.dataset.name)

    def sizes(self, split: str) -> Mapping[tuple[int, int], int]:
        """(Height, width) -> how many images of 'train' or 'test' have it. Reads the headers of all of them, unless the
        data set says that they are of one size. Images that cannot be read are left out."""
        records = self.dataset.split(split)
        return {self.size: len(records)} if self.size else label_checks.sizes(records, self.dataset.name)


@dataclass(frozen=True)
class Labelled:
    """Random access to the records of `source`, with the names that views know: 'image', 'label_map', 'file_name'."""

    source: Records
    image: str
    label_map: str
    name: str | None = None
    value_range: deep.Ranges | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping:
        record = self.source[index]
        found = {"image": record[self.image], "label_map": record[self.label_map]}
        if self.name:
            called = record[self.name]
            found["file_name"] = called.decode(errors="replace") if isinstance(called, bytes) else str(called)
        return found | ({VALUE_RANGE: self.value_range} if self.value_range else {})


def open_dataset(
    name: str,
    data_dir: str | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    asked: Asked = Asked(),
) -> SegmentationData:
    """Opens the data set `name`, with data_dir and splits as data/sources.open_dataset takes them.

    name: of a TFDS data set with an image and a label map, such as 'scenes/dense' or
          'cityscapes/semantic_segmentation', or folder:PATH (data/label_folder.py).
    Raises UserError where it cannot be opened, has no label maps, or the first label maps have unknown values, or
    another size than their images.
    """
    crops.set_up_process()
    if not name:
        raise UserError("data.name is empty.\n  change:   --config.data.name=scenes/dense, or another one")
    _check_asked(asked)
    if name.startswith(FOLDER):
        opened = _open_folder(name, train_split, test_split, asked)
    else:
        root = sources.data_root(data_dir)
        first_use.prepare(name, root)

        def read(place: Path) -> SegmentationData:
            return _open_version(place, name, train_split, test_split, asked)

        opened = prepared.newest_readable(name, root, read)
    label_checks.look(opened.dataset.train, opened.classes, name)
    test = opened.dataset.test
    return replace(opened, unlabelled=test is not None and not label_checks.look(test, opened.classes, name))


def _check_asked(asked: Asked) -> None:
    count, first = asked.num_classes, asked.first_value
    if (count is not None and not 1 <= count <= MOST) or not 0 <= first < IGNORED:
        raise UserError(
            f"data.num_classes is {count}, and data.first_value is {first}.\n"
            f"  expected: 1 to {MOST} classes, whose values are below {IGNORED}\n"
            "  change:   --config.data.num_classes or --config.data.first_value"
        )
    if count is not None and first + count > IGNORED:
        raise UserError(
            f"{count} classes from value {first} on reach beyond {IGNORED - 1}, the highest value of a class.\n"
            "  change:   --config.data.num_classes or --config.data.first_value"
        )


def _open_version(place: Path, name: str, train_split: str, test_split: str | None, asked: Asked) -> SegmentationData:
    features = dict(prepared.open_any(place).info.features)
    image, label_map = label_features.find(features, name, asked.image_key, asked.label_map_key)
    builder = prepared.open_version(place, name, ranged=asked.value_range is not None, image=image)
    encoded = [key for key, each in features.items() if isinstance(each, tfds.features.Image)]  # none is decoded here
    record_name = label_features.record_name(features)

    def open_split(split: str) -> Labelled:
        records = prepared.open_split(builder, split, name, encoded)
        return Labelled(records, image, label_map, record_name, deep.carried(asked.value_range))

    parts = sources.open_splits(
        name,
        {split.name: split.num_examples for split in builder.info.splits.values()},
        {"train": train_split, "test": test_split},
        open_split,
    )
    classes = _classes(builder, features[label_map], name, asked) or label_checks.refuse_uncounted(parts["train"], name)
    specs = {"train": train_split, "test": parts["test_split"]}
    dataset = DataSet(
        name=name,
        version=str(builder.version),
        directory=os.fspath(builder.data_dir),
        classes=len(classes),
        class_names=classes.names,
        label_classes=classes,
        value_range=asked.value_range,
        contents=identity.of_shards(builder, specs),
        **parts,
    )
    shape = features[image].shape
    height, width = shape[:2]
    return SegmentationData(dataset, classes, (height, width) if height and width else None)


def _classes(
    builder: tfds.core.DatasetBuilder, label_map: tfds.features.FeatureConnector, name: str, asked: Asked
) -> Classes | None:
    """As the data set or the user says; None where neither does. Raises UserError where they contradict each other."""
    if builder.name == cityscapes.NAME:
        known: Classes | None = replace(labels.CLASSES, palettes=Palettes())  # of this data set alone
    else:
        names = label_features.class_names(label_map, builder.info.metadata)
        known = plain(names, asked.first_value) if names else None
    if known is None:
        return numbered(asked.num_classes, asked.first_value) if asked.num_classes else None
    if builder.name == cityscapes.NAME and asked.first_value:
        raise UserError("Cityscapes' ids are known.\n  change:   leave --config.data.first_value out")
    if asked.num_classes not in (None, len(known)):
        raise UserError(
            f"data.num_classes is {asked.num_classes}, and data set {name} has {len(known)} classes.\n"
            "  change:   leave --config.data.num_classes out"
        )
    return known


def _open_folder(name: str, train_split: str, test_split: str | None, asked: Asked) -> SegmentationData:
    config_paths.refuse_nothing("data.name", name)
    root = config_paths.absolute(name.removeprefix(FOLDER))
    found = label_folder.scan(root)
    for note in found.notes:
        terminal.warn(f"  {note}")

    def open_split(spec: str) -> PairedFolder:
        images = replace(split_syntax.take(found.splits, spec), value_range=deep.carried(asked.value_range))
        return PairedFolder(images, found.maps)

    parts = sources.open_splits(
        name,
        {split: len(images) for split, images in found.splits.items()},
        {"train": train_split, "test": test_split},
        open_split,
    )
    coloured = label_checks.are_coloured(parts["train"])
    classes = label_folder.classes(root, asked.num_classes, asked.first_value, coloured=coloured)
    classes = classes or label_checks.refuse_uncounted(parts["train"], name)
    specs = {"train": train_split, "test": parts["test_split"]}
    dataset = DataSet(
        name=name,
        version="as it lies there",
        directory=os.fspath(root),
        classes=len(classes),
        class_names=classes.names,
        label_classes=classes,
        value_range=asked.value_range,
        contents=identity.of_label_folder(found.splits, found.maps, specs, classes.coded),
        **parts,
    )
    return SegmentationData(dataset, classes)
