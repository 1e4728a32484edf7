"""Views of images with label maps: a random crop for training, the whole image on a canvas for tests.

What the host does of SETR's augmentation (SETR configs/_base_/datasets/cityscapes_768x768.py, by mmsegmentation 0.6
mmseg/datasets/pipelines/transforms.py:163-216,413-479): resizing by a random ratio and cropping. Flip and colours come
after these on the device (dense_augment.py), and what is not image stays marked, since padding is 0 after normalising.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from repre_jax.core.types import LabelMaps
from repre_jax.data import crops, label_maps
from repre_jax.data.label_classes import IGNORED, Classes
from repre_jax.data.views import VALUE_RANGE, Sample

Size = tuple[int, int]  # height, width
DECODED = "decoded"  # of a record that data/decoded.py has kept: what `decoded` gives of it, and nothing else


@dataclass(frozen=True)
class SegmentationView:
    """'images' uint8 [H, W, C], 'label_maps' uint8 [H, W] and 'extents' int32 [2] of one random crop.

    The image is resized by a ratio drawn evenly from `ratios`, then cropped; what it lacks of the crop is padding,
    right and below. A crop of which one class has `largest_share` or more of the pixels that are not ignored is drawn
    again; one after `tries` of them is taken as it is. With a share of 1 the first crop is taken.

    size: (H, W). scale_to: longer and shorter side that an image keeps within at ratio 1; None: its own size.
    """

    size: Size
    classes: Classes
    channels: int = 3
    scale_to: tuple[int, int] | None = None
    ratios: tuple[float, float] = (0.5, 2.0)
    largest_share: float = 0.75
    tries: int = 10
    batch: ClassVar[Callable[..., LabelMaps]] = LabelMaps

    def __call__(self, record: Mapping, rng: np.random.Generator) -> Sample:
        image, classes = decoded(record, self.classes, self.channels)
        size = rescaled(classes.shape, self.scale_to, rng.uniform(*self.ratios))
        classes = label_maps.resized(classes, size)
        top, left = self._place(classes, rng)
        box = np.s_[top : top + self.size[0], left : left + self.size[1]]
        return padded(resized(image, size)[box], self.size) | {"label_maps": padded_map(classes[box], self.size)}

    def _place(self, classes: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
        """Top and left of the crop."""
        free = [max(whole - side, 0) for whole, side in zip(classes.shape, self.size, strict=True)]
        for _ in range(self.tries if self.largest_share < 1 else 0):
            top, left = int(rng.integers(free[0] + 1)), int(rng.integers(free[1] + 1))
            if self._is_mixed(classes[top : top + self.size[0], left : left + self.size[1]]):
                return top, left
        return int(rng.integers(free[0] + 1)), int(rng.integers(free[1] + 1))

    def _is_mixed(self, classes: np.ndarray) -> bool:
        counts = np.bincount(classes.ravel(), minlength=256)[:IGNORED]
        return bool(counts.max() < self.largest_share * counts.sum())


@dataclass(frozen=True)
class SegmentationTestView:
    """The whole image and its label map, each at the top left of a canvas, right and below of which is padding.

    'images' uint8 [H, W, C] and 'extents' int32 [2], of the image after it was resized to `scale_to`; 'label_maps'
    uint8 [h, w] and 'label_extents' int32 [2], of the label map as it is stored, by which is scored. Nothing is random.

    size: (h, w), of the canvas of label maps: the largest height and width among the images.
    scale_to: longer and shorter side that an image keeps within, as in training; None: its own size, and all is (h, w).
    image_size: (H, W), of the canvas of images; None: of an image of `size` after it was resized, which has room for
                all if they are of one shape.
    """

    size: Size
    classes: Classes
    channels: int = 3
    scale_to: tuple[int, int] | None = None
    image_size: Size | None = None
    batch: ClassVar[Callable[..., LabelMaps]] = LabelMaps

    @property
    def canvas(self) -> Size:
        """(H, W) of 'images'."""
        return self.image_size or rescaled(self.size, self.scale_to)

    @property
    def filler(self) -> Sample:
        """A black pixel, and nothing to be scored."""
        nothing = padded(np.zeros((1, 1, self.channels), np.uint8), self.canvas)
        return nothing | {
            "label_maps": np.full(self.size, IGNORED, np.uint8),
            "label_extents": np.ones(2, np.int32),
        }

    def __call__(self, record: Mapping, rng: np.random.Generator) -> Sample:
        del rng
        image, classes = decoded(record, self.classes, self.channels)
        return self.image(image) | {
            "label_maps": padded_map(classes, self.size),
            "label_extents": np.array(classes.shape, np.int32),
        }

    def image(self, image: np.ndarray) -> Sample:
        """'images' and 'extents' of a decoded image, uint8 [h, w, C]."""
        return padded(resized(image, rescaled(image.shape[:2], self.scale_to)), self.canvas)


@dataclass(frozen=True)
class SegmentationCentreView:
    """The central part of an image and its label map, as they are stored, not resized: 'images' uint8 [H, W, C],
    'label_maps' uint8 [H, W] and 'extents' int32 [2]. What a smaller image lacks is padding, right and below.

    size: (H, W).
    """

    size: Size
    classes: Classes
    channels: int = 3
    batch: ClassVar[Callable[..., LabelMaps]] = LabelMaps

    @property
    def filler(self) -> Sample:
        """A black pixel, and nothing to be scored."""
        nothing = padded(np.zeros((1, 1, self.channels), np.uint8), self.size)
        return nothing | {"label_maps": np.full(self.size, IGNORED, np.uint8)}

    def __call__(self, record: Mapping, rng: np.random.Generator) -> Sample:
        del rng
        image, classes = decoded(record, self.classes, self.channels)
        top, left = (max(whole - side, 0) // 2 for whole, side in zip(classes.shape, self.size, strict=True))
        box = np.s_[top : top + self.size[0], left : left + self.size[1]]
        return padded(image[box], self.size) | {"label_maps": padded_map(classes[box], self.size)}


def view_with_room(
    sizes: Mapping[Size, int], classes: Classes, channels: int = 3, scale_to: tuple[int, int] | None = None
) -> SegmentationTestView:
    """The test view with room for images of these sizes. sizes: (height, width) -> how many images have it."""
    resized = [rescaled(size, scale_to) for size in sizes]
    return SegmentationTestView(_largest(sizes), classes, channels, scale_to, _largest(resized))


def _largest(sizes: Mapping[Size, int] | list[Size]) -> Size:
    return max(size[0] for size in sizes), max(size[1] for size in sizes)


def decoded(record: Mapping, classes: Classes, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """(Image uint8 [h, w, C], class of each pixel uint8 [h, w]). Raises as crops.decode and label_maps.classes_of."""
    if (known := record.get(DECODED)) is not None:
        image, of_pixels = known
        return image, of_pixels
    image = crops.decode(record["image"], channels, record.get(VALUE_RANGE))
    name = record.get("file_name")
    return image, label_maps.classes_of(record["label_map"], classes, (image.shape[0], image.shape[1]), name)


def rescaled(size: tuple[int, ...], scale_to: tuple[int, int] | None, ratio: float = 1.0) -> Size:
    """Height and width after resizing to within `scale_to` times the ratio, sides in proportion, as mmcv rounds them
    (mmcv/image/geometric.py:33,219-255). scale_to: longer and shorter side; None: the size itself."""
    height, width = size
    long, short = scale_to or (max(height, width), min(height, width))
    factor = min(int(long * ratio) / max(height, width), int(short * ratio) / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def resized(image: np.ndarray, size: Size) -> np.ndarray:
    """uint8 [h, w, C] -> [*size, C]; the image itself where it has this size.

    Bilinear whatever the factor, as mmcv and the device (evaluation/sliding_window.py) have it: where a side becomes
    less than half as long, pixels are left out, which crops.resize would average.
    """
    if image.shape[:2] == size:
        return image
    found = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return found.reshape(*size, image.shape[2])  # OpenCV drops a single channel


def padded(image: np.ndarray, size: Size) -> Sample:
    """'images', [h, w, C] -> [H, W, C] at the top left of black, and 'extents'."""
    height, width = image.shape[:2]
    canvas = np.zeros((*size, image.shape[2]), np.uint8)
    canvas[:height, :width] = image
    return {"images": canvas, "extents": np.array((height, width), np.int32)}


def padded_map(classes: np.ndarray, size: Size) -> np.ndarray:
    """[h, w] -> [H, W], at the top left of what is ignored."""
    canvas = np.full(size, IGNORED, np.uint8)
    canvas[: classes.shape[0], : classes.shape[1]] = classes
    return canvas
