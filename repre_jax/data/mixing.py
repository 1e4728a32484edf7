"""What supervised fine-tuning does to normalised images on the device, under jit: random erasing, then mixup or cutmix.

The order is that of timm, whose loader erases and whose Mixup then takes the whole batch (recipes.md 7.2). What is
drawn, and what is done with it, are functions of their own.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

TRIES = 10  # boxes drawn until one fits into the image (timm data/random_erasing.py)
ERASED_AREA = (0.02, 1 / 3)  # of the image
ERASED_RATIO = (0.3, 1 / 0.3)  # height / width


class Box(NamedTuple):
    """Pixels top <= y < bottom, left <= x < right; int32 each, inside the image."""

    top: jax.Array
    bottom: jax.Array
    left: jax.Array
    right: jax.Array


def inside(box: Box, height: int, width: int) -> jax.Array:
    """bool [height, width]: which pixels the box covers."""
    y, x = jnp.arange(height)[:, None], jnp.arange(width)
    return (y >= box.top) & (y < box.bottom) & (x >= box.left) & (x < box.right)


@dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) as in timm's Mixup with mode 'batch' (timm data/mixup.py).

    mixup_alpha, cutmix_alpha: of the symmetric beta distribution that the share is drawn from; 0 switches either off.
    probability:        that a batch is mixed at all.
    switch_probability: that it is cutmix, where both are on.
    smoothing:          label smoothing, 0 to below 1.
    """

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    probability: float = 1.0
    switch_probability: float = 0.5
    smoothing: float = 0.1


class Draw(NamedTuple):
    """What one batch draws: float32 share of the own image, 0..1; bool cutmix; int32 [2] centre (y, x) of its box."""

    share: jax.Array
    cutmix: jax.Array
    centre: jax.Array


