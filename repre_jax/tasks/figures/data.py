"""What a data set holds: some of its records, with what is known of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from repre_jax.builders import augmentation
from repre_jax.data import crops, instances, prepared
from repre_jax.data.sources import DataSet
from repre_jax.data.views import NO_LABEL, VALUE_RANGE, label_of
from repre_jax.report.figures import records as sheet
from repre_jax.report.figures.records import Known


def draw(config: ConfigDict, records: int, name: str) -> Figure:
    """Training records as they are stored, chosen at random by the config's seed. config: of pre-training. name: whose
    data they are, for the title.

    Raises UserError where the data set cannot be opened, and UnreadableImage for a damaged record.
    """
    dataset = augmentation.open_dataset(config)
    count = len(dataset.train)
    chosen = np.random.default_rng(config.seed).permutation(count)[:records]
    categories = {each["id"]: each["name"] for each in prepared.metadata(Path(dataset.directory)).get("categories", ())}
    known = [_known(dataset, dataset.train[int(number)], config.data.channels, categories) for number in chosen]
    caption = f"{len(known)} of {count:,} training records of {dataset.name}, as they are stored."
    if any(each.label_map is not None for each in known):
        caption += " Label map: black is the background, white is not scored."
    return sheet.draw(known, title=f"Data\n{name}", caption=caption)


def _known(dataset: DataSet, record: Mapping, channels: int, categories: Mapping[int, str]) -> Known:
    image = crops.decode(record["image"], channels, record.get(VALUE_RANGE)).astype(np.float32) / 255
    label = int(label_of(record))
    name = None
    if label != NO_LABEL:
        name = dataset.class_names[label] if dataset.class_names else str(label)
    label_map = _label_map(record, image.shape[:2])
    return Known(image=image, name=name, label_map=label_map, **_objects(record, image.shape[:2], categories))


def _objects(record: Mapping, size: tuple[int, int], categories: Mapping[int, str]) -> dict[str, Any]:
    """Boxes of `objects`: with masks as scenes/dense has them, or as TFDS's own detection data sets have them."""
    found = record.get("objects")
    if found is None or "bbox" not in found:
        return {}
    if "category_id" in found:
        objects = instances.of_record(record)
        places = {each: place for place, each in enumerate(sorted(categories), start=1)}  # as in the label map
        kinds = [(places.get(each, each), categories.get(each, str(each))) for each in objects.category_ids.tolist()]
        return {"boxes": objects.boxes, "masks": objects.masks(), "kinds": kinds}
    corners = np.array(found["bbox"], np.float32).reshape(-1, 4)  # TFDS's: (ymin, xmin, ymax, xmax) in 0..1
    top, left, bottom, right = (corners * np.tile(size, 2)).T
    labels = found.get("label", np.zeros(len(corners), int))
    kinds = [(int(each) + 1, str(each)) for each in labels]
    return {"boxes": np.stack([left, top, right - left, bottom - top], axis=1), "kinds": kinds}


def _label_map(record: Mapping, size: tuple[int, int]) -> np.ndarray | None:
    """The record's first array of one number a pixel, as label maps and segmentation masks are stored."""
    for key, value in record.items():
        if key != "image" and isinstance(value, np.ndarray) and value.dtype.kind in "iu":
            flat = value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value
            if flat.shape == size:
                return flat
    return None
