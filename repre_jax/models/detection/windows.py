"""Where a region's samples fall on a feature map, and what each cell weighs: the arithmetic of RoIAlign.

RoIAlign divides a region into out x out bins and averages n_y x n_x bilinear samples in each. Such an average is a
product of the two directions: value[p, q] = sum over cells of rows[p, y] * columns[q, x] * map[y, x]. Here are these
weights along one direction, for any number of samples, in static shapes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

PIECE = 64  # cells of a line that are gathered together, at most
FINEST = 56.0  # regions of twice this side, in pixels, are the first to be read from the second level


def sums(start: jax.Array, side: jax.Array, size: jax.Array, cells: jax.Array, out: int, most: int) -> jax.Array:
    """What each cell weighs in each bin's sum of samples, float32 [out, cells]. Divided by `count` it is the average.

    start, side: float32 scalars, the region on the map, where the first cell's centre is 0. size: of the map.
    cells: [cells], places on the map; one that is not there weighs nothing. most: no bin may have more samples.

    mmcv's rules (aligned, sampling_ratio 0; mmcv/ops/csrc/pytorch/cpu/roi_align.cpp): sample i of n of bin p lies at
    start + bin * (p + (i + .5) / n). More than one cell outside it counts as 0, else it is moved to the border.
    """
    size = size.astype(jnp.float32)
    cells = cells.astype(jnp.float32)
    bins = jnp.arange(out, dtype=jnp.float32)
    number = jnp.maximum(count(side, out, most), 1)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        place = start + (bins + (i + 0.5) / number) * (side / out)
        counts = (i * out < side) & (place >= -1) & (place <= size)
        distance = jnp.abs(jnp.clip(place, 0, size - 1)[:, None] - cells)
        return total + jnp.where(counts[:, None], jnp.maximum(1 - distance, 0), 0)

    return lax.fori_loop(0, most, add, jnp.zeros((out, cells.shape[0]), jnp.float32))


def count(side: jax.Array, out: int, most: int) -> jax.Array:
    """Samples of a bin along one direction, float32: side / out rounded up, 0 of an empty region.

    By comparison, since XLA may multiply by 1 / out, which makes 2.0000002 of 14 / 7 and 3 samples of 2.
    """
    return (jnp.arange(most) * out < side[..., None]).sum(axis=-1).astype(jnp.float32)


def most_samples(longest: int, out: int) -> int:
    """Of a bin, where no region is longer than `longest` cells."""
    return -(-longest // out)


def level(boxes: jax.Array, levels: int, finest: float = FINEST) -> jax.Array:
    """From which pyramid level a region is read, int32 [...] of boxes [..., 4].

    By its mean side, the root of its area: below 112 pixels from the first (0), below 224 from the second, and so on to
    the last; mmdetection's floor(log2(side / finest + 1e-6)), by comparison.
    """
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    relative = jnp.sqrt(sides[..., 0] * sides[..., 1]) / finest + 1e-6
    return sum((relative >= 2**power).astype(jnp.int32) for power in range(1, levels)) + jnp.zeros_like(
        relative, jnp.int32
    )


class Window(NamedTuple):
    """The static shape that holds any region's cells: `lines` pieces of lines of `length` cells."""

    lines: int
    length: int


def window(sizes: Sequence[tuple[int, int]], strides: Sequence[int], finest: float = FINEST) -> Window:
    """The smallest number of pieces into which the cells under any region fit.

    A region of a x b cells, a >= b, is cut into b lines along its longer side, and each into ceil(a / length) pieces.
    The samples of a side of d cells lie within floor(f + d) + 1 cells of the first one, f < 1: a <= ceil(d) + 2, so
    d > a - 3. A region of the levels but the last has a mean side below 2 * finest * 2 ** level pixels, so that
    (a - 3) * (b - 3) is below the square of that in cells. None exceeds its map, and on the last level one may be all
    of it.

    Without this cut a window that holds both 31 x 31 and 336 x 5 cells would be the map.
    """
    longest = max(max(size) for size in sizes)
    length = min(PIECE, -(-longest // 8) * 8)
    lines = 1
    for number, ((height, width), stride) in enumerate(zip(sizes, strides, strict=True)):
        cells = (2 * finest * 2**number / stride) ** 2 + 1e-2  # and what float32's rounding may add
        last = number == len(sizes) - 1
        for sides in ((width, height), (height, width)):
            for a in range(1, sides[0] + 1):
                b = min(a, sides[1])
                if not last and a > 3:
                    b = min(b, 3 + int(cells / (a - 3)))
                lines = max(lines, b * math.ceil(a / length))
    return Window(lines, length)
