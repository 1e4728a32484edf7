"""The host's half of the augmentation: encoded bytes -> uint8 crops, by libjpeg-turbo, Pillow and OpenCV.

Flip, colours and blur happen on the device, see photometric.py; RandAugment stands in randaugment.py.
"""

import io
import math
import re
import resource
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageChops, UnidentifiedImageError

from repre_jax.core import open_files
from repre_jax.core.errors import UserError
from repre_jax.data import deep, png

MAX_PIXELS = 178_956_970  # twice Pillow's MAX_IMAGE_PIXELS, where it refuses an image as a decompression bomb
ADOBE = rb"\xff\xee..Adobe"  # the marker of a JPEG that Adobe's programs began with
LARGEST_GROUP = 4  # channels that OpenCV averages at once
AVERAGED = 2.0  # beyond this factor bilinear interpolation would leave pixels out
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # Pillow's other ones may start programs
ENLARGE = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
RANGE = ": their range must be given, by data.value_range='(LOW, HIGH)', in `prepare` by --value-range LOW HIGH"
MODES = {1: "L", 3: "RGB"}  # what Pillow converts to, by the number of channels


class UnreadableImage(UserError):
    """Bytes that are no image, or only part of one, or one that is too large or has other channels."""


def set_up_process() -> None:
    """For a process that reads and decodes many images: many open files, no threads within one image, no remarks on
    metadata."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < open_files.ENOUGH:  # below 0: without a limit
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (min(hard, open_files.ENOUGH) if hard >= 0 else open_files.ENOUGH, hard)
        )
    cv2.setNumThreads(0)
    warnings.filterwarnings("ignore", module="PIL")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode(encoded: bytes | np.ndarray, channels: int = 3, value_range: deep.Ranges | None = None) -> np.ndarray:
    """An image of one of FORMATS -> uint8 [h, w, channels].

    1 channel is luminance, 3 are RGB: grey is repeated, alpha dropped, palettes and CMYK are converted, of 16 bits the
    upper 8 are kept. With other channels the image must have as many, which stay as they are. EXIF rotation is ignored,
    as torchvision's loader does. An array, uint8 [h, w, channels], as TFDS's Tensor features give it, or the bytes of a
    .npy file with one, is taken as it is.

    value_range: of images and arrays of other types than uint8, the values that become 0..255; see deep.to_levels.
    Raises UnreadableImage.
    """
    if value_range and deep.is_deep(encoded):
        return _from_deep(encoded, channels, value_range)
    if isinstance(encoded, np.ndarray):
        return _checked(encoded, channels)
    if encoded.startswith(deep.NUMPY):
        return _checked(_from_numpy(encoded), channels)
    if encoded[:2] == b"\xff\xd8" and channels in MODES:
        try:
            return _decode_jpeg(encoded, channels)
        except ValueError:
            pass  # CMYK, a harmless fault or half a file: Pillow decides
    if channels == 3 and (found := png.decode_large(encoded, MAX_PIXELS)) is not None:
        return found
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            return _from_pillow(image, channels)
    except UnidentifiedImageError:
        raise UnreadableImage(f"{len(encoded):,} bytes are no image: none of {', '.join(FORMATS)}.") from None
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{len(encoded):,} bytes are not a readable image: {reason(error)}") from None


def _from_deep(encoded: bytes | np.ndarray, channels: int, value_range: deep.Ranges) -> np.ndarray:
    try:
        return deep.to_levels(deep.values(encoded, channels), value_range)
    except (OSError, ValueError, EOFError, SyntaxError, RuntimeError, cv2.error, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"An image of 16 bits is not readable: {reason(error)}") from None


def reason(error: Exception) -> str:
    """What is wrong with an image, of an error of Pillow's: of one that is too large, what to do; Pillow calls a
    satellite's tile an attack."""
    if not isinstance(error, Image.DecompressionBombError):
        return str(error)
    size = re.search(r"\((\d+) pixels\)", str(error))
    return (
        f"it has {f'{int(size[1]):,} pixels, ' if size else ''}more than the {MAX_PIXELS:,} that are read at once; "
        "cut it into tiles, of 1,024 x 1,024 pixels for example"
    )


def _decode_jpeg(encoded: bytes, channels: int) -> np.ndarray:
    """By libjpeg-turbo's fast DCT and upsampling; raises ValueError for CMYK without Adobe's marker, which it takes
    for a negative, and for whatever it would warn of."""
    height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
    if height * width > MAX_PIXELS or (colours == "CMYK" and not re.search(ADOBE, encoded, re.DOTALL)):
        raise ValueError
    space = "RGB" if channels == 3 else "GRAY"
    return simplejpeg.decode_jpeg(encoded, colorspace=space, fastdct=True, fastupsample=True)


