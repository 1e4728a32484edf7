"""Operations on the colours of an image, under jit, and torchvision's ColorJitter of them.

An image is three planes here, red, green and blue, each float32 [H, W] in 0..1: where a pixel's channels lie side by
side, a compiler computes what they share, such as their luminance, in a pass of its own.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

Planes = tuple[jax.Array, jax.Array, jax.Array]
Operation = Callable[..., Planes]
GREY = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R 601, as in Pillow's convert("L")


def planes(image: jax.Array) -> Planes:
    """Of [H, W, 3]."""
    return image[..., 0], image[..., 1], image[..., 2]


def joined(image: Planes) -> jax.Array:
    """[H, W, 3]."""
    return jnp.stack(image, axis=-1)


def luminance(image: Planes) -> jax.Array:
    """[H, W]."""
    red, green, blue = image
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def grey(image: Planes) -> Planes:
    """Luminance in all three planes."""
    return (luminance(image),) * 3


def brightness(image: Planes, factor: jax.Array) -> Planes:
    """Blend with black."""
    red, green, blue = (jnp.clip(plane * factor, 0, 1) for plane in image)
    return red, green, blue


def contrast(image: Planes, factor: jax.Array) -> Planes:
    """Blend with the mean luminance."""
    return _blend(image, luminance(image).mean(), factor)


def saturation(image: Planes, factor: jax.Array) -> Planes:
    """Blend with the grey image."""
    return _blend(image, luminance(image), factor)


def _blend(image: Planes, other: jax.Array, factor: jax.Array) -> Planes:
    red, green, blue = (jnp.clip(other * (1 - factor) + plane * factor, 0, 1) for plane in image)
    return red, green, blue


def contrast_by_channel(image: Planes, factor: jax.Array) -> Planes:
    """tf.image.adjust_contrast: each channel about its own mean."""
    red, green, blue = (jnp.clip((plane - plane.mean()) * factor + plane.mean(), 0, 1) for plane in image)
    return red, green, blue


def saturation_in_hsv(image: Planes, factor: jax.Array) -> Planes:
    """tf.image.adjust_saturation: S of HSV times the factor, at most 1; hue and value stay."""
    value, chroma = _value_and_chroma(image)
    share = jnp.minimum(factor, value / jnp.where(chroma > 0, chroma, 1))
    red, green, blue = (value - (value - plane) * share for plane in image)
    return red, green, blue


def hue(image: Planes, turns: jax.Array) -> Planes:
    """Rotates the hue in HSV by `turns` of the full circle."""
    red, green, blue = image
    value, chroma = _value_and_chroma(image)
    safe = jnp.where(chroma > 0, chroma, 1)
    # Not `value == red`: a compiler may compute red twice and round it differently, so that nothing is the largest.
    sixth = jnp.where(
        (red >= green) & (red >= blue),
        ((green - blue) / safe) % 6,
        jnp.where(green >= blue, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    turned = (jnp.where(chroma > 0, sixth, 0) + 6 * turns) % 6

    def plane(number: float) -> jax.Array:
        """HSV -> RGB in closed form: value - chroma * clip(min(k, 4 - k), 0, 1), k = (number + hue) mod 6."""
        steps = (number + turned) % 6
        return value - chroma * jnp.clip(jnp.minimum(steps, 4 - steps), 0, 1)

    return plane(5.0), plane(3.0), plane(1.0)


def _value_and_chroma(image: Planes) -> tuple[jax.Array, jax.Array]:
    red, green, blue = image
    value = jnp.maximum(jnp.maximum(red, green), blue)
    return value, value - jnp.minimum(jnp.minimum(red, green), blue)


# Brightness, contrast, saturation and hue, as torchvision has them and as Google's SimCLR (simclr data_util.py:83-177).
OPERATIONS = {
    "torchvision": (brightness, contrast, saturation, hue),
    "tensorflow": (brightness, contrast_by_channel, saturation_in_hsv, hue),
}


def jitter(key: jax.Array, image: Planes, strengths: Sequence[float], kind: str = "torchvision") -> Planes:
    """torchvision's ColorJitter: the operations of non-zero strength, each once, in an order drawn per image.

    kind: of OPERATIONS; the draws are the same.

    For a batch each operation is computed wherever it may stand. Hue, which costs more than the others together, stands
    once; contrast, which needs all of an image before it writes any, once before hue and once after it; and around
    them brightness and saturation, which a compiler joins into one pass.
    """
    order_key, *keys = jax.random.split(key, 5)
    present: list[tuple[Operation, Operation]] = []  # (what it is, with its amount)
    for operation, strength, op_key in zip(OPERATIONS[kind], strengths, keys, strict=True):
        if strength > 0:
            centre = 0.0 if operation is hue else 1.0
            low = -strength if operation is hue else max(0.0, centre - strength)
            amount = jax.random.uniform(op_key, dtype=jnp.float32, minval=low, maxval=centre + strength)
            present.append((operation, lambda x, operation=operation, amount=amount: operation(x, amount)))
    order = jax.random.permutation(order_key, jnp.arange(len(present), dtype=jnp.int32))
    turns = {
        what: (jax.lax.argmax(order == number, 0, jnp.int32), chosen) for number, (what, chosen) in enumerate(present)
    }
    blend_with_mean, turn_hue = turns.pop(OPERATIONS[kind][1], None), turns.pop(hue, None)
    others = list(turns.values())

    def stretch(image: Planes, after: jax.Array | int, before: jax.Array | int) -> Planes:
        """The operations between two turns, without hue."""
        if blend_with_mean is None:
            return _in_turn(others, image, after, before)
        turn, contrasted = blend_with_mean
        here = (after < turn) & (turn < before)
        middle = jnp.where(here, turn, before)
        image = _in_turn(others, image, after, middle)
        image = jax.lax.cond(here, contrasted, lambda x: x, image)
        return _in_turn(others, image, middle, before)

    if turn_hue is None:
        return stretch(image, -1, len(present))
    turn, turned = turn_hue
    return stretch(turned(stretch(image, -1, turn)), turn, len(present))


def _in_turn(
    operations: Sequence[tuple[jax.Array, Operation]],
    image: Planes,
    after: jax.Array | int,
    before: jax.Array | int,
) -> Planes:
    """Those of at most two (turn, operation) whose turns lie between, the earlier one first."""
    wanted = [jnp.where((after < turn) & (turn < before), number, 0) for number, (turn, _) in enumerate(operations, 1)]
    if len(operations) == 2:
        swapped = operations[0][0] > operations[1][0]
        wanted = [jnp.where(swapped, one, other) for one, other in zip(wanted[::-1], wanted, strict=True)]
    for number in wanted:
        image = jax.lax.switch(number, [lambda x: x, *(operation for _, operation in operations)], image)
    return image
