"""The device's half of the augmentation: uint8 crops -> view pixels -> normalised views, under jit.

Every image draws from its own key, made from its row in the global batch, so the outcome does not depend on how many
devices share the batch. The order is that of all sources (moco-v3 main_moco.py:262-285): colour jitter, grey, blur,
solarize. Some flip before these and some after, which is the same, since none of them knows left from right. An
operation whose probability or strength is 0 is left out of the program.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from repre_jax.data import colours


@dataclass(frozen=True)
class Photometric:
    """What happens to one view. Probabilities in 0..1; an image is float32 [H, W, 3] in 0..1 throughout.

    jitter:     brightness, contrast, saturation, hue as in torchvision's ColorJitter: factors are drawn from
                1 - x .. 1 + x (not below 0), the hue shift from -x .. x turns, the four in random order.
    blur_sigma: range of the Gaussian's standard deviation, in pixels.
    solarize:   inverts pixels of at least 128 / 255.
    colours:    whose contrast and saturation: 'torchvision' or 'tensorflow' (data/colours.py).
    """

    jitter: tuple[float, float, float, float]
    jitter_probability: float
    grey_probability: float
    blur_probability: float
    blur_sigma: tuple[float, float]
    solarize_probability: float
    flip_probability: float
    colours: str = "torchvision"


def flip_only(probability: float) -> Photometric:
    """What a linear probe does to a crop."""
    off = (0.0, 0.0, 0.0, 0.0)
    return Photometric(off, 0.0, 0.0, 0.0, (0.1, 2.0), 0.0, flip_probability=probability)


def augment(
    key: jax.Array,
    images: jax.Array,
    settings: Sequence[Photometric],
    first: int = 0,
    rows: jax.Array | None = None,
) -> jax.Array:
    """uint8 [B, V, H, W, 3] -> float32 [B, V, H, W, 3] in 0..1; `settings` holds one entry per view.

    first: the number of the first view, so that views given in two calls draw differently.
    rows:  int32 [B], where the images stand in the global batch; None if they are all of it.
    """
    pixels = images.astype(jnp.float32) / 255
    rows = jnp.arange(images.shape[0]) if rows is None else rows
    views = []
    for view, chosen in enumerate(settings):
        number = first + view
        keys = jax.vmap(lambda row, number=number: jax.random.fold_in(jax.random.fold_in(key, row), number))(rows)
        views.append(jax.vmap(lambda k, x, chosen=chosen: augment_one(k, x, chosen))(keys, pixels[:, view]))
    return jnp.stack(views, axis=1)


def normalize(pixels: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """(pixels - mean) / std per channel; pixels float32 in 0..1."""
    return (pixels - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def augment_one(key: jax.Array, image: jax.Array, settings: Photometric) -> jax.Array:
    """One image [H, W, 3] -> its augmented view, in 0..1."""
    jitter_key, blur_key, *gates = jax.random.split(key, 7)

    def sometimes(gate: jax.Array, probability: float, changed: Any, image: Any) -> Any:
        if probability >= 1:
            return changed
        chosen = jax.random.bernoulli(gate, jnp.float32(probability))
        return jax.tree.map(lambda one, other: jnp.where(chosen, one, other), changed, image)

    jittered = settings.jitter_probability > 0 and any(settings.jitter)
    if jittered or settings.grey_probability > 0:
        planes = colours.planes(image)
        if jittered:
            changed = colours.jitter(jitter_key, planes, settings.jitter, settings.colours)
            planes = sometimes(gates[0], settings.jitter_probability, changed, planes)
        if settings.grey_probability > 0:
            planes = sometimes(gates[1], settings.grey_probability, colours.grey(planes), planes)
        image = colours.joined(planes)
    if settings.blur_probability > 0:
        low, high = settings.blur_sigma
        sigma = jax.random.uniform(blur_key, dtype=jnp.float32, minval=low, maxval=high)
        image = sometimes(gates[2], settings.blur_probability, blur(image, sigma, high), image)
    if settings.solarize_probability > 0:
        image = sometimes(gates[3], settings.solarize_probability, solarize(image), image)
    if settings.flip_probability > 0:
        image = sometimes(gates[4], settings.flip_probability, image[:, ::-1], image)
    return image


def solarize(image: jax.Array) -> jax.Array:
    """1 - x where x is at least 128 / 255."""
    return jnp.where(image >= 128 / 255, 1 - image, image)


def blur(image: jax.Array, sigma: jax.Array, largest_sigma: float) -> jax.Array:
    """Gaussian of standard deviation `sigma` pixels, cut off at 3 * largest_sigma; edges are repeated."""
    radius = max(1, round(3 * largest_sigma))
    offsets = jnp.arange(-radius, radius + 1)
    weights = jnp.exp(-0.5 * (offsets / jnp.maximum(sigma, 1e-3)) ** 2)
    weights = weights / weights.sum()
    height, width = image.shape[:2]
    padded = jnp.pad(image, ((radius, radius), (0, 0), (0, 0)), mode="edge")
    rows = (weights[i] * padded[i : i + height] for i in range(2 * radius + 1))
    image = functools.reduce(jnp.add, rows, jnp.float32(0))
    padded = jnp.pad(image, ((0, 0), (radius, radius), (0, 0)), mode="edge")
    columns = (weights[i] * padded[:, i : i + width] for i in range(2 * radius + 1))
    return functools.reduce(jnp.add, columns, jnp.float32(0))
