"""Swin transformers: windows of attention, shifted in every other block, and maps that halve from stage to stage.

Architecture and initialisation follow MoBY's Swin (models/swin_transformer.py:73-580), padding the detection code
(SwinOD mmdet/models/backbones/swin_transformer.py:211-247, 271-298), so that any image that the patch divides fits.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.errors import UserError
from repre_jax.core.types import EncoderOutput
from repre_jax.models import checks, layer_norm, layers, self_attention

Array = TypeVar("Array", jax.Array, np.ndarray)

LAYER_NORM_EPSILON = 1e-5
MASKED = -100.0  # added to the logit of a pair that the shift brought together (swin_transformer.py:233)


def partition(x: Array, window: int) -> Array:
    """[N, h, w, D] -> [N, h/window * w/window, window * window, D], windows and their tokens row by row."""
    count, rows, columns, width = x.shape
    x = x.reshape(count, rows // window, window, columns // window, window, width).swapaxes(2, 3)
    return x.reshape(count, -1, window * window, width)


def merge(windows: jax.Array, rows: int, columns: int) -> jax.Array:
    """The inverse of partition: [N, windows, window * window, D] -> [N, rows, columns, D]."""
    count, _, tokens, width = windows.shape
    window = round(tokens**0.5)
    x = windows.reshape(count, rows // window, columns // window, window, window, width).swapaxes(2, 3)
    return x.reshape(count, rows, columns, width)


def shift_of(window: int, size: tuple[int, int], shifted: bool) -> int:
    """How far a block rolls a map of `size`: half a window in every other block, unless one side is no longer than the
    window (swin_transformer.py:194-198)."""
    return window // 2 if shifted and min(size) > window else 0


def shift_mask(rows: int, columns: int, window: int, shift: int) -> jax.Array:
    """float32 [windows, T, T]: MASKED where two tokens of a window were not neighbours before the shift, else 0.

    Along each axis the rolled map has three regions, [0, -window), [-window, -shift) and [-shift, end)
    (swin_transformer.py:215-234); tokens see each other within one region only.
    """
    row, column = (np.searchsorted([side - window, side - shift], np.arange(side), "right") for side in (rows, columns))
    regions = (3 * row[:, None] + column[None, :])[None, :, :, None]
    regions = partition(regions.astype(np.int32), window)[0, :, :, 0]
    # Compared on the device: as a constant the mask of a large image would fill the program.
    return jnp.where(jnp.asarray(regions)[:, :, None] == regions[:, None, :], 0.0, MASKED)


def relative_index(window: int, table_window: int) -> np.ndarray:
    """int [T, T]: where in a table for `table_window` the bias of query i and key j of a `window` stands.

    Row and column differences count from the table's centre, so a smaller window uses the middle of the table: the same
    offset, the same bias.
    """
    side = 2 * table_window - 1
    position = np.stack(np.divmod(np.arange(window * window), window))
    difference = position[:, :, None] - position[:, None, :] + table_window - 1
    return difference[0] * side + difference[1]


class WindowAttention(nn.Module):
    """Attention within windows with a learned bias per relative position; softmax in float32.

    [N, windows, T, D] -> the same and, if asked for, the weights float32 [N, windows, heads, T, T], else None. mask:
    [windows, T, T] or None. Where the collection 'attention' is mutable, each block leaves its weights there.
    """

    heads: int
    table_window: int
    dtype: Dtype
    kind: str

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array | None, *, return_weights: bool = False
    ) -> tuple[jax.Array, jax.Array | None]:
        count, windows, tokens, width = x.shape
        init = layers.normal_02
        qkv = nn.Dense(3 * width, dtype=self.dtype, kernel_init=init, name="qkv")(layers.as_rows(x))
        qkv = qkv.reshape(count, windows, tokens, 3 * width)
        table = self.param("bias_table", init, ((2 * self.table_window - 1) ** 2, self.heads), jnp.float32)
        bias = table[relative_index(round(tokens**0.5), self.table_window)].transpose(2, 0, 1)
        bias = bias if mask is None else bias + mask[:, None]
        kept = self.is_mutable_collection("attention") and not self.is_initializing()
        weights = self_attention.weights_of(qkv, self.heads, bias) if return_weights or kept else None
        if kept:
            self.sow("attention", "weights", weights)
        x = layers.as_rows(self_attention.attend_qkv(self.kind, qkv, self.heads, bias))
        x = nn.Dense(width, dtype=self.dtype, kernel_init=init, name="proj")(x)
        return x.reshape(count, windows, tokens, width), weights


class SwinBlock(nn.Module):
    """x + attention in windows(norm(x)), then x + mlp(norm(x)), on maps [N, h, w, D].

    shifted: roll the map by half a window first, see shift_of. A map no larger than the window is one window high or
    wide. Sides that the window does not divide are padded with zeros below and on the right, after the norm and before
    the roll; padding is not masked. Returns the attention weights too, if asked for: [N, windows, heads, T, T] in the
    layout of the padded and rolled map.
    """

    heads: int
    window: int
    shifted: bool
    drop_path: float = 0.0
    return_weights: bool = False
    dtype: Dtype = jnp.float32
    attention: str = "xla"
    remat_mlp: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        _, rows, columns, _ = shape = x.shape
        window = min(self.window, rows, columns)
        shift = shift_of(self.window, (rows, columns), self.shifted)
        padding = (-rows % window, -columns % window)
        padded = (rows + padding[0], columns + padding[1])

        y = layer_norm.build(LAYER_NORM_EPSILON, "norm1")(x).astype(self.dtype)
        y = jnp.pad(y, ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0)))
        y = jnp.roll(y, (-shift, -shift), axis=(1, 2))
        mask = shift_mask(*padded, window, shift) if shift else None
        attend = WindowAttention(self.heads, self.window, self.dtype, self.attention, name="attn")
        y, weights = attend(partition(y, window), mask, return_weights=self.return_weights)
        y = jnp.roll(merge(y, *padded), (shift, shift), axis=(1, 2))[:, :rows, :columns]
        x = x + layers.DropPath(self.drop_path)(y)

        y = layer_norm.build(LAYER_NORM_EPSILON, "norm2")(layers.as_rows(x))
        y = layers.Mlp(layers.normal_02, self.dtype, self.remat_mlp, name="mlp")(y).reshape(shape)
        return x + layers.DropPath(self.drop_path)(y), weights


class PatchMerging(nn.Module):
    """[N, h, w, D] -> [N, ceil(h/2), ceil(w/2), 2 D]; odd sides are padded with zeros (swin_transformer.py:307-335)."""

    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, rows, columns, width = x.shape
        x = jnp.pad(x, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))
        x = jnp.concatenate([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], axis=-1)
        shape = x.shape
        x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="norm")(x.reshape(-1, shape[-1]))
        reduction = nn.Dense(
            2 * width, use_bias=False, dtype=self.dtype, kernel_init=layers.normal_02, name="reduction"
        )
        return reduction(x).astype(jnp.float32).reshape(*shape[:-1], 2 * width)


class Swin(nn.Module):
    """images [N, H, W, channels] float32, normalised -> EncoderOutput without a class token.

    Stage i of depth[i] blocks with heads[i] heads works on maps of width * 2^i channels, H / patch / 2^i high. The
    pyramid holds each stage's last map, before merging (RePre section 3.2); pooled is the mean of the tokens after the
    final LayerNorm. Parameters are float32; matrix products run in `dtype`; LayerNorm, softmax and the residual sum in
    float32. remat, remat_mlp: as ViT's.
    """

    width: int
    depth: tuple[int, ...]
    heads: tuple[int, ...]
    patch: int
    window: int
    channels: int
    drop_path: float
    remat: bool
    dtype: Dtype
    attention: str = "xla"
    remat_mlp: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, attention_of: int | None = None) -> EncoderOutput:
        """train: drop paths, with the rng 'drop_path'. attention_of: the block (from 1) whose weights are returned."""
        checks.images(images, self.patch, self.channels)
        checks.attention_of(attention_of, sum(self.depth))
        bias_init = layers.torch_bias(self.patch**2 * self.channels)
        x = layers.patch_embedding(self.width, self.patch, self.dtype, layers.torch_uniform, bias_init)(images)
        x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="patch_norm")(x.astype(jnp.float32))

        block = nn.remat(SwinBlock) if self.remat else SwinBlock
        rates = iter(enumerate(layers.drop_path_rates(self.drop_path if train else 0.0, sum(self.depth)), start=1))
        pyramid, attention = [], None
        for stage, (depth, heads) in enumerate(zip(self.depth, self.heads, strict=True), start=1):
            for number in range(1, depth + 1):
                overall, rate = next(rates)
                x, weights = block(
                    heads=heads,
                    window=self.window,
                    shifted=number % 2 == 0,
                    drop_path=rate,
                    return_weights=overall == attention_of,
                    dtype=self.dtype,
                    attention=self.attention,
                    remat_mlp=self.remat_mlp,
                    name=f"stage_{stage}_block_{number}",
                )(x)
                attention = weights if overall == attention_of else attention
            pyramid.append(x)
            if stage < len(self.depth):
                x = PatchMerging(self.dtype, name=f"stage_{stage}_merge")(x)
        x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="norm")(x)
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])
        return EncoderOutput(
            pooled=tokens.mean(axis=1), cls=None, tokens=tokens, pyramid=tuple(pyramid), attention=attention
        )


def build(
    *,
    width: int,
    depth: Sequence[int],
    heads: Sequence[int],
    patch: int = 4,
    window: int = 7,
    image_size: Sequence[int] = (224, 224),
    channels: int = 3,
    drop_path: float = 0.0,
    remat: bool = False,
    remat_mlp: bool = False,
    dtype: Dtype = jnp.float32,
    attention: str = "xla",
) -> Swin:
    """A Swin whose numbers fit together; depth and heads hold one number a stage. No parameter depends on image_size.

    Raises UserError when depth and heads don't agree, a stage's heads don't divide its width, or the patch the image.
    """
    if isinstance(depth, int) or isinstance(heads, int) or len(depth) != len(heads) or not depth:
        raise UserError(
            f"encoder.depth is {depth} and encoder.heads is {heads}.\n"
            "  expected: for Swin one number a stage in each, such as (2, 2, 6, 2) and (3, 6, 12, 24)"
        )
    checks.at_least_one(width=width, patch=patch, window=window, channels=channels)
    checks.image_size(image_size, patch)
    for stage, (blocks, number) in enumerate(zip(depth, heads, strict=True)):
        checks.at_least_one(depth=blocks, heads=number)
        checks.heads_divide(width * 2**stage, number)
    checks.drop_path(drop_path)
    checks.flag(remat=remat, remat_mlp=remat_mlp)
    self_attention.check(attention, checks.dtype(dtype), width // heads[0], biased=True)
    sizes, kind = (width, tuple(depth), tuple(heads), patch, window), self_attention.settled(attention)
    return Swin(*sizes, channels, drop_path, remat, checks.dtype(dtype), kind, remat_mlp)
