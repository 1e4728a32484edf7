"""The device's half of the augmentation of images with label maps: flip, colours, and padding that stays padding.

The colours are mmsegmentation's PhotoMetricDistortion in its order and with its draws (SETR's copy, mmseg 0.6,
mmseg/datasets/pipelines/transforms.py:516-622): brightness; contrast, before or after the next two; saturation; hue.
It works on whole levels of 0..255 and cuts what brightness and contrast give, and so do we; what HSV gives is rounded,
but here hue and saturation are not rounded themselves, as OpenCV's 8-bit HSV has them (by 2 degrees, 1 of 256).

Every image draws from its own key, made from its row in the global batch, as in photometric.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from repre_jax.data import colours, photometric

LEVELS = 255.0
HUES = 180  # steps of a full circle, as OpenCV has them
RGB = 3


@dataclass(frozen=True)
class Distortion:
    """What happens to an image with a label map. Each with probability 1/2, but for the flip, which says its own.

    brightness: largest shift, in levels of 0..255. contrast, saturation: ranges of the factor. hue: largest turn, in
    steps of 2 degrees: -hue, ..., hue - 1. 0, or an empty range, leaves an operation out of the program. Images of
    other than 3 channels have no saturation and hue.
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: int = 18
    flip_probability: float = 0.5


def augment(
    key: jax.Array,
    images: jax.Array,
    label_maps: jax.Array,
    extents: jax.Array,
    settings: Distortion,
    rows: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(Pixels float32 [B, H, W, C] in 0..1, label maps uint8 [B, H, W]), of a batch as core/types.LabelMaps has it.

    What is image is flipped within its extent, so that padding stays right and below, and stays 0.
    rows: int32 [B], where the images stand in the global batch; None if they are all of it.
    """
    rows = jnp.arange(images.shape[0]) if rows is None else rows

    def one(row: jax.Array, image: jax.Array, label_map: jax.Array, extent: jax.Array) -> tuple[jax.Array, jax.Array]:
        colour_key, flip_key = jax.random.split(jax.random.fold_in(key, row))
        levels = distort(colour_key, image.astype(jnp.float32), settings)
        if settings.flip_probability > 0:
            flips = jax.random.bernoulli(flip_key, jnp.float32(settings.flip_probability))
            levels, label_map = flip(levels, extent, flips), flip(label_map, extent, flips)
        return jnp.where(inside(extent, image.shape[:2])[..., None], levels / LEVELS, 0), label_map

    return jax.vmap(one)(rows, images, label_maps, extents)


def normalised(images: jax.Array, extents: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """As `normalise` gives, of images uint8 [B, H, W, C]."""
    return normalise(images.astype(jnp.float32) / LEVELS, extents, mean, std)


def normalise(pixels: jax.Array, extents: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """(pixels - mean) / std per channel, [B, H, W, C], and 0 where padding is. pixels: float32 in 0..1."""
    image = jax.vmap(lambda extent: inside(extent, pixels.shape[1:3]))(extents)
    return jnp.where(image[..., None], photometric.normalize(pixels, mean, std), 0)


def inside(extent: jax.Array, size: Sequence[int]) -> jax.Array:
    """Where a canvas of `size`, (H, W), is image: bool [H, W]. extent: int32 [2], height and width of the image."""
    return (jnp.arange(size[0]) < extent[0])[:, None] & (jnp.arange(size[1]) < extent[1])


def flip(canvas: jax.Array, extent: jax.Array, wanted: jax.Array) -> jax.Array:
    """[H, W, ...] with the left `extent[1]` columns mirrored, if wanted; the others stay."""
    columns = jnp.arange(canvas.shape[1])
    return canvas[:, jnp.where(wanted & (columns < extent[1]), extent[1] - 1 - columns, columns)]


def distort(key: jax.Array, levels: jax.Array, settings: Distortion) -> jax.Array:
    """One image, float32 [H, W, C] of whole numbers 0..255 -> the same with other colours."""
    gates_key, amounts_key = jax.random.split(key)
    bright, first, contrasted, saturated, turned = jax.random.bernoulli(gates_key, 0.5, (5,))
    shift, factor, saturation, hue_key = jax.random.split(amounts_key, 4)

    def drawn(key: jax.Array, low: float, high: float) -> jax.Array:
        return jax.random.uniform(key, dtype=jnp.float32, minval=low, maxval=high)

    if settings.brightness > 0:
        moved = cut(levels + drawn(shift, -settings.brightness, settings.brightness))
        levels = jnp.where(bright, moved, levels)
    alpha = drawn(factor, *settings.contrast)
    contrasts = _is_span(settings.contrast)
    if contrasts:
        levels = jnp.where(contrasted & first, cut(levels * alpha), levels)
    if levels.shape[-1] == RGB and _is_span(settings.saturation):
        other = colours.saturation_in_hsv(colours.planes(levels), drawn(saturation, *settings.saturation))
        levels = jnp.where(saturated, jnp.round(colours.joined(other)), levels)
    if levels.shape[-1] == RGB and settings.hue > 0:
        steps = jax.random.randint(hue_key, (), -settings.hue, settings.hue)
        other = colours.hue(colours.planes(levels), steps / HUES)
        levels = jnp.where(turned, jnp.round(colours.joined(other)), levels)
    if contrasts:
        levels = jnp.where(contrasted & ~first, cut(levels * alpha), levels)
    return levels


def cut(levels: jax.Array) -> jax.Array:
    """To 0..255, and to whole numbers, downwards."""
    return jnp.floor(jnp.clip(levels, 0, LEVELS))


def _is_span(factors: tuple[float, float]) -> bool:
    return factors[0] < factors[1]
