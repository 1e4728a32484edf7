"""Each image with its objects as it is written: checked, and upright where its annotations are."""

import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps

from repre_jax.core.errors import UserError
from repre_jax.data import crops
from repre_jax.data.coco import objects
from repre_jax.data.coco.images import some_of
from repre_jax.data.coco.listing import Entry
from repre_jax.data.instances import Instances

ORIENTATION = 274  # the EXIF tag
TURNED = (5, 6, 7, 8)  # its values that exchange height and width
MARKS = (2, 3, 4, *TURNED)  # that a viewer heeds: mirrored, or turned, or both
BEYOND = 1  # pixels that a box may reach beyond the image
QUALITY = 95  # of the JPEG that an image is written as which had to be turned


@dataclass
class Converter:
    """Makes of an image and its Entry what is written, and counts what it did.

    masks: whether they are kept. Called by several threads, which lists take.
    """

    masks: bool
    turned: list[str] = field(default_factory=list)
    marked: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    without_mask: list[str] = field(default_factory=list)
    odd_boxes: list[str] = field(default_factory=list)

    def __call__(self, given: tuple[bytes, Entry], split: str) -> tuple[bytes, Entry, Instances]:
        """(The encoded image, its entry, its objects). Raises UserError for an image that is not whole, or of another
        size than its annotations say."""
        del split
        encoded, entry = given
        height, width = crops.decode(encoded).shape[:2]
        how = _orientation(encoded)
        size = entry.size or (height, width)
        if size == (height, width):
            told = entry.size is not None and how in TURNED and height != width
            (self.marked if told else self.doubtful).extend([entry.file_name] * (how in MARKS))
        elif how in TURNED and size == (width, height):
            encoded = upright(encoded)
            self.turned.append(entry.file_name)
        else:
            raise UserError(
                f"it is of {height:,} x {width:,} pixels (height x width), and its annotations are for "
                f"{size[0]:,} x {size[1]:,}"
            )
        found, left_out = objects.of_image(entry.annotations, size, masks=self.masks)
        self.without_mask += [f"{entry.file_name}, annotation {identity}" for identity in left_out]
        self.odd_boxes += [f"{entry.file_name}, annotation {identity}" for identity in found.ids[_odd(found)]]
        return encoded, entry, found

    def lines(self) -> list[str]:
        """What was done, to be said."""
        lines = (
            (self.turned, "images were turned upright, as EXIF says, since their annotations fit only so"),
            (self.marked, "images have an EXIF mark to be shown turned, which is ignored: their annotations fit as is"),
            (
                self.doubtful,
                "images have an EXIF mark to be shown turned or mirrored, which is ignored, and no size says whether "
                "their annotations are for the picture as stored or as shown: look at some, as the figures tool draws "
                "them",
            ),
            (
                self.without_mask,
                "objects have no mask (no segmentation, or no polygon of three points) and are left out; --boxes-only "
                "keeps them, and no masks",
            ),
            (
                self.odd_boxes,
                "objects have a box of less than a pixel, or one that reaches beyond the image; COCO's are left, top, "
                "width and height, in pixels",
            ),
        )
        return [f"{len(names):,} {what}: {some_of(sorted(names))}" for names, what in lines if names]


def _odd(found: Instances) -> np.ndarray:
    """bool [N]: boxes that are perhaps not meant as COCO's are, such as corners, or parts of the image's sides."""
    height, width = found.size
    low, high = found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]
    beyond = (low < -BEYOND).any(axis=1) | (high > [width + BEYOND, height + BEYOND]).any(axis=1)
    return ~found.crowds & (beyond | (found.boxes[:, 2:] < 1).any(axis=1))


def _orientation(encoded: bytes) -> int:
    """The EXIF tag's value; 0 without one."""
    try:
        with Image.open(io.BytesIO(encoded), formats=crops.FORMATS) as image:
            return int(image.getexif().get(ORIENTATION, 0))
    except (OSError, ValueError, TypeError, SyntaxError):  # EXIF is damaged more often than images are
        return 0


def upright(encoded: bytes) -> bytes:
    """The image turned as EXIF says, without a mark: a JPEG, or without loss where it was stored so."""
    with Image.open(io.BytesIO(encoded), formats=crops.FORMATS) as image:
        lossy, turned, stream = image.format == "JPEG", ImageOps.exif_transpose(image), io.BytesIO()
        turned.info.pop("exif", None)
        if lossy:
            turned.save(stream, "JPEG", quality=QUALITY, subsampling=0)
        else:
            turned.save(stream, "PNG")
    return stream.getvalue()
