"""The embedded data set: scikit-learn's handwritten digits, as a TFDS builder.

1,797 grey images of 8 x 8 pixels in 17 levels that ship inside scikit-learn (the test part of UCI's Optical
Recognition of Handwritten Digits): the first 1,437 are 'train', the last 360 'test', in scikit-learn's order.
They are written as ArrayRecord and read back like ImageNet, so that the demo goes the road of the real run.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds

from repre_jax.data import embedded

TRAIN_RECORDS = 1437


class Digits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits; image: PNG, grey, 8 x 8 uint8; label: 0..9."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 8 x 8 pixels that ship inside scikit-learn.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        return {
            "train": self._generate_examples(0, TRAIN_RECORDS),
            "test": self._generate_examples(TRAIN_RECORDS, None),
        }

    def _generate_examples(self, start: int, stop: int | None) -> Iterator[tuple[int, dict]]:
        from sklearn.datasets import load_digits  # slow to import, and needed only once

        digits = load_digits()
        # 0..16 -> 0..255. TFDS would need TensorFlow to encode an array, so it is given the PNG's bytes.
        pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
        for index in range(start, len(pixels) if stop is None else stop):
            _, png = cv2.imencode(".png", pixels[index])
            yield index, {"image": png.tobytes(), "label": int(digits.target[index])}


def prepare(data_dir: str) -> None:
    """Writes the data set as ArrayRecord below `data_dir`, unless it is there already; one process at a time.

    Raises UserError where something else lies in its place, and OSError where nothing can be written.
    """
    embedded.prepare(
        Path(data_dir),
        Digits.name,
        str(Digits.VERSION),
        "the digits that ship with scikit-learn",
        lambda: Digits(data_dir=data_dir, file_format="array_record"),
    )
