"""Where the windows lie by which a segmentation is tested, and how large its images are made: arithmetic of the host.

As SETR and mmsegmentation have it (SETR mmseg/models/segmentors/encoder_decoder.py:169-212). Images of a split may have
any sizes; on the device they lie at the top left of canvases that fit the largest.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from flax import struct

from repre_jax.core.errors import UserError
from repre_jax.data.segmentation_views import rescaled

Size = tuple[int, int]  # height, width
Array = np.ndarray | jax.Array  # as a batch's are, on the host and on the device
PLAIN = (1.0,)


@dataclass(frozen=True)
class SlidingTest:
    """How images are tested.

    crop, stride: of the windows, height and width; the last window of a row or column is shifted inside.
    resize_to:    height and width that an image is made as large as, keeping its ratio; None: as it is. SETR's is
                  (1025, 2049), also for images of 1024 x 2048.
    scales:       of several sizes the mean of the probabilities is taken. Any others than (1.0,) go by the shorter side
                  alone, which becomes no smaller than the crop, so that with SETR's 768 both 0.5 and 0.75 are
                  768 x 1536 (datasets/pipelines/transforms.py, setr_multi_scale).
    flip:         the mean of each image and its mirror image.
    """

    crop: Size
    stride: Size
    resize_to: Size | None = None
    scales: tuple[float, ...] = PLAIN
    flip: bool = False

    @property
    def within(self) -> tuple[int, int] | None:
        """(Longer, shorter) side of resize_to, as views take it."""
        return None if self.resize_to is None else (max(self.resize_to), min(self.resize_to))

    def sizes(self, size: Size) -> tuple[Size, ...]:
        """That an image of `size` has at each scale."""
        if self.scales == PLAIN:
            return (rescaled(size, self.within),)
        short = min(self.resize_to or size)
        smallest = max(side / own for side, own in zip(self.crop, size, strict=True))
        return tuple(_scaled(size, max(int(short * scale) / min(size), smallest)) for scale in self.scales)


def _scaled(size: Size, factor: float) -> Size:
    return (int(size[0] * factor + 0.5), int(size[1] * factor + 0.5))


def starts(size: int, crop: int, stride: int) -> list[int]:
    """Of the windows along one side, for example of 2049: 0, 512, 1024, 1281 by crops of 768 and strides of 512."""
    count = max(size - crop + stride - 1, 0) // stride + 1
    return [max(min(stride * number + crop, size) - crop, 0) for number in range(count)]


def places(size: Size, crop: Size, stride: Size) -> list[Size]:
    """The top left corners of all windows of an image, row by row."""
    rows, columns = (starts(*sides) for sides in zip(size, crop, stride, strict=True))
    return [(y, x) for y in rows for x in columns]


@dataclass(frozen=True)
class Layout:
    """What images of a split need on the device: shapes that are the same for each of its batches.

    canvas: height and width that fit every image and label map. scaled: the same at each scale. windows: the largest
    number of them at each scale.
    """

    canvas: Size
    scaled: tuple[Size, ...]
    windows: tuple[int, ...]


@struct.dataclass
class Pass:
    """Of a batch at one scale. sizes: int32 [B, 2], of the images. places: int32 [B, windows, 2], top left corners of
    their windows, of which the first counts [B] are there."""

    sizes: Array
    places: Array
    counts: Array


def layout(extents: Iterable[Size], how: SlidingTest, *, trained: bool = False) -> Layout:
    """Of all images of a split. extents: their heights and widths. trained: the crop cannot be changed any more.

    Raises UserError for an image that is smaller than the crop, once it is resized.
    """
    canvas, scaled, windows = (0, 0), [(0, 0)] * len(how.scales), [0] * len(how.scales)
    sizes = sorted(set(extents))
    for size in sizes:
        canvas = _larger(canvas, size)
        for number, new in enumerate(how.sizes(size)):
            if new[0] < how.crop[0] or new[1] < how.crop[1]:
                raise _below_crop(size, new, how.crop, sizes, trained=trained)
            scaled[number] = _larger(scaled[number], new)
            windows[number] = max(windows[number], len(places(new, how.crop, how.stride)))
    return Layout(canvas, tuple(scaled), tuple(windows))


def reaching(size: Size, how: SlidingTest) -> SlidingTest:
    """The same test; for an image of `size` that it would leave below the crop, one that enlarges it that far."""
    if how.scales != PLAIN or all(new >= side for new, side in zip(how.sizes(size)[0], how.crop, strict=True)):
        return how
    factor = max(side / own for side, own in zip(how.crop, size, strict=True))
    return replace(how, resize_to=(math.ceil(factor * min(size)), math.ceil(factor * max(size))))


def roomy(size: Size, how: SlidingTest) -> Layout:
    """A layout for an image of `size`, and for any other with as many windows in each row and column: so images of many
    sizes need few programs."""
    sizes = how.sizes(size)
    scaled = tuple(_filled(new, how) for new in sizes)
    own = scaled[0] if how.scales == PLAIN and how.resize_to is None else _filled(size, how)
    return Layout(own, scaled, tuple(len(places(new, how.crop, how.stride)) for new in sizes))


def _filled(size: Size, how: SlidingTest) -> Size:
    """The largest image with as many windows."""
    counts = [len(starts(*sides)) for sides in zip(size, how.crop, how.stride, strict=True)]
    height, width = (c + (n - 1) * s for n, c, s in zip(counts, how.crop, how.stride, strict=True))
    return height, width


def passes(extents: np.ndarray, found: Layout, how: SlidingTest) -> tuple[Pass, ...]:
    """One for each scale. extents: int [B, 2]; a row of zeros, where there is no image, gets no window."""
    batch = []
    for scale, most in enumerate(found.windows):
        sizes = np.ones((len(extents), 2), np.int32)
        corners, counts = np.zeros((len(extents), most, 2), np.int32), np.zeros(len(extents), np.int32)
        for row, (height, width) in enumerate(extents.tolist()):
            if height and width:
                sizes[row] = how.sizes((height, width))[scale]
                of_row = places((int(sizes[row, 0]), int(sizes[row, 1])), how.crop, how.stride)
                counts[row] = len(of_row)
                corners[row, : len(of_row)] = of_row
        batch.append(Pass(sizes, corners, counts))
    return tuple(batch)


def _larger(one: Sequence[int], other: Sequence[int]) -> Size:
    return (max(one[0], other[0]), max(one[1], other[1]))


def _below_crop(size: Size, new: Size, crop: Size, sizes: Sequence[Size], *, trained: bool) -> UserError:
    """sizes: of all images, which are all to fit after the advice was taken."""
    resized = "" if new == size else f", resized to {new[0]} x {new[1]},"
    short = max(crop)
    long = max(math.ceil(max(each) * short / min(each)) for each in sizes)
    return UserError(
        f"A test image of {size[0]} x {size[1]} pixels{resized} is smaller than the crop, {crop[0]} x {crop[1]}, "
        "which is what the network sees at once.\n"
        "  change:   "
        + "--config.data.image_size='(HEIGHT, WIDTH)' to a smaller crop, in a new --workdir, or\n            "
        * (not trained)
        + f"--config.segment.test_size='({short}, {long})', which makes images larger before they are tested"
    )
