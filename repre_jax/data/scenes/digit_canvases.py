"""scenes/objects: one handwritten digit on a crop of a photograph.

The digits are scikit-learn's, of 8 x 8 pixels, enlarged, turned a little, in a colour that stands out from what lies
below. Their edge is soft and has no rim: a dark rim alone would lift an edge detector's accuracy by 5 points.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from repre_jax.data.scenes import packages, photographs

SIZE = 48  # pixels of a side
RECORDS = {"train": 6000, "test": 1500}
TRAIN_DIGITS = 1437  # of 1,797: the first, as of the data set digits
GLYPH = (28.0, 44.0)  # side of a digit's whole square
ZOOMS = (3.0, 4.0, 5.5)  # of the photograph: near, and so without details smaller than strokes
TURN, SLANT = 10.0, 0.12  # degrees and shear, at most
CONTRAST = 50.0  # between the luma of a digit and of what lies below, at least, of 255
SEED = (1, {"train": 0, "test": 1})
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class DigitCanvas:
    """image: uint8 [48, 48, 3], RGB. label: 0..9. digit: its number in scikit-learn's order."""

    image: np.ndarray
    label: int
    digit: int
    photograph: str


def canvas(split: str, index: int) -> DigitCanvas:
    """Number `index` of `split`, 'train' or 'test', which is the same whenever it is made.

    Neighbours show the same digit, so that parts of train such as 'train[:80%]' and 'train[80%:]' share one at most.
    """
    rng = np.random.default_rng([SEED[0], SEED[1][split], index])
    pixels, labels = digits()
    first, stop = (0, TRAIN_DIGITS) if split == "train" else (TRAIN_DIGITS, len(labels))
    digit = first + index * (stop - first) // RECORDS[split]
    ground, photograph = photographs.background(rng, split, SIZE, SIZE, ZOOMS)
    alpha = glyph(rng, pixels[digit])[..., None]
    below = float((ground * alpha).sum(axis=(0, 1)) @ LUMA / alpha.sum())
    image = ground + alpha * (colour(rng, below) - ground)
    return DigitCanvas(np.round(image).astype(np.uint8), int(labels[digit]), digit, photograph.name)


def glyph(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """How much a digit, float32 [8, 8] in 0..1, covers each pixel of a canvas; somewhere on it, float32 0..1."""
    side = rng.uniform(*GLYPH)
    angle, slant = np.deg2rad(rng.uniform(-TURN, TURN)), rng.uniform(-SLANT, SLANT)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1.0, slant], [0.0, 1.0]]) * (side / 8)
    # Strokes use all rows of the square, and mostly leave a column free on either side.
    room = (SIZE - side) / 2 + np.array([2.0, -1.0])
    middle = SIZE / 2 + rng.uniform(-room, room)
    padded = np.pad(pixels, 2)
    offset = middle - 0.5 - matrix @ np.array([5.5, 5.5])
    warp = np.column_stack([matrix, offset])
    ink = cv2.warpAffine(padded, warp, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    soft = np.clip((ink - 0.25) / 0.4, 0, 1)
    return soft * soft * (3 - 2 * soft)


def colour(rng: np.random.Generator, below: float) -> np.ndarray:
    """RGB, float32 [3] in 0..255, which is lighter or darker than the luma `below` by CONTRAST at least."""
    for _ in range(20):
        hsv = np.array([[[rng.uniform(0, 360), rng.uniform(0.1, 0.9), rng.uniform(0.1, 1.0)]]], np.float32)
        rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] * np.float32(255)
        if abs(float(rgb @ LUMA) - below) >= CONTRAST:
            return rgb
    return np.full(3, 0.0 if below > 127 else 255.0, np.float32)


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """(float32 [1797, 8, 8] in 0..1, int64 [1797]): scikit-learn's digits, read from its table."""
    table = packages.numbers("sklearn", "datasets/data/digits.csv.gz")
    return table[:, :64].reshape(-1, 8, 8) / 16, table[:, 64].astype(np.int64)