def _from_numpy(encoded: bytes) -> np.ndarray:
    try:
        return np.load(io.BytesIO(encoded), allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise UnreadableImage(f"{len(encoded):,} bytes are not a readable .npy file: {error}") from None


def _from_pillow(image: Image.Image, channels: int) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits
        values = np.asarray(image)
        if values.min() < 0 or values.max() >= 1 << 16:
            what = "negative values" if values.min() < 0 else "more than 16 bits"
            raise UnreadableImage(f"An image of {what}, {values.min():,} to {values.max():,}{RANGE}")
        image = Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise UnreadableImage(f"An image of floating-point numbers{RANGE}")
    if channels in MODES:
        image = plain_cmyk(image)
        return _checked(
            np.asarray(image.convert(MODES[channels])).reshape(image.height, image.width, channels), channels
        )
    return _checked(np.asarray(image), channels)


def plain_cmyk(image: Image.Image) -> Image.Image:
    """An open image whose CMYK, if it is that, counts ink: 0 is white.

    JPEGs hold it inverted if Adobe's marker is there, and upright if not, as TensorFlow reads them and so TFDS; Pillow
    inverts both.
    """
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        return ImageChops.invert(image)
    return image


def _checked(image: np.ndarray, channels: int) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels or not image.size:
        what = f"An image of shape {image.shape} and type {image.dtype}"
        raise UnreadableImage(
            f"{what}{'.' if image.dtype == np.uint8 else RANGE}\n  expected: uint8 [height, width, {channels}]"
        )
    return image


def sample_crop(
    height: int, width: int, rng: np.random.Generator, scale: Sequence[float], ratio: Sequence[float]
) -> tuple[int, int, int, int]:
    """A random box (top, left, height, width) inside an image, as torchvision's RandomResizedCrop draws it.

    scale: smallest and largest area, as a fraction of the image. ratio: width / height, drawn log-uniformly.
    After ten misses the largest central box within the ratios is taken.
    """
    for _ in range(10):
        area = height * width * rng.uniform(scale[0], scale[1])
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(rng.integers(height - box_height + 1))
            left = int(rng.integers(width - box_width + 1))
            return top, left, box_height, box_width
    box_width = min(width, max(1, round(height * ratio[1])))
    box_height = min(height, max(1, round(width / ratio[0])))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def resize(
    image: np.ndarray, size: Sequence[int], interpolation: str = "bilinear", out: np.ndarray | None = None
) -> np.ndarray:
    """uint8 [h, w, C] -> [size[0], size[1], C], into `out` if it is given.

    interpolation: 'bilinear' or 'bicubic'. If a side shrinks by more than AVERAGED, the sides that shrink are averaged
    over the area that a pixel covers; if both shrink, but less, it is bilinear. Pillow, and so torchvision, shrinks by
    the same filter made wider: on photographs the two differ by less than 3 grey levels in the mean.
    """
    if out is None:
        out = np.empty((*size, image.shape[2]), np.uint8)
    if image.shape[2] > LARGEST_GROUP:
        for start in range(0, image.shape[2], LARGEST_GROUP):
            some = slice(start, start + LARGEST_GROUP)
            out[..., some] = resize(np.ascontiguousarray(image[..., some]), size, interpolation)
        return out
    how = ENLARGE[interpolation]
    height, width = image.shape[:2]
    if max(height / size[0], width / size[1]) > AVERAGED:
        smaller = (min(width, size[1]), min(height, size[0]))  # OpenCV averages only if no side grows
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    elif height > size[0] and width > size[1]:
        how = cv2.INTER_LINEAR
    target = out[..., 0] if out.shape[2] == 1 else out  # OpenCV drops a single channel
    cv2.resize(image, (size[1], size[0]), dst=target, interpolation=how)
    return out


@dataclass(frozen=True)
class RandomCrops:
    """`count` independent random crops of one image.

    size: height and width. scale, ratio: see `sample_crop`. interpolation: see `resize`.
    """

    count: int
    size: tuple[int, int]
    scale: tuple[float, float]
    ratio: tuple[float, float]
    interpolation: str = "bilinear"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 [h, w, C] -> [count, H, W, C]."""
        crops = np.empty((self.count, *self.size, image.shape[2]), np.uint8)
        for number in range(self.count):
            top, left, height, width = sample_crop(image.shape[0], image.shape[1], rng, self.scale, self.ratio)
            box = image[top : top + height, left : left + width]
            resize(box, self.size, self.interpolation, out=crops[number])
        return crops


def center_crop(
    image: np.ndarray, *, size: Sequence[int], fraction: float, interpolation: str = "bilinear"
) -> np.ndarray:
    """The test view: the central box of the target's shape, `fraction` of the largest one, resized to `size`.

    fraction 0.875 is the usual "resize to 256, cut 224 from the centre" in one go; 1.0 keeps all that fits.
    """
    height, width = image.shape[:2]
    unit = fraction * min(height / size[0], width / size[1])
    box_height, box_width = max(1, round(size[0] * unit)), max(1, round(size[1] * unit))
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return resize(image[top : top + box_height, left : left + box_width], size, interpolation)
