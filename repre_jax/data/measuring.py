"""What `prepare folder` measures of the pixels while it reads them: mean, deviation, the range of deep images."""

import io
import threading

import cv2
import numpy as np
from PIL import Image

from repre_jax.data import crops, deep, folder

LEVELS = 256
LOWEST, HIGHEST = -(1 << 15), (1 << 16) - 1  # of 16 bits, with a sign or without


class Statistics:
    """Mean and standard deviation per channel over all pixels of the training images, of values in 0..1.

    Counts of the values, which are exact and the same in any order. Those of images of more than 8 bits are counted as
    they are, so that the range in which they become 0..255 can be chosen when all have been seen.
    """

    def __init__(self, channels: int, value_range: deep.Ranges | None = None):
        """value_range: of images of more than 8 bits; None: as measured."""
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
        except (OSError, ValueError, SyntaxError, cv2.error, Image.DecompressionBombError):
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
        """'mean' and 'std', a number a channel; with deep images 'value_range', [low, high] of all channels."""
        ranges = self._ranges()
        counts = self._counts + self._upper
        if self._deep is not None and ranges and deep.carried(ranges):
            levels = deep.to_levels(np.arange(LOWEST, HIGHEST + 1)[:, np.newaxis], ranges)[:, 0]
            counts = self._counts + np.stack([np.bincount(levels, row, LEVELS) for row in self._deep]).astype(np.int64)
        values, weights = np.arange(LEVELS) / (LEVELS - 1), counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        mean = weights @ values
        found = {"mean": mean.tolist(), "std": np.sqrt(np.maximum(0, weights @ values**2 - mean**2)).tolist()}
        return found | ({"value_range": [list(pair) for pair in ranges]} if ranges else {})

    def lines(self) -> list[str]:
        """The result, for people."""
        found = self.result()
        lines = [f"{key:<11} {', '.join(f'{value:.4f}' for value in found[key])}" for key in ("mean", "std")]
        if self._deep is not None:
            ((low, high),), each = deep.measured(self._deep, LOWEST)
            seen = ", ".join(f"{least:,.0f} to {most:,.0f}" for least, most in each)
            lines.append(f"{'16 bits':<11} values {seen}; {low:,.0f} to {high:,.0f} become 0 to 255")
            total = self._deep.sum(axis=0)
            usual = int(np.searchsorted(np.cumsum(total), 0.999 * total.sum())) + LOWEST
            if low >= 0 and deep.used(0, max(0, usual))[1] * 4 < high:
                lines.append(
                    f"{'':<11} 99.9 % of them are at most {usual:,}: --value-range 0 {usual} would keep more of these"
                )
        elif self.value_range:
            lines.append(f"{'range':<11} {self.value_range[0][0]:g} to {self.value_range[0][1]:g} become 0 to 255")
        return lines


def _counts(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, C] -> how often each value is there, int64 [C, 256]."""
    counts = [cv2.calcHist([pixels], [c], None, [LEVELS], [0, LEVELS]).ravel() for c in range(pixels.shape[2])]
    return np.asarray(counts).astype(np.int64)


def _png(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(encoded, "PNG")
    return encoded.getvalue()
