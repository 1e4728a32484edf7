"""How images for a detector are resized and cropped: what is drawn for each, and what follows for its size.

Decided by the image's height and width alone, so that the orientation of a sample is known before an image is read.
"""

from dataclasses import dataclass

import numpy as np

from repre_jax.data.many_draws import ManyDraws
from repre_jax.data.segmentation_views import rescaled

Size = tuple[int, int]  # height, width
MULTIPLE = 32  # of a canvas's sides: the largest stride of a pyramid that convolutions see


@dataclass(frozen=True)
class Placement:
    """What happens to one image: flipped first or last, resized to `last`.

    crop: before that, resized to a first size, and a box (top, left, height, width) cut out; None: nothing.
    """

    flip: bool
    last: Size
    crop: tuple[Size, tuple[int, int, int, int]] | None = None
    flip_last: bool = False

    def before_last(self, size: Size) -> Size:
        """Height and width of what is resized last, of an image of `size`."""
        return self.crop[1][2:] if self.crop is not None else size


@dataclass(frozen=True)
class Resizing:
    """SwinOD's multi-scale augmentation by default (Cfg:27-61); one of `shorts` without crops is the single scale.

    shorts: what the shorter side may become, each as likely; in tests the largest. longest: of the longer side.
    flip: how often. flip_last: after resizing, as mmdetection's own recipe has it; else first.
    crop: how often an image is first resized to one of crop_shorts and cropped to sides that are drawn evenly, each for
          itself, from crop_sides, as far as the image has them.
    """

    shorts: tuple[int, ...] = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    longest: int = 1333
    flip: float = 0.5
    flip_last: bool = False
    crop: float = 0.5
    crop_shorts: tuple[int, ...] = (400, 500, 600)
    crop_sides: tuple[int, int] = (384, 600)

    @property
    def canvases(self) -> tuple[Size, ...]:
        """With room for every image that is wider than high or square, and, if it is another one, for the others."""
        short, long = (-(-side // MULTIPLE) * MULTIPLE for side in (max(self.shorts), self.longest))
        return ((short, long), (long, short)) if short != long else ((short, long),)

    def canvas(self, size: Size) -> Size:
        """The one for an image of `size` before it is resized last: after that a side may have been rounded to the
        other's length, differently for each of `shorts`."""
        return self.canvases[-1] if size[0] > size[1] else self.canvases[0]

    def drawn(self, size: Size, rng: np.random.Generator) -> Placement:
        """For a training image of `size`. Draws, in this order: flip, whether to crop; first size, height, width, top
        and left of the crop; last size."""
        flip = rng.random() < self.flip
        crop = None
        if rng.random() < self.crop:
            first = rescaled(size, (self.longest, self.crop_shorts[rng.integers(len(self.crop_shorts))]))
            low, high = self.crop_sides
            height, width = (int(rng.integers(min(side, low), min(side, high) + 1)) for side in first)
            top, left = int(rng.integers(first[0] - height + 1)), int(rng.integers(first[1] - width + 1))
            crop = first, (top, left, height, width)
        short = self.shorts[rng.integers(len(self.shorts))]
        last = rescaled(crop[1][2:] if crop else size, (self.longest, short))
        return Placement(flip, last, crop, self.flip_last)

    def tested(self, size: Size) -> Placement:
        """For an image that is tested on: resized to the largest size, whole."""
        return Placement(flip=False, last=rescaled(size, (self.longest, max(self.shorts))))

    def drawn_of_all(self, sizes: np.ndarray, draws: ManyDraws) -> np.ndarray:
        """Placement.before_last of what `drawn` draws, int64 [N, 2], for training images of int [N, 2] sizes."""
        draws.random()  # the flip
        cropped = draws.random() < self.crop
        first = _rescaled(
            sizes, self.longest, np.array(self.crop_shorts)[draws.integers(len(self.crop_shorts), cropped)]
        )
        low, high = (np.minimum(first, side) for side in self.crop_sides)
        crop = np.stack([low[:, axis] + draws.integers((high - low + 1)[:, axis], cropped) for axis in (0, 1)], axis=1)
        return np.where(cropped[:, None], crop, sizes)


def _rescaled(sizes: np.ndarray, longest: int, shorts: np.ndarray) -> np.ndarray:
    """segmentation_views.rescaled of each of int [N, 2] sizes. shorts: int [N]."""
    factors = np.minimum(longest / sizes.max(axis=1), shorts / sizes.min(axis=1))
    return np.maximum((sizes * factors[:, None] + 0.5).astype(np.int64), 1)
