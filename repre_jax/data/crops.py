"""The host's half of the augmentation: encoded bytes -> uint8 crops. NumPy and OpenCV only.

Everything else (flip, colours, blur) happens on the device, see photometric.py.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from repre_jax.core.errors import UserError


def decode(encoded: bytes) -> np.ndarray:
    """JPEG or PNG bytes -> uint8 [h, w, 3] in RGB. Grey is repeated; EXIF rotation is ignored, as in torchvision.

    Raises UserError when the bytes are no image.
    """
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    if image is None:
        raise UserError(f"A record of {len(encoded)} bytes is not an image that OpenCV can decode.")
    return image


def sample_crop(
    height: int, width: int, rng: np.random.Generator, scale: Sequence[float], ratio: Sequence[float]
) -> tuple[int, int, int, int]:
    """A random box (top, left, height, width) inside an image, as torchvision's RandomResizedCrop draws it.

    scale: smallest and largest area, as a fraction of the image. ratio: width / height, drawn log-uniformly.
    After ten misses the largest central box within the ratios is taken.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(*np.log(ratio)))
        box_width, box_height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(rng.integers(height - box_height + 1))
            left = int(rng.integers(width - box_width + 1))
            return top, left, box_height, box_width
    box_width = min(width, round(height * ratio[1]))
    box_height = min(height, round(width / ratio[0]))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def resize(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """uint8 [h, w, 3] -> [size[0], size[1], 3]: bilinear, and averaging over the covered area when it shrinks.

    Pillow's bilinear filter, which torchvision uses, averages when it shrinks too; OpenCV's own does not.
    """
    shrinks = image.shape[0] > size[0] and image.shape[1] > size[1]
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def random_resized_crops(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    views: int,
    size: Sequence[int],
    scale: Sequence[float],
    ratio: Sequence[float],
) -> np.ndarray:
    """`views` independent random crops of one image: uint8 [h, w, 3] -> [V, H, W, 3]."""
    crops = np.empty((views, *size, 3), np.uint8)
    for view in range(views):
        top, left, height, width = sample_crop(*image.shape[:2], rng, scale, ratio)
        crops[view] = resize(image[top : top + height, left : left + width], size)
    return crops


def center_crop(image: np.ndarray, *, size: Sequence[int], fraction: float) -> np.ndarray:
    """The test view: the central box of the target's shape, `fraction` of the largest one, resized to `size`.

    fraction 0.875 is the usual "resize to 256, cut 224 from the centre" in one go; 1.0 keeps all that fits.
    """
    height, width = image.shape[:2]
    unit = fraction * min(height / size[0], width / size[1])
    box_height, box_width = max(1, round(size[0] * unit)), max(1, round(size[1] * unit))
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return resize(image[top : top + box_height, left : left + box_width], size)
