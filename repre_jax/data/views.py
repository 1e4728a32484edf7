"""Views: what a task takes of a record, (record, rng) -> a sample of host arrays.

A view decodes the record's image and takes what else it wants, such as the label; data/loader.py orders and stacks
samples and knows neither. A task with other samples brings a view of its own, and names its batch type.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from repre_jax.core.types import LabelledImages, Views
from repre_jax.data import crops, deep
from repre_jax.data.randaugment import RandAugment

NO_LABEL = -1
VALUE_RANGE = "value_range"  # of a record: what decodes its image if that has more than 8 bits, see data/deep.py
Sample = dict[str, np.ndarray | np.generic]


class View(Protocol):
    """What data/loader.train_batches asks of a view. Worker processes pickle it.

    batch: what a batch is made by, from the samples' arrays, stacked, by name: `dict`, or a type that has such fields.
    """

    @property
    def batch(self) -> Callable[..., Any]: ...

    def __call__(self, record: Mapping, rng: np.random.Generator) -> Sample:
        """All arrays of one name have one shape within a batch. All randomness comes from rng.

        Raises UnreadableImage or OSError for a record that cannot be read, and is then replaced.
        """
        ...


class EvalView(View, Protocol):
    """What data/loader.test_batches asks of a view: one more thing."""

    @property
    def filler(self) -> Sample:
        """What stands in a batch where there is no record, in the shapes of a sample."""
        ...


@dataclass(frozen=True)
class PretrainView:
    """Global random crops, 'images' uint8 [V, H, W, C]; with local ones 'local', uint8 [L, h, w, C]; 'labels' int32,
    for whoever measures."""

    views: crops.RandomCrops
    local: crops.RandomCrops | None = None
    channels: int = 3
    batch: ClassVar[Callable[..., Views]] = Views

    def __call__(self, record: Mapping, rng: np.random.Generator) -> Sample:
        image = crops.decode(record["image"], self.channels, record.get(VALUE_RANGE))
        sample: Sample = {"images": self.views(image, rng)}
        if self.local is not None:
            sample["local"] = self.local(image, rng)
        return sample | {"labels": label_of(record)}


@dataclass(frozen=True)
class LabelledView:
    """One random crop, 'images' uint8 [H, W, C], and its class, 'labels' int32: for supervised tasks.

    crop: its count is 1.
    randaugment: what happens to the crop after it was cut, for 3 channels; the crop is the same with and without it.
                 timm flips before RandAugment, we after it, on the device. That gives the same distribution, since the
                 signs of what knows left from right are drawn evenly, but for ShearY: timm always keeps the left edge
                 in its place, we the left or the right one.
    """

    crop: crops.RandomCrops
    channels: int = 3
    randaugment: RandAugment | None = None
    batch: ClassVar[Callable[..., LabelledImages]] = LabelledImages

    def __call__(self, record: Mapping, rng: np.random.Generator) -> Sample:
        (image,) = self.crop(crops.decode(record["image"], self.channels, record.get(VALUE_RANGE)), rng)
        if self.randaugment is not None:
            image = self.randaugment(image, rng)
        return {"images": image, "labels": label_of(record)}


@dataclass(frozen=True)
class CentreView:
    """The test view: 'images' uint8 [H, W, C], cut from the centre, and 'labels' int32. Nothing is random.

    size, fraction, interpolation: see crops.center_crop.
    """

    size: tuple[int, int]
    fraction: float
    channels: int = 3
    interpolation: str = "bilinear"
    batch: ClassVar[Callable[..., LabelledImages]] = LabelledImages

    @property
    def filler(self) -> Sample:
        """A black image without a label."""
        return {"images": np.zeros((*self.size, self.channels), np.uint8), "labels": np.int32(NO_LABEL)}

    def image(self, encoded: Any, value_range: deep.Ranges | None = None) -> np.ndarray:
        """A record's image, or a file's bytes -> uint8 [H, W, C]. Raises UnreadableImage."""
        image = crops.decode(encoded, self.channels, value_range)
        return crops.center_crop(image, size=self.size, fraction=self.fraction, interpolation=self.interpolation)

    def __call__(self, record: Mapping, rng: np.random.Generator) -> Sample:
        del rng
        return {"images": self.image(record["image"], record.get(VALUE_RANGE)), "labels": label_of(record)}


def label_of(record: Mapping) -> np.int32:
    """Its class; -1 without one, or where 'label' is something else, such as a text."""
    label = record.get("label", NO_LABEL)
    return np.int32(label if isinstance(label, int | np.integer) else NO_LABEL)
