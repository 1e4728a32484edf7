"""Where an encoder looks: a ViT's class token, or what the pooled feature of a Swin is made of."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from repre_jax.core import linen
from repre_jax.models import swin
from repre_jax.models.swin import Swin
from repre_jax.models.vit import ViT

Apply = Callable[[dict[str, Any], jax.Array], jax.Array]


def of_class_token(encoder: ViT, block: int | None = None) -> Apply:
    """(params, images [N, H, W, C], normalised) -> float32 [N, heads, h, w]: the class token's attention over the
    patches in `block` (from 1; else the last), as dino visualize_attention.py:167-179 shows it.

    What the class token pays to itself is left out, so that a map sums to less than 1. To be jitted.
    """

    def apply(params: dict[str, Any], images: jax.Array) -> jax.Array:
        output = linen.apply(encoder, params, images, attention_of=block or encoder.depth)
        rows, columns = images.shape[1] // encoder.patch, images.shape[2] // encoder.patch
        weights = output.attention[:, :, 0, 1:]
        return weights.reshape(*weights.shape[:2], rows, columns)

    return apply


def rollout(encoder: Swin) -> Apply:
    """(params, images [N, H, W, C], normalised) -> float32 [N, h, w] of the first stage, each map summing to 1.

    Attention rollout (Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers") through shifted windows. A
    Swin has no class token, so it begins at the pooled feature, the mean of the last stage's tokens: 1 / T for each.
    From the last block to the first, a token's share goes half to itself, by the residual connection, and half to the
    tokens that it attends to, by the mean over heads: r <- (r + A^T r) / 2. A merged token gives a quarter to each of
    its four. Padding gets nothing: what would be its part goes to the token's others. Values, MLPs and norms are not
    looked at, as ever with rollout. To be jitted.
    """

    def apply(params: dict[str, Any], images: jax.Array) -> jax.Array:
        collected: Any = encoder.apply({"params": params}, images, mutable=["attention"])
        output, kept = collected
        count, rows, columns, _ = output.pyramid[-1].shape
        flow = jnp.full((count, rows, columns), 1 / (rows * columns), jnp.float32)
        for stage in range(len(encoder.depth), 0, -1):
            for number in range(encoder.depth[stage - 1], 0, -1):
                (weights,) = kept["attention"][f"stage_{stage}_block_{number}"]["attn"]["weights"]
                weights = weights.mean(axis=2)
                shift = swin.shift_of(encoder.window, (flow.shape[1], flow.shape[2]), number % 2 == 0)
                flow = through_block(flow, weights, shift)
            if stage > 1:
                flow = through_merging(flow, output.pyramid[stage - 2].shape[1:3])
        return flow

    return apply


def through_block(share: jax.Array, weights: jax.Array, shift: int) -> jax.Array:
    """Shares [N, h, w] behind a block -> those before it. weights: [N, windows, T, T], the mean over heads, in the
    layout of the map that was padded and rolled up and left by `shift`."""
    _, rows, columns = share.shape
    window = round(weights.shape[-1] ** 0.5)
    padding = ((0, 0), (0, -rows % window), (0, -columns % window))

    def windows(maps: jax.Array) -> jax.Array:
        rolled = jnp.roll(jnp.pad(maps, padding), (-shift, -shift), axis=(1, 2))
        return swin.partition(rolled[..., None], window)[..., 0]

    weights = weights * windows(jnp.ones((1, rows, columns), jnp.float32))[:, :, None]
    weights /= jnp.maximum(weights.sum(axis=-1, keepdims=True), 1e-30)  # queries that are padding have no share
    given = jnp.einsum("nwq,nwqk->nwk", windows(share), weights, precision="highest")
    given = swin.merge(given[..., None], rows + padding[1][1], columns + padding[2][1])[..., 0]
    return (share + jnp.roll(given, (shift, shift), axis=(1, 2))[:, :rows, :columns]) / 2


def through_merging(share: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Shares [N, ceil(h / 2), ceil(w / 2)] of merged tokens -> [N, h, w] of the tokens before. size: (h, w)."""
    merged = [np.arange(side) // 2 for side in size]  # the merged token of each row and column
    rows, columns = (np.bincount(places)[places] for places in merged)  # how many of them it was made of
    return share[:, merged[0]][:, :, merged[1]] / (rows[:, None] * columns)


def largest_mass(maps: np.ndarray, mass: float) -> np.ndarray:
    """bool of the same shape [..., h, w]: the fewest patches of each map that hold at least `mass` of its sum.

    As DINO: sorted ascending, those are kept at which the cumulative sum exceeds 1 - mass
    (dino visualize_attention.py:181-187). Of equals the later ones in the order of rows are kept.
    """
    flat = np.asarray(maps, np.float64).reshape(*maps.shape[:-2], -1)
    order = np.argsort(flat, axis=-1, kind="stable")
    ascending = np.take_along_axis(flat, order, axis=-1)
    kept = np.cumsum(ascending / ascending.sum(axis=-1, keepdims=True), axis=-1) > 1 - mass + 1e-12
    found = np.zeros(flat.shape, bool)
    np.put_along_axis(found, order, kept, axis=-1)
    return found.reshape(maps.shape)
