"""Opens a data set of images with the boxes and masks of their objects: coco_instances/2017, scenes/dense, or what
`prepare coco` made of one's own."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from repre_jax.core.config_paths import FOLDER
from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import crops, deep, first_use, identity, instances, object_index, prepared, sources
from repre_jax.data.object_index import ObjectIndex
from repre_jax.data.prepared import NotReadable
from repre_jax.data.sources import DataSet
from repre_jax.data.subset import Subset
from repre_jax.data.views import VALUE_RANGE

IMAGE, OBJECTS = "image", "objects"
FIELDS = {"id", "category_id", "bbox", "area", "iscrowd", "counts"}  # of OBJECTS
LEAST_SIDE = 32  # of an image that is trained on, in pixels (SwinOD mmdet/datasets/coco.py:100-122)


@dataclass(frozen=True)
class Categories:
    """The kinds of objects, in the order that numbers their classes.

    ids: as COCO's files have them, with holes. names: of each.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def classes(self, category_ids: np.ndarray) -> np.ndarray:
        """Categories' ids [N] -> classes, int32 [N]. Raises KeyError for an id that is none."""
        places = {identity: place for place, identity in enumerate(self.ids)}
        return np.array([places[each] for each in category_ids.tolist()], np.int32)

    def listed(self) -> list[dict[str, Any]]:
        """As COCO's files list them."""
        return [{"id": identity, "name": name} for identity, name in zip(self.ids, self.names, strict=True)]


@dataclass(frozen=True)
class DetectionData:
    """dataset: its records are Annotated's; 'train' lacks the images of which nothing can be learnt.

    indices: 'train', and 'test' if there is one -> what is known of these records. masks: whether objects have some.
    left_out: how many training images there are beside those of 'train'.
    """

    dataset: DataSet
    categories: Categories
    indices: Mapping[str, ObjectIndex]
    masks: bool
    left_out: int

    def crowded(self, slots: int) -> int:
        """How many training images have more objects than `slots`, of which an epoch then shows as many as fit."""
        return int((self.indices["train"].objects > slots).sum())


@dataclass(frozen=True)
class Annotated:
    """Random access to records with the names that views know: 'image', encoded; 'objects': Instances; 'classes': int32
    [N], theirs; 'record': the record's number; 'image_id': its id in COCO's files; 'file_name', if it has one."""

    source: Records
    categories: Categories
    value_range: deep.Ranges | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping:
        stored = self.source[index]
        found = instances.of_record(stored)
        record = {
            "image": stored[IMAGE],
            "objects": found,
            "classes": self.categories.classes(found.category_ids),
            "record": int(index),
            "image_id": int(stored["image_id"]),
        }
        if "file_name" in stored:
            record["file_name"] = stored["file_name"].decode(errors="replace")
        return record | ({VALUE_RANGE: self.value_range} if self.value_range else {})


def open_dataset(
    name: str,
    data_dir: str | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    *,
    masks: bool = True,
    value_range: deep.Ranges | None = None,
) -> DetectionData:
    """Opens the data set `name`, with data_dir and splits as data/sources.open_dataset takes them.

    masks: whether they are wanted. Raises UserError where the data set cannot be opened, has no objects as `prepare
    coco` writes them, lacks masks that are wanted, or none of its training images has an object.
    """
    crops.set_up_process()
    if not name or name.startswith(FOLDER):
        raise UserError(
            f"data.name is {name!r}, which is no data set of images with objects.\n"
            "  expected: coco_instances/2017, scenes/dense, or one that `prepare coco` wrote\n"
            "  prepare:  python -m repre_jax.tools.prepare coco --from=DIR\n"
            "  or:       the same and --name=my_objects --images=FOLDER --annotations=FILE, of one's own\n"
            "  change:   --config.data.name"
        )
    root = sources.data_root(data_dir)
    first_use.prepare(name, root)

    def read(place: Path) -> DetectionData:
        return _open_version(place, name, train_split, test_split, masks, value_range)

    return prepared.newest_readable(name, root, read, objects=True)


