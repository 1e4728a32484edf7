"""One vector an image, out of all that an encoder returns: what k-NN, probes and classifiers look at.

pooled    what the encoder pools: a ViT's class token, the mean of all tokens where there is none
cls       the class token
cls4      the class tokens of the last 4 blocks side by side (DINO's for ViT-S), and so cls2, cls3 ...
mean      the mean of the patch tokens
cls+mean  both side by side (DINO's for ViT-B, which interleaves them: the same to a linear layer)
"""

import re
from typing import Any

import jax
import jax.numpy as jnp

from repre_jax.core.errors import UserError
from repre_jax.core.linen import apply
from repre_jax.core.types import EncoderOutput
from repre_jax.models.encoders import VITS, Encoder
from repre_jax.models.vit import ViT

NAMES = ("pooled", "cls", "cls2", "cls3", "cls4", "...", "mean", "cls+mean")


def check(encoder: Encoder, feature: str) -> None:
    """Raises UserError for an unknown feature, or one that the encoder does not have."""
    blocks = _blocks(feature)
    if (feature not in NAMES and blocks == 1) or feature == "...":
        raise UserError(
            f"Unknown feature {feature!r}.\n  expected: {', '.join(NAMES)}\n  change:   --config.feature=..."
        )
    if "cls" in feature and not (isinstance(encoder, ViT) and encoder.class_token):
        whose = "this ViT" if isinstance(encoder, ViT) else "a Swin"
        raise UserError(
            f"feature is {feature!r}, and {whose} has no class token.\n  expected: pooled or mean, both the same\n"
            "  change:   --config.feature=pooled"
        )
    if isinstance(encoder, ViT) and blocks > encoder.depth:
        raise UserError(
            f"feature is {feature!r}, and the encoder has {encoder.depth} blocks.\n"
            f"  change:   --config.feature=cls{encoder.depth}, or fewer"
        )


def extract(
    encoder: Encoder, feature: str, params: dict[str, Any], images: jax.Array, key: jax.Array | None = None
) -> jax.Array:
    """images [N, H, W, C], normalised -> float32 [N, F]. With a key, paths are dropped."""
    blocks = _blocks(feature)
    more = {"last": blocks} if blocks > 1 else {}
    rngs = None if key is None else {"drop_path": key}
    output: EncoderOutput = apply(encoder, params, images, train=key is not None, rngs=rngs, **more)
    if blocks > 1:
        assert output.cls_of_last is not None  # check() lets a ViT alone come here
        return output.cls_of_last.reshape(len(images), -1)
    parts = {"pooled": output.pooled, "mean": output.tokens.mean(axis=1)}
    if output.cls is not None:
        parts["cls"] = output.cls
    return jnp.concatenate([parts[name] for name in feature.split("+")], axis=-1)


def _blocks(feature: str) -> int:
    """Of how many last blocks it wants class tokens."""
    match = re.fullmatch(r"cls([1-9]\d*)", feature)
    return int(match[1]) if match else 1


def of_protocol(protocol: str, encoder: Encoder) -> str:
    """The feature that a linear probe's authors look at: 'mocov3', 'dino', 'moby' or 'mae' (recipes.md 7.1)."""
    if not isinstance(encoder, ViT) or not encoder.class_token:
        return "pooled"
    if protocol == "dino":
        return "cls+mean" if encoder.width >= VITS["vit_b"]["width"] else "cls4"
    return "cls"
