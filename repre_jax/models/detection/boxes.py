"""Boxes as numbers: areas, overlaps, deltas between two of them, clipping.

A box is float32 [..., 4], x0 y0 x1 y1 in pixels of the canvas, continuous: its width is x1 - x0, without the + 1 of
older detectors. bfloat16 would round coordinates above 1024 to multiples of 8, so that whoever calls hands in float32.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

SMALLEST = 1e-6  # the least denominator of an overlap, and the least side that a delta is taken of
MOST_LOG = abs(math.log(16 / 1000))  # a side becomes at most 62.5 times as long, or as short (mmdetection's)
UNIT = (1.0, 1.0, 1.0, 1.0)  # the deltas' standard deviations in the RPN
BOX_HEAD = (0.1, 0.1, 0.2, 0.2)  # and in the box head


def area(boxes: jax.Array) -> jax.Array:
    """Square pixels, [...] of boxes [..., 4]; 0 where a side is not positive."""
    return jnp.maximum(boxes[..., 2] - boxes[..., 0], 0) * jnp.maximum(boxes[..., 3] - boxes[..., 1], 0)


def iou(boxes: jax.Array, others: jax.Array) -> jax.Array:
    """Intersection over union of each pair in 0..1, [N, M] of boxes [N, 4] and others [M, 4]; 0 of two empty ones."""
    first, second = boxes[:, None], others[None]
    sides = jnp.minimum(first[..., 2:], second[..., 2:]) - jnp.maximum(first[..., :2], second[..., :2])
    both = jnp.maximum(sides[..., 0], 0) * jnp.maximum(sides[..., 1], 0)
    return both / jnp.maximum(area(first) + area(second) - both, SMALLEST)


def encode(boxes: jax.Array, targets: jax.Array, stds: Sequence[float] = UNIT) -> jax.Array:
    """The deltas float32 [..., 4] that lead from boxes to targets, both [..., 4].

    Shift of the centre in parts of the box's sides, then the logarithm of the sides' quotient; each divided by its
    standard deviation, and the means are 0. Empty boxes, as of padding, give finite numbers, because NaN would pass
    the mask of a loss into its gradient.
    """
    centre, sides = _centre(boxes)
    target_centre, target_sides = _centre(targets)
    sides, target_sides = jnp.maximum(sides, SMALLEST), jnp.maximum(target_sides, SMALLEST)
    shift = (target_centre - centre) / sides
    return jnp.concatenate([shift, jnp.log(target_sides / sides)], axis=-1) / jnp.asarray(stds, jnp.float32)


def decode(boxes: jax.Array, deltas: jax.Array, stds: Sequence[float] = UNIT) -> jax.Array:
    """Boxes moved by deltas, float32; the reverse of `encode`. The two broadcast, so that a box may have many deltas.

    The logarithms are held within +-4.135, at the lower end too, unlike detectron2's and torchvision's.
    """
    deltas = deltas.astype(jnp.float32) * jnp.asarray(stds, jnp.float32)
    centre, sides = _centre(boxes)
    centre = centre + sides * deltas[..., :2]
    half = sides * jnp.exp(jnp.clip(deltas[..., 2:], -MOST_LOG, MOST_LOG)) / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def clip(boxes: jax.Array, extent: jax.Array) -> jax.Array:
    """Boxes [..., 4] within 0..width and 0..height (not width - 1). extent: [2], height and width of the image."""
    height, width = extent[0].astype(jnp.float32), extent[1].astype(jnp.float32)
    return jnp.clip(boxes, 0, jnp.stack([width, height, width, height]))


def _centre(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Centre and sides, [..., 2] each, x first."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
