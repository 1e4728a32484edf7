"""Label maps in every form that they are stored in, and small data sets that have them."""

import io
import struct
import zlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIZE = (12, 20)


def png(pixels, mode=None) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels, mode).save(stream, "PNG")
    return stream.getvalue()


def palette_png(indices, colours) -> bytes:
    image = Image.fromarray(indices, "P")
    image.putpalette(np.array(colours, np.uint8).ravel().tolist())
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def narrow_png(values, bits) -> bytes:
    """A grey PNG of less than 8 bits, which Pillow does not write."""
    rows = [np.packbits(((row[:, None] >> np.arange(bits)[::-1]) & 1).ravel()).tobytes() for row in values]
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
        (b"IEND", b""),
    )
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def photograph(number, size=SIZE) -> bytes:
    return png(np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8))


def values(number, classes=3, size=SIZE) -> np.ndarray:
    """A label map of classes 0 to `classes` - 1, all of them there."""
    found = np.random.default_rng(number).integers(0, classes, size, dtype=np.uint8)
    found.ravel()[:classes] = np.arange(classes)
    return found


def fill(root, names, suffix=".png"):
    """Images and label maps at these places, such as ('images/train/{}', 'labels/train/{}', 3)."""
    for images, maps, count in names:
        for number in range(count):
            for place, content in ((f"{images}.png", photograph(number)), (f"{maps}{suffix}", png(values(number)))):
                path = root / place.format(number)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    return root


class Streets(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """4 records to train on and 2 to validate; record n's image is photograph(n) and its map values(n)."""

    name = "streets"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, features, record, **settings):
        """record: a number -> what is stored."""
        self._features, self._record = features, record
        super().__init__(**settings)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(self._features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(4), "validation": self._generate_examples(2)}

    def _generate_examples(self, count):
        for number in range(count):
            yield number, self._record(number)


def prepare(root, features, record):
    Streets(features, record, data_dir=str(root), file_format="array_record").download_and_prepare()
    return str(root)
