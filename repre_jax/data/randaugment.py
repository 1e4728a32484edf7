"""RandAugment (Cubuk et al. 2019) on the host, by Pillow, whose operations the recipes were run with.

The set is timm's increasing one (timm data/auto_augment.py; 'rand-m9-mstd0.5-inc1' in recipes.md 7.2): 15 operations,
where a larger magnitude always means a larger change. AutoContrast, Equalize and Invert have no magnitude.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from repre_jax.core.errors import UserError

LARGEST = 10.0  # magnitude; what is drawn beyond it is cut off
ROTATE, SHEAR, TRANSLATE = 30.0, 0.3, 0.45  # at the largest magnitude: degrees; slope; share of the side
ENHANCE = 0.9  # at the largest magnitude: how far a factor of colour, contrast ... is from 1
ADD, ADD_BELOW = 110, 128  # grey levels added at the largest magnitude, to pixels below 128
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
RESAMPLE = {"bicubic": (BICUBIC,), "bilinear": (BILINEAR,), "random": (BILINEAR, BICUBIC)}
IMAGENET = (0.485, 0.456, 0.406)  # mean colour, of pixels in 0..1


def _warp(image: Image.Image, matrix: Sequence[float], how: dict) -> Image.Image:
    """matrix: (a, b, c, d, e, f), where the pixel of (x, y) comes from (a x + b y + c, d x + e y + f)."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, **how)


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    """Keeps the upper bits, 0 to 8. Pillow's own refuses 0, which is black, since one of its releases after 11."""
    return _look_up(image, lambda value: value >> (8 - bits) << (8 - bits))


def _solarize_add(image: Image.Image, amount: int) -> Image.Image:
    return _look_up(image, lambda value: min(255, value + amount) if value < ADD_BELOW else value)


def _look_up(image: Image.Image, new: Callable[[int], int]) -> Image.Image:
    return image.point([new(value) for value in range(256)] * len(image.getbands()))


# Each takes an image, a level from -1 to 1 (the magnitude / 10, its sign drawn) and how to fill and interpolate.
OPERATIONS = {
    "AutoContrast": lambda image, level, how: ImageOps.autocontrast(image),
    "Equalize": lambda image, level, how: ImageOps.equalize(image),
    "Invert": lambda image, level, how: ImageOps.invert(image),
    "Rotate": lambda image, level, how: image.rotate(level * ROTATE, **how),
    "Posterize": lambda image, level, how: _posterize(image, 4 - int(abs(level) * 4)),
    "Solarize": lambda image, level, how: ImageOps.solarize(image, 256 - int(abs(level) * 256)),
    "SolarizeAdd": lambda image, level, how: _solarize_add(image, int(abs(level) * ADD)),
    "Color": lambda image, level, how: ImageEnhance.Color(image).enhance(1 + level * ENHANCE),
    "Contrast": lambda image, level, how: ImageEnhance.Contrast(image).enhance(1 + level * ENHANCE),
    "Brightness": lambda image, level, how: ImageEnhance.Brightness(image).enhance(1 + level * ENHANCE),
    "Sharpness": lambda image, level, how: ImageEnhance.Sharpness(image).enhance(1 + level * ENHANCE),
    "ShearX": lambda image, level, how: _warp(image, (1, level * SHEAR, 0, 0, 1, 0), how),
    "ShearY": lambda image, level, how: _warp(image, (1, 0, 0, level * SHEAR, 1, 0), how),
    "TranslateX": lambda image, level, how: _warp(image, (1, 0, level * TRANSLATE * image.width, 0, 1, 0), how),
    "TranslateY": lambda image, level, how: _warp(image, (1, 0, 0, 0, 1, level * TRANSLATE * image.height), how),
}


@dataclass(frozen=True)
class Step:
    """One operation of OPERATIONS, its level and one of Pillow's Resampling, for those that move pixels."""

    operation: str
    level: float
    resample: Image.Resampling


