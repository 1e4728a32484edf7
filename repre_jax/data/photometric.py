"""The device's half of the augmentation: uint8 crops -> view pixels -> normalised views, under jit.

Every image draws from its own key, made from its row in the global batch, so the outcome does not depend on how many
devices share the batch. The order is that of all sources (moco-v3 main_moco.py:262-285): colour jitter, grey, blur,
solarize. Some flip before these and some after, which is the same, since none of them knows left from right. An
operation whose probability or strength is 0 is left out of the program.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as in Pillow's convert("L")


@dataclass(frozen=True)
class Photometric:
    """What happens to one view. Probabilities in 0..1; an image is float32 [H, W, 3] in 0..1 throughout.

    jitter:     brightness, contrast, saturation, hue as in torchvision's ColorJitter: factors are drawn from
                1 - x .. 1 + x (not below 0), the hue shift from -x .. x turns, the four in random order.
    blur_sigma: range of the Gaussian's standard deviation, in pixels.
    solarize:   inverts pixels of at least 128 / 255.
    colours:    whose contrast and saturation: 'torchvision', or 'tensorflow' as in Google's SimCLR
                (simclr data_util.py:83-177, by tf.image).
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

    def sometimes(gate: jax.Array, probability: float, changed: jax.Array, image: jax.Array) -> jax.Array:
        if probability >= 1:
            return changed
        return jnp.where(jax.random.bernoulli(gate, jnp.float32(probability)), changed, image)

    if settings.jitter_probability > 0 and any(settings.jitter):
        image = sometimes(
            gates[0], settings.jitter_probability, jitter(jitter_key, image, settings.jitter, settings.colours), image
        )
    if settings.grey_probability > 0:
        image = sometimes(gates[1], settings.grey_probability, grey(image), image)
    if settings.blur_probability > 0:
        low, high = settings.blur_sigma
        sigma = jax.random.uniform(blur_key, dtype=jnp.float32, minval=low, maxval=high)
        image = sometimes(gates[2], settings.blur_probability, blur(image, sigma, high), image)
    if settings.solarize_probability > 0:
        image = sometimes(gates[3], settings.solarize_probability, solarize(image), image)
    if settings.flip_probability > 0:
        image = sometimes(gates[4], settings.flip_probability, image[:, ::-1], image)
    return image


def grey(image: jax.Array) -> jax.Array:
    """Luminance in all three channels."""
    return jnp.broadcast_to((image @ jnp.asarray(GREY, image.dtype))[..., None], image.shape)


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


def jitter(key: jax.Array, image: jax.Array, strengths: Sequence[float], colours: str = "torchvision") -> jax.Array:
    """torchvision's ColorJitter: the operations of non-zero strength, each once, in an order drawn per image.

    colours: see Photometric; with 'tensorflow' the same factors and order, but tf.image's contrast and saturation.

    For a batch every operation is computed at every turn. Hue costs more than the others together, and is therefore
    computed once, between the turns before its own and those after it.
    """
    order_key, *keys = jax.random.split(key, 5)
    blends, turn_hue = [lambda x: x], None
    for operation, strength, op_key in zip(OPERATIONS[colours], strengths, keys, strict=True):
        if strength > 0:
            centre = 0.0 if operation is hue else 1.0
            low = -strength if operation is hue else max(0.0, centre - strength)
            amount = jax.random.uniform(op_key, dtype=jnp.float32, minval=low, maxval=centre + strength)
            chosen = lambda x, operation=operation, amount=amount: operation(x, amount)  # noqa: E731
            if operation is hue:
                turn_hue = chosen
            else:
                blends.append(chosen)
    count = len(blends) - 1
    order = jax.random.permutation(
        order_key, count + (turn_hue is not None)
    )  # hue, the last operation, is number count
    hues_turn = jnp.argmax(order == count) if turn_hue else count

    def blend(turn: int, image: jax.Array, wanted: jax.Array | bool) -> jax.Array:
        return jax.lax.switch(jnp.where(wanted & (order[turn] < count), order[turn] + 1, 0), blends, image)

    for turn in range(count):
        image = blend(turn, image, turn < hues_turn)
    if turn_hue:
        image = turn_hue(image)
        for turn in range(1, count + 1):
            image = blend(turn, image, turn > hues_turn)
    return image


def brightness(image: jax.Array, factor: jax.Array) -> jax.Array:
    """Blend with black."""
    return jnp.clip(image * factor, 0, 1)


def contrast(image: jax.Array, factor: jax.Array) -> jax.Array:
    """Blend with the mean luminance."""
    return jnp.clip(grey(image).mean() * (1 - factor) + image * factor, 0, 1)


def saturation(image: jax.Array, factor: jax.Array) -> jax.Array:
    """Blend with the grey image."""
    return jnp.clip(grey(image) * (1 - factor) + image * factor, 0, 1)


def contrast_by_channel(image: jax.Array, factor: jax.Array) -> jax.Array:
    """tf.image.adjust_contrast: each channel about its own mean."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return jnp.clip((image - mean) * factor + mean, 0, 1)


def saturation_in_hsv(image: jax.Array, factor: jax.Array) -> jax.Array:
    """tf.image.adjust_saturation: S of HSV times the factor, at most 1; hue and value stay."""
    value = image.max(axis=-1, keepdims=True)
    chroma = value - image.min(axis=-1, keepdims=True)
    return value - (value - image) * jnp.minimum(factor, value / jnp.where(chroma > 0, chroma, 1))


def hue(image: jax.Array, turns: jax.Array) -> jax.Array:
    """Rotates the hue in HSV by `turns` of the full circle."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = image.max(axis=-1)
    chroma = value - image.min(axis=-1)
    safe = jnp.where(chroma > 0, chroma, 1)
    # Not `value == red`: a compiler may compute red twice and round it differently, so that nothing is the largest.
    sixth = jnp.where(
        (red >= green) & (red >= blue),
        ((green - blue) / safe) % 6,
        jnp.where(green >= blue, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    turned = (jnp.where(chroma > 0, sixth, 0) + 6 * turns) % 6
    # HSV -> RGB in closed form: channel n is value - chroma * clip(min(k, 4 - k), 0, 1), k = (n + hue) mod 6.
    steps = (jnp.asarray((5.0, 3.0, 1.0), jnp.float32) + turned[..., None]) % 6
    return value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(steps, 4 - steps), 0, 1)


OPERATIONS = {
    "torchvision": (brightness, contrast, saturation, hue),
    "tensorflow": (brightness, contrast_by_channel, saturation_in_hsv, hue),
}
