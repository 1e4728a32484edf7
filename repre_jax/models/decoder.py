"""RePre's reconstruction decoder (section 3.3, Fig. 2), and its variants in Tables 4 and 5."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.errors import UserError
from repre_jax.models.encoders import Encoder
from repre_jax.models.layers import Block
from repre_jax.models.swin import Swin, SwinBlock
from repre_jax.models.vit import LAYER_NORM_EPSILON

PRESETS = ("paper", "light")
OPERATORS = ("conv", "transformer")

# `light`: lateral width as a share of the feature's, for one view and for both: such that with K = 4 and two fusion
# layers of convolutions the decoder adds at most 4 % to MoCo v3's step (benchmarks/decoder_cost.py).
LIGHT_VIT = {1: 5 / 12, 2: 1 / 4}
LIGHT_SWIN = {1: 1 / 3, 2: 1 / 4}


class Decoder(nn.Module):
    """A pyramid of K maps [N, h_i, w_i, C_i], shallow to deep -> pixels [N, h_1 * patch, w_1 * patch, channels].

    Starting from the deepest map, each of the K - 1 blocks brings it to the size of the next shallower one (bilinear,
    only for Swin), concatenates the two and applies `fusion_layers` fusion layers of that one's width: convolutions
    3x3 with ReLU, or transformer blocks. A 1x1 convolution then maps each vector to the patch * patch * channels pixels
    of its own cell, in the order (row, column, channel).

    lateral_share None (preset 'paper'): widths are the features' own, so a block's first layer maps 2 C -> C for ViT
        and C_deep + C_shallow -> C_shallow for Swin. Else ('light') a 1x1 convolution first brings each feature to this
        share of its width.
    single: the deepest feature alone passes the same blocks, nothing is concatenated (Table 4, 'Single').
    head_width, window: of transformer fusion layers; window None is the whole map.

    The paper leaves open and we choose: zero padding, biases, He initialisation, raw block outputs without a norm, no
    activation after 1x1 convolutions. Its transformer layers are "the same" as the backbone's: here blocks with heads
    as wide as the encoder's, for Swin in its windows, every other one shifted, after a linear map to the block's width.
    """

    patch: int
    channels: int
    lateral_share: float | None
    single: bool
    operator: str
    fusion_layers: int
    head_width: int
    window: int | None
    dtype: Dtype

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...]) -> jax.Array:
        widths = self.widths(tuple(level.shape[-1] for level in pyramid))
        x = self._lateral(pyramid, widths, len(pyramid))
        for block, level in enumerate(range(len(pyramid) - 1, 0, -1), start=1):
            _, rows, columns, _ = pyramid[level - 1].shape
            x = _resize(x, (rows, columns))
            if not self.single:
                x = jnp.concatenate([x, self._lateral(pyramid, widths, level)], axis=-1)
            fuse = self._convolutions if self.operator == "conv" else self._transformers
            x = fuse(x, widths[level - 1], block)
        x = nn.Dense(self.patch * self.patch * self.channels, dtype=self.dtype, name="to_pixels")(x)
        return cells_to_image(x.astype(jnp.float32), self.patch)

    def widths(self, features: tuple[int, ...]) -> tuple[int, ...]:
        """The decoder's width at each level, for features of these widths, both shallow to deep."""
        if self.lateral_share is None:
            return features
        return tuple(max(8, int(self.lateral_share * width) // 8 * 8) for width in features)

    def _lateral(self, pyramid: tuple[jax.Array, ...], widths: tuple[int, ...], level: int) -> jax.Array:
        if self.lateral_share is None:
            return pyramid[level - 1]
        return nn.Dense(widths[level - 1], dtype=self.dtype, name=f"lateral_{level}")(pyramid[level - 1])

    def _convolutions(self, x: jax.Array, width: int, block: int) -> jax.Array:
        for layer in range(1, self.fusion_layers + 1):
            x = nn.Conv(
                width,
                (3, 3),
                dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(),
                name=f"block_{block}_conv_{layer}",
            )(x)
            x = nn.relu(x)
        return x

    def _transformers(self, x: jax.Array, width: int, block: int) -> jax.Array:
        if x.shape[-1] != width:
            x = nn.Dense(width, dtype=self.dtype, name=f"block_{block}_project")(x)
        x = x.astype(jnp.float32)
        heads = width // math.gcd(width, self.head_width)
        for layer in range(1, self.fusion_layers + 1):
            name = f"block_{block}_transformer_{layer}"
            if self.window is None:
                tokens = x.reshape(x.shape[0], -1, width)
                x = Block(heads, LAYER_NORM_EPSILON, dtype=self.dtype, name=name)(tokens)[0].reshape(x.shape)
            else:
                x, _ = SwinBlock(heads, self.window, shifted=layer % 2 == 0, dtype=self.dtype, name=name)(x)
        return x


def _resize(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear in float32, half-pixel centres, borders repeated: [N, h, w, D] -> [N, *size, D]; itself if it fits."""
    if x.shape[1:3] == size:
        return x
    shape = (x.shape[0], *size, x.shape[-1])
    return jax.image.resize(x.astype(jnp.float32), shape, "bilinear", antialias=False)


def cells_to_image(cells: jax.Array, patch: int) -> jax.Array:
    """[N, h, w, patch * patch * C], each vector in the order (row, column, channel) -> [N, h * patch, w * patch, C]."""
    count, rows, columns, values = cells.shape
    channels = values // (patch * patch)
    cells = cells.reshape(count, rows, columns, patch, patch, channels).transpose(0, 1, 3, 2, 4, 5)
    return cells.reshape(count, rows * patch, columns * patch, channels)


def describe(module: Decoder) -> str:
    """For example 'paper, 2 conv layers a block, all features'."""
    preset = PRESETS[module.lateral_share is not None]
    features = "the last feature alone" if module.single else "all features"
    return f"{preset}, {module.fusion_layers} {module.operator} layers a block, {features}"


def build(
    encoder: Encoder,
    *,
    preset: str = "paper",
    views: int = 1,
    single: bool = False,
    operator: str = "conv",
    fusion_layers: int = 2,
) -> Decoder:
    """A decoder for this encoder's pyramid, in its dtype. views: how many are reconstructed; decides `light`'s widths.

    Raises UserError for an unknown preset or operator, fewer than one layer, or other than one or two views.
    """
    for name, value, known in (
        ("preset", preset, PRESETS),
        ("operator", operator, OPERATORS),
        ("views", views, (1, 2)),
    ):
        if value not in known:
            raise UserError(f"repre.{name} is {value!r}.\n  expected: {' or '.join(str(k) for k in known)}")
    if not isinstance(fusion_layers, int) or fusion_layers < 1:
        raise UserError(f"repre.fusion_layers must be a whole number of at least 1, got {fusion_layers!r}.")
    if isinstance(encoder, Swin):
        window, heads, light = encoder.window, encoder.heads[0], LIGHT_SWIN
    else:
        window, heads, light = None, encoder.heads, LIGHT_VIT
    return Decoder(
        patch=encoder.patch,
        channels=encoder.channels,
        lateral_share=None if preset == "paper" else light[views],
        single=single,
        operator=operator,
        fusion_layers=fusion_layers,
        head_width=encoder.width // heads,
        window=window,
        dtype=encoder.dtype,
    )
