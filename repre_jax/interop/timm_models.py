"""timm's own models: their names, what timm.create_model builds an encoder from, and where its Swin differs."""

from typing import Any

import numpy as np

from repre_jax.core.errors import UserError
from repre_jax.models.encoders import Encoder
from repre_jax.models.swin import Swin
from repre_jax.models.vit import ViT

NAMES = {
    "vit_ti": "vit_tiny_patch16_224",
    "vit_s": "vit_small_patch16_224",
    "vit_b": "vit_base_patch16_224",
    "vit_l": "vit_large_patch16_224",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
}


def arguments(encoder: Encoder, image_size: tuple[int, int]) -> dict[str, Any]:
    """Keyword arguments, as JSON holds them, with which timm.create_model of any of NAMES' ViTs or Swins builds this
    encoder for images [N, channels, *image_size]; calling the model then gives [N, D], our `pooled`.

    Everything that differs between two of our encoders is named; MLP ratio 4, qkv bias and the LayerNorms' epsilons
    (ViT 1e-6, Swin 1e-5) are timm's defaults (timm 1.0.31 models/vision_transformer.py, models/swin_transformer.py).
    Raises UserError when timm's Swin computes something else for images of this size.
    """
    common = {
        "img_size": list(image_size),
        "patch_size": encoder.patch,
        "in_chans": encoder.channels,
        "num_classes": 0,
        "embed_dim": encoder.width,
    }
    if isinstance(encoder, ViT):
        own: dict[str, Any] = {"depth": encoder.depth, "num_heads": encoder.heads, "class_token": encoder.class_token}
        # Without a class token timm would normalise after the mean, and call that norm fc_norm.
        pool = {"global_pool": "token"} if encoder.class_token else {"global_pool": "avg", "fc_norm": False}
        return common | own | pool
    _check_windows(encoder, image_size)
    own = {"depths": list(encoder.depth), "num_heads": list(encoder.heads), "window_size": encoder.window}
    return common | own | {"global_pool": "avg"}


def windows(encoder: Swin, image_size: tuple[int, int]) -> list[int]:
    """The side of each stage's windows, in patches: no larger than the stage's map. timm's bias tables belong to it."""
    return [min(encoder.window, *grid) for grid in _maps(encoder, image_size)]


def cut_table(table: np.ndarray, window: int) -> np.ndarray:
    """[(2 w - 1)^2, heads] -> [(2 window - 1)^2, heads], the middle: what a smaller window reads of our table."""
    side, kept = round(len(table) ** 0.5), 2 * window - 1
    margin = (side - kept) // 2
    middle = slice(margin, side - margin)
    return table.reshape(side, side, -1)[middle, middle].reshape(kept**2, -1)


def fill_table(table: np.ndarray, window: int) -> np.ndarray:
    """The inverse of cut_table, zeros around the middle: offsets that the smaller window does not have."""
    side = round(len(table) ** 0.5)
    margin = (2 * window - 1 - side) // 2
    grid = table.reshape(side, side, -1)
    return np.pad(grid, ((margin, margin), (margin, margin), (0, 0))).reshape(-1, grid.shape[-1])


def _maps(encoder: Swin, image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Rows and columns of each stage's map; merging rounds odd sides up."""
    scales = [encoder.patch * 2**stage for stage in range(len(encoder.depth))]
    return [(-(-image_size[0] // scale), -(-image_size[1] // scale)) for scale in scales]


def _check_windows(encoder: Swin, image_size: tuple[int, int]) -> None:
    """Raises UserError where our Swin, which follows MoBY's and the detection code's, and timm's part ways."""
    reasons = []
    for stage, (grid, depth) in enumerate(zip(_maps(encoder, image_size), encoder.depth, strict=True), start=1):
        ours = (min(encoder.window, *grid),) * 2
        theirs = tuple(min(encoder.window, side) for side in grid)
        shifted = depth > 1 and encoder.window > 1
        our_shift = tuple(shifted and min(grid) > encoder.window for _ in grid)
        their_shift = tuple(shifted and side > encoder.window for side in grid)
        if ours != theirs or our_shift != their_shift:
            reasons.append(f"stage {stage}, {grid[0]} x {grid[1]}: one side is no longer than the window")
        elif any(our_shift) and any(side % encoder.window for side in grid):
            reasons.append(
                f"stage {stage}, {grid[0]} x {grid[1]}: the window does not divide it, and timm shifts first"
            )
    if reasons:
        raise UserError(
            f"timm's Swin computes something else for images of {image_size[0]} x {image_size[1]} pixels and windows "
            f"of {encoder.window} patches.\n"
            + "".join(f"  given:    the map of {reason}\n" for reason in reasons)
            + "  expected: maps that the window divides, or square ones no larger than it\n"
            "  change:   --format=npz, which this project reads"
        )
