"""One token a patch, at two depths of an encoder: what dense measures read of a frozen one.

last  what the last block gives, before any LayerNorm
all   the maps of all pyramid levels side by side, shallow to deep, before any LayerNorm: `last` is the last part of it

Maps of a Swin that are coarser than the first one are enlarged to it bilinearly, as the head `linear_pyramid` does, so
that a patch is the same pixels at both depths.
"""

from typing import Any

import jax
import jax.numpy as jnp

from repre_jax.core.errors import UserError
from repre_jax.core.linen import apply
from repre_jax.core.types import EncoderOutput
from repre_jax.models.encoders import Encoder
from repre_jax.models.pyramid import LEVELS, spread_blocks
from repre_jax.models.resize import bilinear
from repre_jax.models.vit import ViT

DEPTHS = ("last", "all")


def with_levels(encoder: Encoder, chosen: bool) -> Encoder:
    """The encoder with the pyramid that is read: of a ViT LEVELS blocks, evenly, or all of fewer, whatever its own run
    fused. chosen: somebody asked for the pyramid that it has.

    Raises UserError where that does not end with the last block.
    """
    if not isinstance(encoder, ViT):
        return encoder
    if not chosen:
        return encoder.clone(pyramid_blocks=spread_blocks(encoder.depth, min(LEVELS, encoder.depth)))
    if encoder.pyramid_blocks[-1] != encoder.depth:
        raise UserError(
            f"encoder.pyramid_blocks ends with {encoder.pyramid_blocks[-1]}, and the encoder has {encoder.depth} "
            f"blocks.\n  expected: the last block, {encoder.depth}, among them, which is read by itself, too\n"
            "  change:   --config.encoder.pyramid_blocks, or leave it out"
        )
    return encoder


def extract(encoder: Encoder, params: dict[str, Any], images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """images [N, H, W, C], normalised -> (float32 [N, T, F], a token of depth `all` of each patch, row by row;
    float32 [N, D], pooled)."""
    output: EncoderOutput = apply(encoder, params, images, train=False)
    _, rows, columns, _ = output.pyramid[0].shape
    maps = [bilinear(each, (rows, columns)) for each in output.pyramid]
    tokens = jnp.concatenate(maps, axis=-1).astype(jnp.float32)
    return tokens.reshape(len(images), rows * columns, -1), output.pooled


def widths(encoder: Encoder) -> dict[str, int]:
    """How many numbers a token has at each depth: those of `last` are the last ones of `all`."""
    side = encoder.patch
    images = jax.ShapeDtypeStruct((1, side, side, encoder.channels), jnp.float32)
    maps = jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x)[0], images).pyramid
    return {"last": maps[-1].shape[-1], "all": sum(each.shape[-1] for each in maps)}
