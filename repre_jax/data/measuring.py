"""What `prepare folder` measures of the pixels while it reads them: mean, deviation, the range of deep images."""

import io
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from PIL import Image

from repre_jax.core import passing
from repre_jax.data import crops, deep, folder, reading
from repre_jax.system import terminal

LEVELS = 256
HEADER = 128  # bytes of a .npy file that tell of its numbers
AHEAD = 256  # images that are measured at once
OTHER_NUMBERS = "other numbers"
LOWEST, HIGHEST = -(1 << 15), (1 << 16) - 1  # of 16 bits, with a sign or without


class Statistics:
    """Mean and standard deviation per channel over all pixels of the training images, of values in 0..1.

    Counts of the values, which are exact and the same in any order. Those of images of more than 8 bits are counted as
    they are, so that the range in which they become 0..255 can be chosen when all have been seen.
    """

    def __init__(self, channels: int, value_range: deep.Ranges | None = None):
        """value_range: of images of more than 8 bits; None: as measured.

        Arrays (.npy) are stored with 8 bits, so that theirs must be known before: see of_arrays.
        """
        self.channels, self.value_range = channels, value_range
        self._lock = threading.Lock()
        self._counts = np.zeros((channels, LEVELS), np.int64)
        self._upper = np.zeros((channels, LEVELS), np.int64)  # of deep images, their upper 8 of 16 bits
        self._deep: np.ndarray | None = None  # of deep images, int64 [channels, values from LOWEST to HIGHEST]

    def stored(self, image: bytes, split: str) -> bytes | np.ndarray:
        """What is written for this image, which is measured if it is in 'train'."""
        measured = self.value_range is None and self.channels in folder.ENCODED and not image.startswith(deep.NUMPY)
        if measured and deep.is_deep(image):
            self._measure_deep(image, split)
            return image
        pixels = crops.decode(image, self.channels, self.value_range)
        if split == "train":
            with self._lock:
                self._counts += _counts(pixels)
        if self.channels not in folder.ENCODED:
            return pixels
        return _png(pixels) if image.startswith(deep.NUMPY) else image

    def _measure_deep(self, image: bytes, split: str) -> None:
        """Raises UnreadableImage for what is no image of 16 bits."""
        try:
            values = deep.values(image, self.channels)
        except MemoryError:
            raise  # the machine's, as whoever reads ahead says
        except deep.UNREADABLE:
            values = np.zeros(())
        negative = values.dtype.kind == "i" and values.size and LOWEST <= values.min() < 0 and values.max() <= HIGHEST
        upper = None if negative else crops.decode(image, self.channels)  # which refuses all else
        if split != "train":
            return
        found = values.reshape(-1, self.channels).astype(np.int64) - LOWEST
        counts = np.stack([np.bincount(found[:, c], minlength=HIGHEST - LOWEST + 1) for c in range(self.channels)])
        with self._lock:
            self._deep = counts if self._deep is None else self._deep + counts
            if upper is not None:
                self._upper += _counts(upper)

    def _ranges(self) -> deep.Ranges | None:
        """Of images of more than 8 bits; None where there are none."""
        if self._deep is None:
            return self.value_range
        return deep.measured(self._deep, LOWEST)[0]

    def result(self) -> dict[str, list]:
        """'mean' and 'std', a number a channel; with deep images 'value_range', [low, high] of each channel,
        or of all."""
        ranges = self._ranges()
        counts = self._counts + self._upper
        if self._deep is not None and ranges and deep.carried(ranges):
            every = np.repeat(np.arange(LOWEST, HIGHEST + 1)[:, np.newaxis], self.channels, axis=1)
            levels = deep.to_levels(every, ranges).T
            counts = self._counts + np.stack(
                [np.bincount(*pair, LEVELS) for pair in zip(levels, self._deep, strict=True)]
            ).astype(np.int64)
        values, weights = np.arange(LEVELS) / (LEVELS - 1), counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        mean = weights @ values
        found = {"mean": mean.tolist(), "std": np.sqrt(np.maximum(0, weights @ values**2 - mean**2)).tolist()}
        return found | ({"value_range": [list(pair) for pair in ranges]} if ranges else {})

    def lines(self) -> list[str]:
        """The result, for people."""
        found = self.result()
        lines = [f"{key:<11} {', '.join(f'{value:.4f}' for value in found[key])}" for key in ("mean", "std")]
        if self._deep is not None:
            ranges, each = deep.measured(self._deep, LOWEST)
            lines.append(f"{'16 bits':<11} values {deep.in_words(each)}; {deep.in_words(ranges)} become 0 to 255")
            low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
            usual = max(int(np.searchsorted(np.cumsum(row), 0.999 * row.sum())) for row in self._deep) + LOWEST
            if low >= 0 and deep.used(0, max(0, usual))[1] * 4 < high:
                lines.append(
                    f"{'':<11} 99.9 % of them are at most {usual:,}: --value-range 0 {usual} would keep more of these"
                )
        elif self.value_range:
            lines.append(f"{'range':<11} {deep.in_words(self.value_range)} become 0 to 255")
        return lines


