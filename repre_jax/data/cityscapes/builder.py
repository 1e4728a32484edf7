"""TFDS's cityscapes/semantic_segmentation, written from the official archives without TensorFlow.

Name, version, features, keys and splits follow TFDS's builder (datasets/cityscapes/cityscapes_dataset_builder.py), so
that what it prepared and what this prepares is one data set, in one order.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from repre_jax.data.cityscapes.archives import SIZE, Found, Pairs

NAME, CONFIG, VERSION = "cityscapes", "semantic_segmentation", "1.0.0"
IMAGE, LABEL_MAP = "image_left", "segmentation_label"


class Cityscapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types
    """Images and label maps as their files are, byte for byte."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=CONFIG, description="Cityscapes semantic segmentation dataset.")
    ]

    def __init__(self, found: Found, read: Callable[[str, Any], Iterator[dict]], **settings: Any):
        """read: a split's name and pairs -> the records, checked."""
        self._found, self._read = found, read
        super().__init__(config=CONFIG, **settings)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Cityscapes: street scenes of 27 cities with a class for each pixel.",
            homepage="https://www.cityscapes-dataset.com",
            features=tfds.features.FeaturesDict(
                {
                    "image_id": tfds.features.Text(),
                    IMAGE: tfds.features.Image(shape=(*SIZE, 3), encoding_format="png"),
                    LABEL_MAP: tfds.features.Image(shape=(*SIZE, 1), encoding_format="png", use_colormap=True),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split, pairs) for split, pairs in self._found.splits.items()}

    def _generate_examples(self, split: str, pairs: Pairs) -> Iterator[tuple[str, dict]]:
        for record in self._read(split, pairs):
            image, label_map = record["image"]
            yield record["image_id"], {"image_id": record["image_id"], IMAGE: image, LABEL_MAP: label_map}
