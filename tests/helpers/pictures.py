"""Small random pictures, and operations on them, for the tests of the augmentation."""

import functools

import jax
import numpy as np

PILLOW_STEPS = 1.01 / 255  # Pillow rounds to whole grey levels, at times twice


def picture(seed=0, height=13, width=9):
    """uint8 [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@functools.cache
def jitted(function, *static):
    """Each compiled once for all tests and images of one shape: op by op takes ten times as long."""
    return jax.jit(function, static_argnums=static)


def ours(operation, image, *values):
    """What an operation on images in 0..1 makes of one in 0..255."""
    return np.asarray(jitted(operation)(np.asarray(image, np.float32) / 255, *values))