@dataclass(frozen=True)
class RandAugment:
    """`layers` operations, drawn evenly and with replacement; each is then done with `probability`.

    magnitude, magnitude_std: of a normal distribution, whose draws are cut off at 0 and 10.
    fill:          uint8 colour of what a shear, rotation or translation leaves empty.
    interpolation: 'bicubic', as MAE and Swin call timm (mae util/datasets.py, Swin data/build.py), 'bilinear', or
                   'random', one of the two per operation, timm's default where it is called without.
    """

    magnitude: float = 9.0
    magnitude_std: float = 0.5
    layers: int = 2
    probability: float = 0.5
    fill: tuple[int, int, int] = (124, 116, 104)  # IMAGENET
    interpolation: str = "bicubic"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 [h, w, 3] -> uint8 [h, w, 3]; `rng` decides all that is random."""
        return apply(image, self.draw(rng), self.fill)

    def draw(self, rng: np.random.Generator) -> list[Step]:
        """The operations to do, at most `layers`; equally many numbers are drawn whatever comes out."""
        operations = rng.integers(len(OPERATIONS), size=self.layers)
        happens = rng.random(self.layers) < self.probability
        magnitudes = np.clip(rng.normal(self.magnitude, self.magnitude_std, self.layers), 0, LARGEST)
        signs = rng.choice((-1, 1), self.layers)
        choices = RESAMPLE[self.interpolation]
        resamples = rng.integers(len(choices), size=self.layers)
        names = tuple(OPERATIONS)
        return [
            Step(names[operations[i]], float(signs[i] * (magnitudes[i] / LARGEST)), choices[resamples[i]])
            for i in np.flatnonzero(happens)
        ]


def apply(image: np.ndarray, steps: Sequence[Step], fill: tuple[int, int, int]) -> np.ndarray:
    """uint8 [h, w, 3] -> uint8 [h, w, 3]: the steps one after the other; without any, the same array."""
    if not steps:
        return image
    picture = Image.fromarray(image)
    for step in steps:
        how = {"resample": step.resample, "fillcolor": fill}
        picture = OPERATIONS[step.operation](picture, step.level, how)
    return np.asarray(picture)


def parse(text: str, mean: Sequence[float] = IMAGENET, interpolation: str = "bicubic") -> RandAugment:
    """A RandAugment from timm's way of writing one, such as 'rand-m9-mstd0.5-inc1'.

    m: magnitude, 0 to 10; mstd: its standard deviation; n: layers; p: probability; inc1: the increasing set, the only
    one that is known here. What is left out has timm's defaults, m10-mstd0-n2-p0.5.
    mean: colour, of pixels in 0..1, to fill with.

    Raises UserError.
    """
    start, *sections = text.split("-")
    found = [re.fullmatch(r"(mstd|m|n|p|inc)(\d+(?:\.\d+)?)", section) for section in sections]
    given = {match[1]: float(match[2]) for match in found if match}
    values = {"m": LARGEST, "mstd": 0.0, "n": 2.0, "p": 0.5, "inc": 0.0} | given
    known = start == "rand" and len(given) == len(sections)  # fewer if one is unknown or comes twice
    in_range = values["m"] <= LARGEST and values["p"] <= 1 and values["n"] >= 1 and values["n"].is_integer()
    if not (known and in_range and values["inc"] == 1):
        raise UserError(
            f"Unknown RandAugment {text!r}.\n"
            "  expected: such as 'rand-m9-mstd0.5-inc1': 'rand', then any of m (magnitude, 0 to 10), mstd (its\n"
            "            standard deviation), n (operations an image) and p (probability of each, 0 to 1), and 'inc1'"
        )
    red, green, blue = (min(255, round(255 * value)) for value in mean)
    return RandAugment(values["m"], values["mstd"], int(values["n"]), values["p"], (red, green, blue), interpolation)
