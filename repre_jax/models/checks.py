"""What encoders ask of their settings and images. Each fault is a UserError that names the setting."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp

from repre_jax.core.errors import UserError

DTYPES = ("float32", "bfloat16")


def at_least_one(**settings: Any) -> None:
    """Every setting must be a whole number of at least 1."""
    for name, value in settings.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise UserError(f"encoder.{name} must be a whole number of at least 1, got {value!r}.")


def flag(**settings: Any) -> None:
    """Every setting must be True or False."""
    for name, value in settings.items():
        if not isinstance(value, bool):
            raise UserError(f"encoder.{name} is {value!r}.\n  expected: True or False")


def drop_path(rate: Any) -> None:
    """The rate must lie in [0, 1)."""
    if not isinstance(rate, Real) or rate < 0 or not rate < 1:
        raise UserError(f"encoder.drop_path is {rate!r}.\n  expected: a probability from 0 up to, not including, 1")


def dtype(value: Any) -> jnp.dtype:
    """'float32', 'bfloat16' or jnp's own, as a dtype."""
    known = [jnp.dtype(name) for name in DTYPES]
    for candidate in known:
        if value == candidate or value == candidate.name:
            return candidate
    raise UserError(f"Unknown dtype {value!r}.\n  expected: {' or '.join(DTYPES)}")


def heads_divide(width: int, heads: int) -> None:
    """Heads must split the width evenly."""
    if width % heads:
        raise UserError(
            f"encoder.width {width} must be a multiple of encoder.heads ({heads}).\n"
            f"  change:   --config.encoder.width or --config.encoder.heads"
        )


def image_size(size: Any, patch: int) -> None:
    """Height and width, which the patch must divide."""
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(side, Integral) for side in size):
        raise UserError(f"image_size is {size!r}.\n  expected: height and width, such as (224, 224)")
    if any(side % patch or side < patch for side in size):
        fitting = tuple(max(1, round(side / patch)) * patch for side in size)
        raise UserError(
            f"Images of {size[0]} x {size[1]} pixels cannot be cut into patches of {patch} x {patch}.\n"
            f"  expected: height and width to be multiples of encoder.patch ({patch})\n"
            f"  change:   --config.data.image_size='{fitting}' or --config.encoder.patch"
        )


def images(batch: jax.Array, patch: int, channels: int) -> None:
    """A batch must be [N, H, W, channels], and the patch divide H and W."""
    if batch.ndim != 4 or batch.shape[-1] != channels:
        raise UserError(
            f"The encoder got images of shape {batch.shape}.\n"
            f"  expected: [N, H, W, {channels}], channels last\n"
            f"  change:   the images, or the encoder's `channels`"
        )
    image_size(batch.shape[1:3], patch)


def attention_of(block: int | None, blocks: int) -> None:
    """The block whose attention is asked for must exist."""
    if block is not None and not 1 <= block <= blocks:
        raise UserError(f"attention_of is {block}.\n  expected: a block from 1 to {blocks}, or None")
