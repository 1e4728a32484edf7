"""Resizing of maps as torch.nn.functional.interpolate does it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def bilinear(x: jax.Array, size: tuple[int, int], align_corners: bool = False) -> jax.Array:
    """[N, h, w, D] -> [N, *size, D] in x's dtype, computed in float32; x itself where it has this size.

    align_corners False: half-pixel centres, borders repeated; True: the outermost samples stay where they are. Nothing
    is smoothed before it is made smaller (antialias=False).

    Forward each new sample takes two old ones an axis; a product with a matrix, as jax.image.resize has it, takes four
    to twenty times as long on CPU. The gradient is such a product: that of taking samples would be a scatter, which on
    GPUs adds in another order each time. There is no forward mode.
    """
    wide = x.astype(jnp.float32)
    for axis, new in zip((1, 2), size, strict=True):
        if x.shape[axis] != new:
            lower, upper, share = _neighbours(x.shape[axis], new, align_corners)
            share = share.reshape([-1 if axis == other else 1 for other in range(4)])
            wide = wide.take(lower, axis) * (1 - share) + wide.take(upper, axis) * share
    return wide.astype(x.dtype)


def _forward(x: jax.Array, size: tuple[int, int], align_corners: bool) -> tuple[jax.Array, jax.Array]:
    return bilinear(x, size, align_corners), jnp.zeros((0, *x.shape[1:3], 0), x.dtype)  # its sides and dtype are kept


def _backward(size: tuple[int, int], align_corners: bool, like: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    wide = gradient.astype(jnp.float32)
    for axis in (2, 1):
        old, new = like.shape[axis], size[axis - 1]
        if old != new:
            lower, upper, share = _neighbours(old, new, align_corners)
            matrix = np.zeros((new, old), np.float32)
            np.add.at(matrix, (np.arange(new), lower), 1 - share)
            np.add.at(matrix, (np.arange(new), upper), share)
            wide = _of_columns(wide, matrix) if axis == 2 else _of_rows(wide, matrix)
    return (wide.astype(like.dtype),)


def _of_columns(wide: jax.Array, matrix: np.ndarray) -> jax.Array:
    """[N, h, new, D] by [new, old] -> [N, h, old, D]. A product for each image, with the same numbers as one for all,
    which XLA cannot always compile for NVIDIA's GPUs (Couldn't find output tile sizes)."""
    each = jnp.broadcast_to(matrix, (len(wide), *matrix.shape))
    return jnp.einsum("noc,nhod->nhcd", each, wide, precision="highest")


def _of_rows(wide: jax.Array, matrix: np.ndarray) -> jax.Array:
    """[N, new, w, D] by [new, old] -> [N, old, w, D]."""
    return jnp.einsum("or,nowd->nrwd", matrix, wide, precision="highest")


bilinear.defvjp(_forward, _backward)


def _neighbours(old: int, new: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which two old samples each new one lies between, and the share of the second: int [new] twice, float32 [new]."""
    if align_corners:
        place = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0)
    else:
        place = np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0)
    lower = np.minimum(place.astype(int), old - 1)
    return lower, np.minimum(lower + 1, old - 1), (place - lower).astype(np.float32)


def nearest_double(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """[N, ceil(h / 2), ceil(w / 2), D] -> [N, h, w, D] for size (h, w): each sample four times, cut to the size.

    It is torch's mode 'nearest' for these sizes, which are those of neighbouring maps of Swin.
    """
    return x.repeat(2, axis=1).repeat(2, axis=2)[:, : size[0], : size[1]]
