"""The segmentation of whole images by a network that sees crops: windows slide, and their logits are averaged.

What a pixel is predicted as does not depend on the other images, nor on how many there are: `predict` runs on the same
few images at once on each device, whatever the batch, the number of devices and of processes.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from repre_jax.core.types import LabelMaps
from repre_jax.data import photometric
from repre_jax.evaluation.windows import PLAIN, Array, Layout, Pass, Size, SlidingTest

PIXELS = 2**22  # of the windows that are seen at once
LOGITS = 2**27  # of these, float32

LogitsOf = Callable[[jax.Array], jax.Array]  # float32 [N, *crop, C], normalised -> [N, *crop, classes]


def predict(
    logits_of: LogitsOf,
    batch: LabelMaps,
    passes: Sequence[Pass],
    found: Layout,
    how: SlidingTest,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    align_corners: bool,
) -> jax.Array:
    """The class of each pixel of the label maps: int32 [B, *canvas], of which an image's own size counts.

    batch: of a SegmentationTestView; at one scale its images are resized already, of several they have their own size.
    passes: of these images (evaluation/windows.py). align_corners: how logits are brought to the label maps' size.
    """
    total: jax.Array | None = None
    several = len(how.scales) > 1 or how.flip
    own = batch.extents if batch.label_extents is None else batch.label_extents
    for of_scale, canvas in zip(passes, found.scaled, strict=True):
        pixels = batch.images.astype(jnp.float32)
        if how.scales != PLAIN:
            pixels = jnp.round(resized(pixels, batch.extents, of_scale.sizes, canvas))  # 8 bits, as a file's would be
        pixels = photometric.normalize(pixels / 255, mean, std)
        for mirrored in (False, True) if how.flip else (False,):
            seen = flipped(pixels, of_scale.sizes) if mirrored else pixels
            logits = merged(logits_of, seen, of_scale, how.crop)
            if how.scales != PLAIN or how.resize_to is not None:
                logits = resized(logits, of_scale.sizes, own, found.canvas, align_corners=align_corners)
            if mirrored:
                logits = flipped(logits, own)
            values = jax.nn.softmax(logits) if several else logits
            total = values if total is None else total + values
    assert total is not None  # there is a scale
    return total.argmax(axis=-1).astype(jnp.int32)


def at_once(images: int, crop: Size, classes: int, windows: int) -> int:
    """How many windows of each of some images are seen at once, at most: all, or shares of them that are alike.

    Within PIXELS, 7 crops of 768 x 768, and LOGITS, half a GiB of them: for larger crops, more images or more classes
    fewer windows, at least one.
    """
    pixels = images * crop[0] * crop[1]
    most = max(1, min(windows, PIXELS // pixels, LOGITS // (pixels * classes)))
    return math.ceil(windows / math.ceil(windows / most))


def merged(logits_of: LogitsOf, pixels: jax.Array, windows: Pass, crop: Size) -> jax.Array:
    """Logits of whole images [B, *canvas, classes]: those of all windows that a pixel lies in, averaged; 0 in none."""
    count, *canvas, channels = pixels.shape
    classes = jax.eval_shape(logits_of, jax.ShapeDtypeStruct((count, *crop, channels), jnp.float32)).shape[-1]
    together = at_once(count, crop, classes, windows.places.shape[1])
    total = jnp.zeros((count, *canvas, classes), jnp.float32)
    cover = jnp.zeros((count, *canvas, 1), jnp.float32)

    def cut(image: jax.Array, place: Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (place[0], place[1], 0), (*crop, image.shape[-1]))

    def add(image: jax.Array, part: jax.Array, place: Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(image, cut(image, place) + part, (place[0], place[1], 0))

    def group(number: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        numbers = number * together + jnp.arange(together)
        places = jnp.asarray(windows.places).take(numbers, axis=1, mode="clip").swapaxes(0, 1)  # [together, B, 2]
        seen = jax.vmap(jax.vmap(cut), in_axes=(None, 0))(pixels, places)
        logits = logits_of(seen.reshape(-1, *seen.shape[2:]))
        logits = logits.reshape(together, count, *crop, classes)

        def window(within: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            there = (numbers[within] < windows.counts).astype(jnp.float32)[:, None, None, None]
            ones = jnp.broadcast_to(there, (count, *crop, 1))
            place = places[within]
            return jax.vmap(add)(sums[0], logits[within] * there, place), jax.vmap(add)(sums[1], ones, place)

        return jax.lax.fori_loop(0, together, window, sums)

    groups = (jnp.asarray(windows.counts).max() + together - 1) // together
    total, cover = jax.lax.fori_loop(0, groups, group, (total, cover))
    return total / jnp.maximum(cover, 1.0)


def resized(images: jax.Array, old: Array, new: Array, canvas: Size, *, align_corners: bool = False) -> jax.Array:
    """Images [B, H, W, D], each of its own size `old` [B, 2] at the top left -> [B, *canvas, D], of sizes `new`.

    Bilinear as models/resize.py, which takes one size for all. What lies beyond repeats the border.
    """

    def along(axis: int, image: jax.Array, before: Array, after: Array) -> jax.Array:
        place = jnp.arange(canvas[axis], dtype=jnp.float32)
        if align_corners:
            place = place * ((before - 1) / jnp.maximum(after - 1, 1))
        else:
            place = jnp.maximum((place + 0.5) * (before / after) - 0.5, 0)
        place = jnp.minimum(place, before - 1)
        lower = jnp.floor(place).astype(jnp.int32)
        share = jnp.expand_dims(place - lower, [1, 2] if axis == 0 else [0, 2])
        upper = jnp.minimum(lower + 1, before - 1)
        return image.take(lower, axis=axis) * (1 - share) + image.take(upper, axis=axis) * share

    def of_one(image: jax.Array, before: Array, after: Array) -> jax.Array:
        for axis in (0, 1):
            image = along(axis, image, before[axis], after[axis])
        return image

    return jax.vmap(of_one)(images, jnp.asarray(old), jnp.asarray(new))


def flipped(images: jax.Array, sizes: Array) -> jax.Array:
    """Images [B, H, W, D], each of its own size [B, 2] at the top left, left and right exchanged within it."""
    columns = jnp.arange(images.shape[2])
    places = jnp.asarray(sizes)[:, 1:] - 1 - columns  # [B, W], below 0 beyond the image
    return jax.vmap(lambda image, place: image.take(jnp.maximum(place, 0), axis=1))(images, places)