def mix(
    key: jax.Array, pixels: jax.Array, labels: jax.Array, classes: int, settings: Mixing
) -> tuple[jax.Array, jax.Array]:
    """float32 [B, H, W, C], int32 [B] in 0..classes-1 -> mixed float32 [B, H, W, C], targets float32 [B, classes].

    Each image is mixed with its mirror in the batch, the first with the last, all by one share. Each row of the targets
    sums to 1. The batch must be the whole one: a part of it would make other pairs. timm draws once per process; for
    that, vmap over keys [G], pixels [G, B / G, ...] and labels [G, B / G].
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, classes, dtype=jnp.float32), settings.smoothing)
    if settings.probability <= 0 or max(settings.mixup_alpha, settings.cutmix_alpha) <= 0:
        return pixels, targets
    height, width = pixels.shape[1:3]
    weights, share = own_weights(draw(key, height, width, settings), height, width)
    return blend(pixels, weights[..., None]), blend(targets, share)


def draw(key: jax.Array, height: int, width: int, settings: Mixing) -> Draw:
    """For images [height, width]; at least one alpha of the settings is above 0."""
    gate_key, switch_key, share_key, y_key, x_key = jax.random.split(key, 5)
    if settings.mixup_alpha > 0 and settings.cutmix_alpha > 0:
        cutmix = jax.random.bernoulli(switch_key, jnp.float32(settings.switch_probability))
    else:
        cutmix = jnp.asarray(settings.cutmix_alpha > 0)
    alpha = jnp.where(cutmix, jnp.float32(settings.cutmix_alpha), jnp.float32(settings.mixup_alpha))
    share = jax.random.beta(share_key, alpha, alpha, dtype=jnp.float32)
    share = jnp.where(jax.random.bernoulli(gate_key, jnp.float32(settings.probability)), share, 1.0)
    centre = jnp.stack([jax.random.randint(k, (), 0, n, jnp.int32) for k, n in ((y_key, height), (x_key, width))])
    return Draw(share, cutmix, centre)


def own_weights(drawn: Draw, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """How much of the own image stays: of each pixel, float32 [height, width], and in all, float32 [].

    Cutmix: 0 in the box and 1 elsewhere; in all, the share of pixels outside of the box, which image borders may cut.
    """
    in_box = inside(cut_box(drawn.share, drawn.centre, height, width), height, width)
    weights = jnp.where(drawn.cutmix, 1.0 - in_box, drawn.share)
    return weights, jnp.where(drawn.cutmix, 1 - in_box.sum(dtype=jnp.int32) / (height * width), drawn.share)


def cut_box(share: jax.Array, centre: jax.Array, height: int, width: int) -> Box:
    """Cutmix's box about `centre` (y, x), of the image's shape and 1 - share of its area, cut at the borders."""

    def span(middle: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        half = jnp.floor(size * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
        return jnp.maximum(middle - half, 0), jnp.minimum(middle + half, size)

    return Box(*span(centre[0], height), *span(centre[1], width))


def blend(x: jax.Array, weights: jax.Array) -> jax.Array:
    """x * weights + (x reversed along axis 0) * (1 - weights)."""
    return x * weights + x[::-1] * (1 - weights)


def erase(key: jax.Array, images: jax.Array, probability: float, rows: jax.Array | None = None) -> jax.Array:
    """Random erasing (Zhong et al. 2020) as timm's RandomErasing with mode 'pixel': float32 [B, H, W, C], normalised.

    With `probability`, one box of an image becomes normal noise of mean 0 and standard deviation 1.
    rows: int32 [B], where the images stand in the global batch; None if they are all of it. Each image draws from its
          own key, so that the outcome does not depend on the number of devices or parts.
    """
    if probability <= 0:
        return images
    rows = jnp.arange(images.shape[0]) if rows is None else rows
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
    return jax.vmap(lambda k, image: _erase_one(k, image, probability))(keys, images)


def _erase_one(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    gate_key, numbers_key, noise_key = jax.random.split(key, 3)
    height, width = image.shape[:2]
    box = erased_box(erasing_numbers(numbers_key), height, width)
    erased = inside(box, height, width) & jax.random.bernoulli(gate_key, jnp.float32(probability))
    return jnp.where(erased[..., None], jax.random.normal(noise_key, image.shape, image.dtype), image)


class ErasingNumbers(NamedTuple):
    """What an image draws for its box. float32: areas [TRIES], shares of the image; ratios [TRIES], height / width;
    place [2] in 0..1, where the box stands between the borders."""

    areas: jax.Array
    ratios: jax.Array
    place: jax.Array


def erasing_numbers(key: jax.Array) -> ErasingNumbers:
    """Areas uniform in ERASED_AREA, ratios log-uniform in ERASED_RATIO, places uniform."""
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    low, high = (math.log(ratio) for ratio in ERASED_RATIO)
    return ErasingNumbers(
        jax.random.uniform(area_key, (TRIES,), jnp.float32, minval=ERASED_AREA[0], maxval=ERASED_AREA[1]),
        jnp.exp(jax.random.uniform(ratio_key, (TRIES,), jnp.float32, minval=low, maxval=high)),
        jax.random.uniform(place_key, (2,), jnp.float32),
    )


def erased_box(numbers: ErasingNumbers, height: int, width: int) -> Box:
    """The first box that is lower and narrower than the image; an empty one if none of them is."""
    heights = jnp.round(jnp.sqrt(numbers.areas * height * width * numbers.ratios)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(numbers.areas * height * width / numbers.ratios)).astype(jnp.int32)
    fits = (heights < height) & (widths < width)
    first = jnp.argmax(fits)
    box_height, box_width = (jnp.where(fits.any(), sizes[first], 0) for sizes in (heights, widths))
    room = jnp.stack([height - box_height + 1, width - box_width + 1])
    top, left = jnp.floor(numbers.place * room).astype(jnp.int32)
    return Box(top, top + box_height, left, left + box_width)
