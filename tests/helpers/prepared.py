"""Small data sets as TFDS prepares them, and the same stored as TFRecord, TFDS's default, without TensorFlow."""

import io
import json
import shlex
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from PIL import Image

from repre_jax.core.errors import UserError
from repre_jax.data import sources

COUNTS = {"train": 20, "test": 6}
SHARDS = 3


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class Pets(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """20 records to train on and 6 to test, in 3 files each; record n's picture is picture(n)."""

    name = "pets"
    VERSION = tfds.core.Version("1.0.0")
    IMAGE = tfds.features.Image(shape=(None, None, 3))

    def _info(self):
        label = tfds.features.ClassLabel(names=["cat", "dog"])
        features = tfds.features.FeaturesDict({"image": self.IMAGE, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split):
        for index in range(COUNTS[split]):
            number = index + (100 if split == "test" else 0)
            yield index, {"image": self.encoded(number), "label": number % 2}

    def encoded(self, number):
        return picture(number)


def prepare(root: Path, kind=Pets, version="1.0.0", config=None) -> Path:
    """The version's folder, as ArrayRecord below root."""
    made = type(
        kind.__name__, (kind,), {"VERSION": tfds.core.Version(version), "name": kind.name}, skip_registration=True
    )
    settings = {"config": tfds.core.BuilderConfig(name=config, version=version)} if config else {}
    builder = made(data_dir=str(root), file_format="array_record", **settings)
    tfds.disable_progress_bar()
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=SHARDS))
    return Path(builder.data_dir)


def to_tfrecord(place: Path) -> Path:
    """Replaces the version's ArrayRecord files by TFRecord ones."""
    for file in place.glob("*.array_record-*"):
        stored = b"".join(framed(record) for record in ArrayRecordDataSource([str(file)]))
        file.with_name(file.name.replace(".array_record-", ".tfrecord-")).write_bytes(stored)
        file.unlink()
    change_info(place, fileFormat="tfrecord")
    return place


def change_info(place: Path, **keys) -> None:
    file = place / "dataset_info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def opened(root, name="pets", **splits):
    return sources.open_dataset(name, str(root), **splits)


def refused(root, name="pets", **splits):
    with pytest.raises(UserError) as error:
        opened(root, name, **splits)
    return str(error.value)


def change(message):
    """The flags that a message advises, by key; as a shell would take them apart."""
    line = next(line for line in message.splitlines() if line.startswith("  change:"))
    flags = [word for word in shlex.split(line.removeprefix("  change:")) if word.startswith("--config.")]
    return dict(flag.removeprefix("--config.data.").split("=", 1) for flag in flags)


def is_whole(dataset):
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (20, 6, 2)
    assert [record["image"] for record in dataset.train] == [picture(number) for number in range(20)]
    assert [int(record["label"]) for record in dataset.test] == [0, 1, 0, 1, 0, 1]


def files_of(place, split="train"):
    return sorted(place.glob(f"pets-{split}.array_record-*"))


def framed(record: bytes) -> bytes:
    """A record as TFRecord has it."""
    length = struct.pack("<Q", len(record))
    return length + masked(length) + record + masked(record)


def masked(data: bytes) -> bytes:
    """CRC-32C by its definition, bit by bit in a table, rotated and shifted as TensorFlow does."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _table() -> list[int]:
    values = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)  # noqa: PLW2901
        values.append(number)
    return values


TABLE = _table()
