"""Anchors: the boxes that the region proposal network starts from, three at each cell of five pyramid levels.

A formula of the canvas alone (SwinOD mmdet/core/anchor/anchor_generator.py): sides of 8 strides, height : width of
1/2, 1 and 2, not rounded, and the centre on the cell's top left corner, not in its middle.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

STRIDES = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)  # height : width
SCALE = 8  # side of a square anchor, in strides
MULTIPLE = 32  # images are padded to multiples of this on each side


def level_sizes(canvas: tuple[int, int], strides: Sequence[int] = STRIDES) -> tuple[tuple[int, int], ...]:
    """Height and width of each level's map on a canvas of that height and width, rounded up."""
    return tuple((-(-canvas[0] // stride), -(-canvas[1] // stride)) for stride in strides)


def anchors(canvas: tuple[int, int], strides: Sequence[int] = STRIDES) -> tuple[np.ndarray, ...]:
    """Of each level float32 [h * w * 3, 4]: row by row, cell by cell, then the ratios."""
    found = []
    root = np.sqrt(np.asarray(RATIOS, np.float32))
    for stride, (height, width) in zip(strides, level_sizes(canvas, strides), strict=True):
        sides = np.stack([SCALE * stride / root, SCALE * stride * root], axis=-1)  # [ratio, 2]
        base = np.concatenate([-sides / 2, sides / 2], axis=-1)  # [ratio, 4]
        y, x = np.meshgrid(np.arange(height) * stride, np.arange(width) * stride, indexing="ij")
        corners = np.stack([x, y, x, y], axis=-1).astype(np.float32)
        found.append((corners[:, :, None] + base).reshape(-1, 4))
    return tuple(found)


def padded(extent: jax.Array) -> jax.Array:
    """An image's own size with padding, int32 [2]: extent [2] to the next multiples of 32."""
    return -(-extent // MULTIPLE) * MULTIPLE


def valid(canvas: tuple[int, int], extent: jax.Array, strides: Sequence[int] = STRIDES) -> tuple[jax.Array, ...]:
    """Which anchors belong to the image, of each level bool [h * w * 3].

    Those of cells in the image padded to its own multiple of 32. All others are there because the canvas is larger:
    they take no part in assignment or loss, so that an image has the same ones on any canvas. extent: int32 [2].
    """
    found = []
    for stride, (height, width) in zip(strides, level_sizes(canvas, strides), strict=True):
        rows, columns = -(-padded(extent) // stride)
        inside = (jnp.arange(height) < rows)[:, None] & (jnp.arange(width) < columns)
        found.append(jnp.repeat(inside.reshape(-1), len(RATIOS)))
    return tuple(found)
