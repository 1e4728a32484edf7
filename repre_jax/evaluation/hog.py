"""Histograms of oriented gradients: what edges alone say of an image, beside raw pixels and learned features."""

import jax
import jax.numpy as jnp

CELL = 8  # pixels of a side
ORIENTATIONS = 9  # of 180 degrees
BLOCK = 3  # cells of a side that are normalised together
CLIP, EPSILON = 0.2, 1e-5


def descriptors(images: jax.Array) -> jax.Array:
    """HOG of uint8 [B, H, W, C] as float32 [B, D], as scikit-image computes it by default (Dalal and Triggs, CVPR 2005,
    L2-Hys): of three channels each pixel takes the one with the largest gradient. H and W: 24 pixels or more; what is
    over a multiple of 8 is left out."""
    pixels = images.astype(jnp.float32)
    down, right = _difference(pixels, 1), _difference(pixels, 2)
    strongest = jnp.argmax(jnp.hypot(down, right), axis=3, keepdims=True)
    down, right = (jnp.take_along_axis(each, strongest, axis=3)[..., 0] for each in (down, right))
    angle = jnp.rad2deg(jnp.arctan2(down, right)) % 180
    bins = jax.nn.one_hot((angle / (180 / ORIENTATIONS)).astype(jnp.int32), ORIENTATIONS)
    cells = _cells(bins * jnp.hypot(down, right)[..., None])
    return _blocks(cells).reshape(len(images), -1)


def _difference(pixels: jax.Array, axis: int) -> jax.Array:
    """Between both neighbours along an axis; 0 at the border."""
    ahead, behind = (jnp.roll(pixels, by, axis) for by in (-1, 1))
    place = jnp.arange(pixels.shape[axis])
    inside = (place > 0) & (place < pixels.shape[axis] - 1)
    shape = [1] * pixels.ndim
    shape[axis] = -1
    return jnp.where(inside.reshape(shape), ahead - behind, 0)


def _cells(votes: jax.Array) -> jax.Array:
    """[B, H, W, orientations] -> their means over cells [B, rows, columns, orientations]."""
    count, height, width, kinds = votes.shape
    rows, columns = height // CELL, width // CELL
    whole = votes[:, : rows * CELL, : columns * CELL]
    return whole.reshape(count, rows, CELL, columns, CELL, kinds).mean(axis=(2, 4))


def _blocks(cells: jax.Array) -> jax.Array:
    """Each block of 3 x 3 cells at unit length, its large values cut, and at unit length again."""
    rows, columns = cells.shape[1] - BLOCK + 1, cells.shape[2] - BLOCK + 1
    shifted = [cells[:, y : y + rows, x : x + columns] for y in range(BLOCK) for x in range(BLOCK)]
    blocks = jnp.concatenate(shifted, axis=3)
    return _unit(jnp.minimum(_unit(blocks), CLIP))


def _unit(blocks: jax.Array) -> jax.Array:
    return blocks / jnp.sqrt(jnp.sum(blocks**2, axis=3, keepdims=True) + EPSILON**2)
