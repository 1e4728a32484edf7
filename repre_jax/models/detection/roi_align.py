"""RoIAlign: a region of the pyramid as a small map of fixed sides, exact for regions of any shape.

mmcv's with aligned=True and sampling_ratio=0: as many samples in a bin as it has cells. On a device the shapes are
static, and the cells under a region are not: so the levels are laid one after another into one list of cells, and each
region gathers the static number of pieces of lines that `windows.window` finds to be enough for any, some 2,000 cells
at 800 x 1344, each with its weight, most of them 0. Two small products follow, along the lines and across them.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repre_jax.models.detection import windows

STRIDES = (4, 8, 16, 32)
CHUNK = 64 * 2**20  # bytes of float32 cells that are held at the same time


class Layout(NamedTuple):
    """What does not depend on values: each level's height and width, its stride, bins per side, the level rule."""

    sizes: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    out: int
    finest: float


def roi_align(
    levels: Sequence[jax.Array],
    boxes: jax.Array,
    out: int,
    strides: Sequence[int] = STRIDES,
    finest: float = windows.FINEST,
) -> jax.Array:
    """Regions float32 [R, out, out, C] of one image's levels [h, w, C], of any float type, fine to coarse.

    boxes: float32 [R, 4] in pixels, no longer than the canvas; they may cross its border. An empty box gives 0. Which
    level a box is read from: `windows.level`. The gradient reaches the levels, summed in float32, and not the boxes.
    """
    layout = Layout(tuple((x.shape[0], x.shape[1]) for x in levels), tuple(strides), out, finest)
    cells = jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in levels])
    return _align(layout, cells, lax.stop_gradient(boxes.astype(jnp.float32)))


class _Places(NamedTuple):
    """Of one region: which cells, and what they weigh.

    cells:   int32 [lines, length], into the list of cells.
    along:   float32 [lines, out, length], a cell's weight within its line, for the bins along it.
    across:  float32 [lines, out], the line's own weight, for the bins across; 0 of lines that the region lacks.
    upright: bool, whether the lines are columns: they follow the longer side.
    """

    cells: jax.Array
    along: jax.Array
    across: jax.Array
    upright: jax.Array


def _places(layout: Layout, box: jax.Array) -> _Places:
    """Of one box, [4]."""
    at = windows.level(box, len(layout.sizes), layout.finest)
    size = jnp.asarray(layout.sizes, jnp.int32)[at]  # along y and x, as all of two numbers here
    scaled = box / jnp.asarray(layout.strides, jnp.float32)[at] - 0.5
    start, side = scaled[1::-1], scaled[:1:-1] - scaled[1::-1]
    first = jnp.clip(jnp.floor(start).astype(jnp.int32), 0, size - 1)
    last = jnp.clip(jnp.floor(start + side).astype(jnp.int32) + 1, 0, size - 1)
    upright = last[0] - first[0] > last[1] - first[1]
    step = jnp.stack([size[1], 1])
    turned = (jnp.where(upright, x[::-1], x) for x in (size, start, side, first, last, step))
    size, start, side, first, last, step = turned  # across the lines and along them

    lines, length = windows.window(layout.sizes, layout.strides, layout.finest)
    longest = max(max(sizes) for sizes in layout.sizes)
    most = windows.most_samples(longest, layout.out)
    pieces = -(-(last[1] - first[1] + 1) // length)
    line, piece = jnp.divmod(jnp.arange(lines), pieces)
    line = first[0] + line
    across = windows.sums(start[0], side[0], size[0], line, layout.out, most)
    across = jnp.where(line <= last[0], across, 0).T
    reach = jnp.arange(-(-longest // length) * length)
    along = windows.sums(start[1], side[1], size[1], first[1] + reach, layout.out, most)
    along = along / jnp.maximum(windows.count(side, layout.out, most).prod(), 1)
    along = along.reshape(layout.out, -1, length).swapaxes(0, 1)[piece]

    offsets = np.cumsum([0, *(height * width for height, width in layout.sizes)])
    cells = first[1] + piece[:, None] * length + jnp.arange(length)
    cells = jnp.asarray(offsets[:-1], jnp.int32)[at] + line[:, None] * step[0] + cells * step[1]
    return _Places(jnp.minimum(cells, offsets[-1] - 1), along, across, upright)


def _chunks(layout: Layout, channels: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Arrays [R, ...] as [chunks, regions, ...], filled up with zeros: as boxes these are empty."""
    lines, length = windows.window(layout.sizes, layout.strides, layout.finest)
    count = arrays[0].shape[0]
    size = max(1, min(count, CHUNK // (4 * lines * length * channels)))
    size = -(-count // -(-count // size))  # of equal ones
    missing = -count % size
    padded = (jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))) for x in arrays)
    return tuple(x.reshape(-1, size, *x.shape[1:]) for x in padded)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _align(layout: Layout, cells: jax.Array, boxes: jax.Array) -> jax.Array:
    def some(boxes: jax.Array) -> jax.Array:
        places = jax.vmap(functools.partial(_places, layout))(boxes)
        found = cells.at[places.cells].get(mode="promise_in_bounds").astype(jnp.float32)
        found = _product("rljc,rlaj->rlac", found, places.along)
        found = _product("rlac,rlb->rbac", found, places.across)
        return _turned(found, places.upright)

    found = lax.map(some, _chunks(layout, cells.shape[1], boxes)[0])
    return found.reshape(-1, *found.shape[2:])[: boxes.shape[0]]


def _forward(layout: Layout, cells: jax.Array, boxes: jax.Array) -> tuple[jax.Array, tuple]:
    return _align(layout, cells, boxes), (jnp.zeros((0, *cells.shape[1:]), cells.dtype), boxes)


def _backward(layout: Layout, kept: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """By hand, so that no chunk keeps its cells, and that many regions add up on a cell in float32, not in bfloat16."""
    like, boxes = kept

    def some(total: jax.Array, given: tuple) -> tuple[jax.Array, None]:
        boxes, gradient = given
        places = jax.vmap(functools.partial(_places, layout))(boxes)
        found = _product("rbac,rlb->rlac", _turned(gradient, places.upright), places.across)
        found = _product("rlac,rlaj->rljc", found, places.along)
        return total.at[places.cells].add(found, mode="promise_in_bounds"), None

    size = sum(height * width for height, width in layout.sizes)
    start = jnp.zeros((size, like.shape[1]), jnp.float32)
    total, _ = lax.scan(some, start, _chunks(layout, like.shape[1], boxes, gradient.astype(jnp.float32)))
    return total.astype(like.dtype), jnp.zeros_like(boxes)


_align.defvjp(_forward, _backward)


def _turned(regions: jax.Array, upright: jax.Array) -> jax.Array:
    """Regions [R, out, out, C], across and along the lines, as rows and columns, or back."""
    return jnp.where(upright[:, None, None, None], regions.swapaxes(1, 2), regions)


def _product(letters: str, *arrays: jax.Array) -> jax.Array:
    """In float32: by default a GPU takes 10 bits of these weights, and a TPU 8."""
    return jnp.einsum(letters, *arrays, precision=lax.Precision.HIGHEST)
