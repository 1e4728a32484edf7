"""Encoders that the weights of weights.py fit."""

from repre_jax.models import build_encoder
from repre_jax.models.encoders import Encoder
from tests.golden.weights import CASES


def vit(variant: str = "deit", **changes) -> Encoder:
    """A ViT for the weights of 'deit' and 'dino', and with six heads for those of 'moco_v3'."""
    case, _ = CASES["deit"]
    size = (case.grid[0] * case.patch, case.grid[1] * case.patch)
    settings = {"width": case.width, "depth": case.depth, "heads": case.heads, "patch": case.patch, "image_size": size}
    return build_encoder("vit_s", **settings | {"variant": variant} | changes)


def swin(**changes) -> Encoder:
    """A Swin for the weights of 'swin'."""
    case, _ = CASES["swin"]
    settings = {"width": case.width, "depth": case.depth, "heads": case.heads, "patch": case.patch}
    return build_encoder("swin_t", **settings | {"window": case.window, "channels": case.channels} | changes)
