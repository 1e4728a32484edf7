"""A data set in COCO's JSON as TFDS writes it: each image as its file is, byte for byte, with its objects.

TFDS's own coco has neither masks nor the ids that scoring needs, and cuts areas to whole numbers.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from repre_jax.data import object_index
from repre_jax.data.coco import objects
from repre_jax.data.coco.images import Found, Listed

NAME, CONFIG, VERSION = "coco_instances", "2017", "1.0.0"
KEYS = 2**128  # TFDS sorts records by a number below, through files that hold a part of the numbers each


def key(place: int, records: int) -> int:
    """That of a record at its place among so many. Small numbers would all end up in one file, which TFDS sorts in
    memory: of COCO 19 GB."""
    return place * (KEYS // records)


class CocoInstances(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types
    """Images and objects, by rising id of the image, so that what is known of all stands beside in the same order."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)

    def __init__(self, found: Found, read: Callable[[str, Any], Iterator[dict]], *, masks: bool, **settings: Any):
        """read: a split's name and images -> the records, converted. masks: whether objects have them."""
        self._found, self._read, self._masks = found, read, masks
        super().__init__(**settings)

    def _info(self) -> tfds.core.DatasetInfo:
        annotation = {  # as bytes, since TFDS keeps other floating-point numbers in 32 bits
            "id": np.int64,
            "category_id": np.int64,
            "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float64, encoding="bytes"),
            "area": tfds.features.Tensor(shape=(), dtype=np.float64, encoding="bytes"),
            "iscrowd": np.int64,
            "counts": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images with the boxes, masks and categories of their objects, from COCO's JSON.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "image_id": np.int64,
                    "file_name": tfds.features.Text(),
                    "height": np.int64,
                    "width": np.int64,
                    "objects": tfds.features.Sequence(annotation),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split, images) for split, images in self._found.splits.items()}

    def _generate_examples(self, split: str, images: Listed) -> Iterator[tuple[int, dict]]:
        rows: list[object_index.Row] = []
        for record in self._read(split, images):
            encoded, entry, found = record["image"]
            yield (
                key(len(rows), len(images)),
                {
                    "image": encoded,
                    "image_id": entry.identity,
                    "file_name": entry.file_name,
                    "height": found.size[0],
                    "width": found.size[1],
                    "objects": objects.stored(found),
                },
            )
            rows.append(object_index.row(found))
        self.info.metadata["categories"] = [dict(each) for each in self._found.categories]
        self.info.metadata[object_index.MASKS] = self._masks
        self.info.metadata.setdefault(object_index.INDEX, {})[split] = object_index.as_metadata(rows)
