"""What a data set holds: some of its records, with what is known of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, detection, segmentation
from repre_jax.core.errors import UserError
from repre_jax.data import crops, instances, segmentation_views
from repre_jax.data.instances import Instances
from repre_jax.data.label_classes import Classes
from repre_jax.data.sources import DataSet
from repre_jax.data.views import NO_LABEL, VALUE_RANGE, label_of
from repre_jax.report.figures import records as sheet
from repre_jax.report.figures.records import Known
from repre_jax.tasks.figures import readable


def draw(config: ConfigDict, records: int, name: str) -> Figure:
    """Records of data.train_split as they are stored, chosen at random by the config's seed; those that cannot be read
    are passed over. config: of pre-training or an evaluation, of segmentation, whose label maps are drawn in the data
    set's own colours, or of detection. name: whose data they are, for the title.

    Raises UserError where the data set cannot be opened, or none of its records be read.
    """
    classes = None
    if config.task == "segment":
        found = segmentation.open_data(config)
        dataset, classes = found.dataset, found.classes
    elif config.task == "detect":
        dataset = detection.open_data(config).dataset
    else:
        dataset = augmentation.open_dataset(config)
    order = np.random.default_rng(config.seed).permutation(len(dataset.train))
    channels = config.data.channels or augmentation.RGB

    def read(number: int) -> Known:
        record = dataset.train[number]
        if config.task == "detect":
            return _annotated(record, channels, dataset.objects)
        return _known(dataset, record, channels) if classes is None else _labelled(record, channels, classes)

    known = readable.first(records, order, read)
    if not known:
        raise UserError(f"No record of {dataset.name} is a readable image.\n  change:   --config.data.name")
    split = config.data.train_split or "train"
    training = "training records" if split.partition("[")[0] == "train" else f"records of split {split}"
    caption = f"{len(known)} of {len(order):,} {training} of {dataset.name}, as they are stored."
    if any((each.label_map == sheet.IGNORED).any() for each in known if each.label_map is not None):
        black = "" if classes else "0 is black, and "
        caption += f" Label map: {black}{sheet.IGNORED}, which is not scored, is white."
    if any(each.crowds is not None and each.crowds.any() for each in known):
        caption += " Hatched: a crowd, many objects under one mask."
    legend = dict(zip(classes.names, classes.colours, strict=True)) if classes else _legend(dataset.objects, known)
    return sheet.draw(known, title=f"Data\n{name}", caption=caption, legend=legend)


def _legend(names: Mapping[int, str], known: Sequence[Known]) -> dict[str, Sequence[int]]:
    """Names of categories with their colours in 0..255, where records have a label map of them."""
    if not names or all(each.label_map is None for each in known):
        return {}
    ids = dict(enumerate(sorted(names), start=1))
    named = {"background": 0} | {names[each]: place for place, each in ids.items()}
    return {name: tuple(round(255 * float(part)) for part in sheet.colour(place)) for name, place in named.items()}


def _labelled(record: Mapping, channels: int, classes: Classes) -> Known:
    image, label_map = segmentation_views.decoded(record, classes, channels)
    name = record.get("file_name")
    return Known(image.astype(np.float32) / 255, name, label_map=label_map, painted=classes.painted(label_map))


def _annotated(record: Mapping, channels: int, names: Mapping[int, str]) -> Known:
    """Of a record as detection reads it."""
    image = crops.decode(record["image"], channels, record.get(VALUE_RANGE)).astype(np.float32) / 255
    return Known(image, record.get("file_name"), **_instances(record["objects"], names))


def _known(dataset: DataSet, record: Mapping, channels: int) -> Known:
    image = crops.decode(record["image"], channels, record.get(VALUE_RANGE)).astype(np.float32) / 255
    label = int(label_of(record))
    name = None
    if label != NO_LABEL:
        name = dataset.class_names[label] if dataset.class_names else str(label)
    label_map = _label_map(record, image.shape[:2])
    return Known(image=image, name=name, label_map=label_map, **_objects(record, image.shape[:2], dataset.objects))


def _objects(record: Mapping, size: tuple[int, int], names: Mapping[int, str]) -> dict[str, Any]:
    """Boxes of `objects`: as scenes/dense and `prepare coco` have them, with masks if there are any, or as TFDS's own
    detection data sets have them."""
    found = record.get("objects")
    if found is None or "bbox" not in found:
        return {}
    if {"category_id", "counts"} <= found.keys():
        return _instances(instances.of_record(record), names)
    corners = np.array(found["bbox"], np.float32).reshape(-1, 4)  # TFDS's: (ymin, xmin, ymax, xmax) in 0..1
    top, left, bottom, right = (corners * np.tile(size, 2)).T
    labels = [int(each) for each in found.get("label", np.zeros(len(corners), int))]
    kinds = [(each + 1, names.get(each, str(each))) for each in labels]
    return {"boxes": np.stack([left, top, right - left, bottom - top], axis=1), "kinds": kinds}


def _instances(found: Instances, names: Mapping[int, str]) -> dict[str, Any]:
    places = {each: place for place, each in enumerate(sorted(names), start=1)}  # as in the label map
    kinds = [(places.get(each, each), names.get(each, str(each))) for each in found.category_ids.tolist()]
    masks = {"masks": found.masks()} if all(found.counts) else {}
    return {"boxes": found.boxes, **masks, "kinds": kinds, "crowds": found.crowds}


def _label_map(record: Mapping, size: tuple[int, int]) -> np.ndarray | None:
    """The record's first array of one number a pixel, as label maps and segmentation masks are stored."""
    for key, value in record.items():
        if key != "image" and isinstance(value, np.ndarray) and value.dtype.kind in "iu":
            flat = value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value
            if flat.shape == size:
                return flat
    return None
