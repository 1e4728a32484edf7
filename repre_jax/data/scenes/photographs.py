"""The photographs on which scenes stand: where they lie, who made them, and which side of the split has which.

No photograph is on both sides. Grey ones are tinted, so that colour does not tell them from the others.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from repre_jax.data.scenes import packages

SCIKIT_IMAGE, SCIKIT_LEARN = ("skimage", "data/"), ("sklearn", "datasets/images/")
FREE = "No known copyright restrictions, as scikit-image states"
CC0, CC_BY = "CC0 1.0", "CC BY 2.0"
PUBLIC = "public domain"
ZOOMS = (1.0, 1.4, 2.0, 2.8)  # short side of a resized photograph in those of a canvas


@dataclass(frozen=True)
class Photograph:
    """A file of another package. author, licence: as that package states them. page: the photograph's own, where its
    licence asks for that, else ''. kept: which part is used, as (top, left, bottom, right) in shares of its sides."""

    name: str
    place: tuple[str, str]
    file: str
    shows: str
    author: str
    licence: str
    page: str = ""
    kept: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


TRAIN = (
    Photograph("astronaut", SCIKIT_IMAGE, "astronaut.png", "Eileen Collins", "NASA", PUBLIC),
    Photograph("chelsea", SCIKIT_IMAGE, "chelsea.png", "a cat", "Stefan van der Walt", CC0),
    Photograph(
        *("china", SCIKIT_LEARN, "china.jpg", "a Chinese temple", "danielbuechele (Flickr)", CC_BY),
        page="https://www.flickr.com/photos/danielbuechele/6061409035/",
    ),
    Photograph("hubble", SCIKIT_IMAGE, "hubble_deep_field.jpg", "Hubble eXtreme Deep Field", "NASA", PUBLIC),
    Photograph("ihc", SCIKIT_IMAGE, "ihc.png", "stained colonic glands", "CMMI", FREE),
    Photograph(
        *("retina", SCIKIT_IMAGE, "retina.jpg", "a human retina", "Mikael Häggström", CC0),
        kept=(0.16, 0.16, 0.84, 0.84),  # without the black corners
    ),
    Photograph("brick", SCIKIT_IMAGE, "brick.png", "a brick wall, grey", "CC0Textures", CC0),
    Photograph("grass", SCIKIT_IMAGE, "grass.png", "grass, grey", "linolafett (DeviantArt)", CC0),
    Photograph("camera", SCIKIT_IMAGE, "camera.png", "a man with a camera, grey", "Lav Varshney", CC0),
)
TEST = (
    Photograph("coffee", SCIKIT_IMAGE, "coffee.png", "a cup of coffee", "Rachel Michetti, Pikolo Espresso Bar", CC0),
    Photograph(
        *("flower", SCIKIT_LEARN, "flower.jpg", "a flower", "vultilion (Flickr)", CC_BY),
        page="https://www.flickr.com/photos/vultilion/6056698931/",
    ),
    Photograph("rocket", SCIKIT_IMAGE, "rocket.jpg", "the launch of a Falcon 9", "SpaceX", PUBLIC),
    Photograph("gravel", SCIKIT_IMAGE, "gravel.png", "gravel, grey", "CC0Textures", CC0),
    Photograph("coins", SCIKIT_IMAGE, "coins.png", "Greek coins, grey", "Brooklyn Museum", FREE),
)
OF_SPLIT: Mapping[str, tuple[Photograph, ...]] = {"train": TRAIN, "test": TEST, "unseen": TEST}


def background(
    rng: np.random.Generator, split: str, height: int, width: int, zooms: tuple[float, ...] = ZOOMS
) -> tuple[np.ndarray, Photograph]:
    """(a crop of one of the split's photographs, float32 [height, width, 3] in 0..255; the photograph)."""
    photograph = OF_SPLIT[split][rng.integers(len(OF_SPLIT[split]))]
    return crop_of(rng, photograph, height, width, zooms), photograph


def crop_of(
    rng: np.random.Generator, photograph: Photograph, height: int, width: int, zooms: tuple[float, ...]
) -> np.ndarray:
    """A crop of a photograph, mirrored or not, lit and tinted: float32 [height, width, 3] in 0..255."""
    whole = resized(photograph, zooms[rng.integers(len(zooms))], height, width)
    top = rng.integers(whole.shape[0] - height + 1)
    left = rng.integers(whole.shape[1] - width + 1)
    crop = whole[top : top + height, left : left + width]
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    grey = crop[..., 0] == crop[..., 1]
    tint = rng.uniform(0.65, 1.0, 3) if grey.all() else rng.uniform(0.92, 1.08, 3)
    light = rng.uniform(0.75, 1.2)
    return np.clip(crop * np.float32(light) * tint.astype(np.float32), 0, 255)


@functools.lru_cache(maxsize=256)
def resized(photograph: Photograph, zoom: float, height: int, width: int) -> np.ndarray:
    """Of uint8 [H, W, 3], the smallest that covers `zoom` canvases of height x width in both directions."""
    pixels = read(photograph)
    scale = zoom * max(height / pixels.shape[0], width / pixels.shape[1])
    size = (max(width, round(pixels.shape[1] * scale)), max(height, round(pixels.shape[0] * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


@functools.cache
def read(photograph: Photograph) -> np.ndarray:
    """The part that is used, RGB uint8 [H, W, 3]."""
    package, folder = photograph.place
    pixels = packages.image(package, f"{folder}{photograph.file}", "RGB")
    top, left, bottom, right = (
        round(share * side) for share, side in zip(photograph.kept, 2 * pixels.shape[:2], strict=True)
    )
    return pixels[top:bottom, left:right]
