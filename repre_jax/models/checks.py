"""What encoders ask of their settings and images. Each fault is a UserError that names the setting."""

from collections.abc import Sequence

import jax

from repre_jax.core.errors import UserError


def at_least_one(**settings: int) -> None:
    """Every setting must be a whole number of at least 1."""
    for name, value in settings.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"encoder.{name} must be a whole number of at least 1, got {value!r}.")


def drop_path(rate: float) -> None:
    """The rate must lie in [0, 1)."""
    if not 0 <= rate < 1:
        raise UserError(f"encoder.drop_path is {rate}.\n  expected: a probability from 0 up to, not including, 1")


def heads_divide(width: int, heads: int) -> None:
    """Heads must split the width evenly."""
    if width % heads:
        raise UserError(
            f"encoder.width {width} must be a multiple of encoder.heads ({heads}).\n"
            f"  change:   --config.encoder.width or --config.encoder.heads"
        )


def image_size(size: Sequence[int], patch: int) -> None:
    """The patch must divide height and width."""
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
