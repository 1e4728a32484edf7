"""scenes/objects: one of twenty emoji on a crop of a photograph, of any place, size, turn and side.

Colours and shapes are the object's own, so that what an encoder learns by itself tells the classes. Backgrounds are few
and pale: of thousands of crops at full contrast contrastive learning tells the crops apart and hardly looks at what
lies on them. Their mean colours are the same in both splits: with those of the photographs themselves an encoder tells
72 % of the classes on photographs that it was trained on, and 36 % on others (docs/scenes.md has more figures).
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from repre_jax.data.scenes import concepts, photographs
from repre_jax.data.scenes import pictures as emoji

SIZE = 48  # pixels of a side
RECORDS = {"train": 6000, "test": 1500}
# Concepts, each shown by its first picture, of animals, plants and food.
CLASSES = (
    *("bison", "cat", "cookie", "dragon", "ginger root", "hedgehog", "hibiscus", "kangaroo", "lollipop", "mango"),
    *("mouse face", "nest with eggs", "pot of food", "potted plant", "pretzel", "rose", "sake bottle and cup"),
    *("salt shaker", "shamrock", "wolf face"),
)
# Photographs that train[80%:] alone shows, so that whoever tunes on it meets others than in train[:80%].
HELD_OUT, HELD_OUT_FROM = ("camera", "china", "ihc"), 4800
CROPS = 4  # of each photograph, at most: a background that many records share does not tell them apart
CONTRAST = 0.3  # of a crop that is left
# Mean colours of backgrounds: hues around the circle, each light or dark.
HUES, SATURATION, VALUES = 8, 0.4, (0.3, 0.7)
ZOOMS = (3.0, 4.0, 5.5)  # of the photograph: near, and so without details smaller than an object's
SIDE = (18.0, 32.0)  # of an object's square, in pixels
OUTSIDE = 4.0  # pixels of the square that may stand out of the canvas
TURN = 15.0  # degrees, at most
LIGHT = (0.75, 1.1)
SEED = (1, {"train": 0, "test": 1})


@dataclass(frozen=True)
class ObjectCanvas:
    """image: uint8 [48, 48, 3], RGB. label: place in CLASSES. photograph, crop, hue: what lies below, 0 <= crop < CROPS
    and 0 <= hue < HUES."""

    image: np.ndarray
    label: int
    photograph: str
    crop: int
    hue: int


def canvas(split: str, index: int) -> ObjectCanvas:
    """Number `index` of `split`, 'train' or 'test', which is the same whenever it is made. Classes take turns."""
    rng = np.random.default_rng([SEED[0], SEED[1][split], index])
    below = shown(split, index)
    photograph, crop = below[rng.integers(len(below))], int(rng.integers(CROPS))
    label = index % len(CLASSES)
    thing = _placed(rng, pictures()[label])
    hue = int(rng.integers(HUES))
    image = ground(photograph, crop, hue) * (1 - thing[..., 3:]) + thing[..., :3]
    return ObjectCanvas(np.clip(np.round(image), 0, 255).astype(np.uint8), label, photograph.name, crop, hue)


def shown(split: str, index: int) -> tuple[photographs.Photograph, ...]:
    """The photographs that a record's background may be of."""
    if split == "test":
        return photographs.TEST
    held_out = index >= HELD_OUT_FROM
    return tuple(each for each in photographs.TRAIN if (each.name in HELD_OUT) == held_out)


def ground(photograph: photographs.Photograph, crop: int, hue: int) -> np.ndarray:
    """The background that these three choose, float32 [48, 48, 3]; in 0..255 but for what is cut off in the end."""
    return texture(photograph, crop) + mean_colours()[hue]


@functools.cache
def texture(photograph: photographs.Photograph, crop: int) -> np.ndarray:
    """What crop number `crop` of a photograph adds to a mean colour: float32 [48, 48, 3], each channel of mean 0."""
    rng = np.random.default_rng([*SEED[:1], *photograph.name.encode(), crop])
    pixels = photographs.crop_of(rng, photograph, SIZE, SIZE, ZOOMS)
    return np.float32(CONTRAST) * (pixels - pixels.mean(axis=(0, 1)))


@functools.cache
def mean_colours() -> np.ndarray:
    """The mean colours of backgrounds, float32 [HUES, 3] in 0..255."""
    hues = np.arange(HUES) * 360 / HUES
    values = np.resize(VALUES, HUES)
    hsv = np.stack([hues, np.full(HUES, SATURATION), values], axis=1).astype(np.float32)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] * np.float32(255)


@functools.cache
def pictures() -> tuple[str, ...]:
    """The file of each class, without '.png'."""
    files = {concept.name: concept.files[0] for concept in concepts.all_concepts()}
    return tuple(files[name] for name in CLASSES)


def _placed(rng: np.random.Generator, file: str) -> np.ndarray:
    """An emoji somewhere on a canvas: premultiplied colour in 0..255 and alpha in 0..1, float32 [48, 48, 4]."""
    side = rng.uniform(*SIDE)
    light = np.float32(rng.uniform(*LIGHT))
    small = emoji.shrunk(file, round(side)) * np.array([light, light, light, 1], np.float32)
    small = small[:, ::-1] if rng.random() < 0.5 else small
    angle = np.deg2rad(rng.uniform(-TURN, TURN))
    room = (SIZE - side) / 2 + OUTSIDE
    middle = SIZE / 2 + rng.uniform(-room, room, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = middle - 0.5 - turn @ np.full(2, (len(small) - 1) / 2)
    return cv2.warpAffine(small, np.column_stack([turn, offset]), (SIZE, SIZE), flags=cv2.INTER_LINEAR)