def of_arrays(images: Mapping[str, folder.ImageFolder], channels: int) -> deep.Ranges | None:
    """The range of each channel over the deep images of 'train', where some image is an array (.npy) of whole numbers
    of up to 16 bits; None where there is no such array, or an image of other numbers, whose range nobody can measure.

    images: of each split. Reads the first bytes of all arrays, and all of train's images where it measures. What is no
    readable image is passed over here.
    """
    arrays = [(some, number) for some in images.values() for number, file in enumerate(some.files) if _is_npy(file)]
    train = images["train"]
    with ThreadPoolExecutor(reading.THREADS) as pool:
        if not any(pool.map(lambda each: _is_deep_array(*each), arrays)):
            return None
        found: list[tuple[np.ndarray, np.ndarray]] = []
        with terminal.bar(len(train), "  range of values") as bar:
            for start in range(0, len(train), AHEAD):
                numbers = range(start, min(start + AHEAD, len(train)))
                spans = list(pool.map(lambda number: _span(train, number, channels), numbers))
                if any(isinstance(span, str) for span in spans):
                    return None
                found += [span for span in spans if isinstance(span, tuple)]
                bar.update(len(numbers))
    if not found:
        return None
    lowest, highest = (np.min([low for low, _ in found], axis=0), np.max([high for _, high in found], axis=0))
    return deep.taken([(float(low), float(high)) for low, high in zip(lowest, highest, strict=True)])


def _is_npy(file: str) -> bool:
    return file.lower().endswith(".npy")


def _is_deep_array(images: folder.ImageFolder, number: int) -> bool:
    try:
        beginning = images.beginning(number, HEADER)
    except OSError as error:
        passing.check(error, f"{images.name(number)} cannot be read")
        return False
    return beginning.startswith(deep.NUMPY) and deep.is_deep(beginning)


def _span(images: folder.ImageFolder, number: int, channels: int) -> tuple[np.ndarray, np.ndarray] | str | None:
    """Lowest and highest value of each channel of a deep image; None of another one, and OTHER_NUMBERS of one that is
    not of whole numbers of 16 bits."""
    try:
        image = images[number]["image"]
        if not deep.is_deep(image):
            return None
        values = deep.values(image, channels)
    except deep.UNREADABLE as error:
        passing.check(error, f"{images.name(number)} cannot be read")
        return None  # whoever writes it says so
    lowest, highest = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    if not np.issubdtype(values.dtype, np.integer) or lowest.min() < LOWEST or highest.max() > HIGHEST:
        return OTHER_NUMBERS
    return lowest, highest


def _counts(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, C] -> how often each value is there, int64 [C, 256]."""
    counts = [cv2.calcHist([pixels], [c], None, [LEVELS], [0, LEVELS]).ravel() for c in range(pixels.shape[2])]
    return np.asarray(counts).astype(np.int64)


def _png(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(encoded, "PNG")
    return encoded.getvalue()