def _open_version(
    place: Path, name: str, train_split: str, test_split: str | None, masks: bool, value_range: deep.Ranges | None
) -> DetectionData:
    features = dict(prepared.open_any(place).info.features)
    _check_features(features, name)
    builder = prepared.open_version(place, name, ranged=value_range is not None)
    known = object_index.stored(builder)
    if masks and not known.masks:
        raise UserError(
            f"The objects of {name} have boxes, and no masks.\n"
            "  change:   --config configs/detect.py:boxes, which trains without masks; or the JSON, to one with\n"
            "            segmentations, and prepare it again"
        )
    categories = _categories(builder, place)
    encoded = [key for key, each in features.items() if isinstance(each, tfds.features.Image)]
    parts = sources.open_splits(
        name,
        {split.name: split.num_examples for split in builder.info.splits.values()},
        {"train": train_split, "test": test_split},
        lambda split: Annotated(
            prepared.open_split(builder, split, name, encoded), categories, deep.carried(value_range)
        ),
    )
    specs = {"train": train_split, "test": parts["test_split"]}
    indices = {key: object_index.of(builder, known, spec, parts[key]) for key, spec in specs.items() if spec}
    fit = _trainable(indices["train"], name, train_split)
    records = len(parts["train"])
    if len(fit) < records:
        parts["train"] = Subset(parts["train"], fit)
        indices["train"] = indices["train"].of(fit)
    dataset = DataSet(
        name=name,
        version=str(builder.version),
        directory=os.fspath(builder.data_dir),
        classes=len(categories),
        class_names=categories.names,
        objects=dict(zip(categories.ids, categories.names, strict=True)),
        value_range=value_range,
        contents=identity.of_shards(builder, specs),
        **parts,
    )
    return DetectionData(dataset, categories, indices, known.masks, records - len(fit))


def _trainable(index: ObjectIndex, name: str, split: str) -> np.ndarray:
    """The numbers of the images that have an annotation, be it a crowd, and no side below LEAST_SIDE, rising."""
    fit = np.flatnonzero((index.annotations > 0) & (index.sizes.min(axis=1) >= LEAST_SIDE))
    if len(fit) and index.objects[fit].any():
        return fit
    raise UserError(
        f"No image in split {split!r} of {name} has an object to train on.\n"
        f"  expected: an object of at least a pixel, no crowd, on an image of at least {LEAST_SIDE} pixels a side\n"
        f"  given:    {len(index):,} images with {int(index.annotations.sum()):,} annotations, of which "
        f"{int(index.objects.sum()):,} are such objects\n"
        "  change:   --config.data.train_split or --config.data.name"
    )


def _check_features(features: Mapping[str, tfds.features.FeatureConnector], name: str) -> None:
    objects = features.get(OBJECTS)
    fields = set(dict(objects.feature)) if isinstance(objects, tfds.features.Sequence) else set()
    lacking = sorted({IMAGE, "image_id"} - features.keys()) + sorted(f"{OBJECTS}/{key}" for key in FIELDS - fields)
    if lacking:
        of_tfds = "; TFDS's own coco has neither masks nor the ids that scoring needs" if name[:4] == "coco" else ""
        raise NotReadable(
            f"Data set {name} has no objects as they are read here{of_tfds}.\n"
            f"  expected: the features that `prepare coco` writes; there is no {', '.join(lacking)}\n"
            f"  given:    {', '.join(sorted(features))}\n"
            "  prepare:  python -m repre_jax.tools.prepare coco --from=DIR, DIR: a folder with COCO's archives\n"
            "  change:   --config.data.name=coco_instances/2017, or scenes/dense"
        )


def _categories(builder: tfds.core.DatasetBuilder, place: Path) -> Categories:
    try:
        listed = builder.info.metadata["categories"]
        return Categories(tuple(int(each["id"]) for each in listed), tuple(str(each["name"]) for each in listed))
    except (KeyError, TypeError, ValueError):
        raise NotReadable(
            f"{place / prepared.METADATA} does not list the categories of objects.\n"
            f"  change:   copy it again, or delete {place} and prepare the data set again"
        ) from None
