"""From an encoder's maps to those that a detector reads, of 4, 8, 16, 32 and 64 pixels a cell."""

from collections.abc import Sequence

import jax
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.errors import UserError
from repre_jax.models.convolutions import Deconvolution, convolve
from repre_jax.models.detection import anchors
from repre_jax.models.encoders import Encoder
from repre_jax.models.feature_pyramid import Neck
from repre_jax.models.layers import gelu, torch_uniform
from repre_jax.models.vit import LAYER_NORM_EPSILON, ViT

WIDTH = 256
STRIDES = anchors.STRIDES[:-1]  # pixels a cell of the maps that a neck gives: 4, 8, 16, 32


class SimplePyramid(nn.Module):
    """ViTDet's simple feature pyramid: a ViT's last map -> four of `width` channels, shallow to deep.

    Cells of `patch` pixels become cells of STRIDES: smaller ones by 2 x 2 deconvolutions of stride 2, each of half the
    channels, a LayerNorm and a GELU between two of them; larger ones by the maximum of their cells. A 1 x 1 and a 3 x 3
    convolution to `width` follow, each without a bias and with a LayerNorm, no activation. The map is the last block's
    as it is: ViTDet's encoder has no final LayerNorm. First values are PyTorch's (detectron2 modeling/backbone/vit.py).
    """

    width: int
    patch: int
    dtype: Dtype

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
        return [self._level(maps[-1], level, stride) for level, stride in enumerate(STRIDES, start=1)]

    def _level(self, x: jax.Array, level: int, stride: int) -> jax.Array:
        def norm(x: jax.Array, name: str) -> jax.Array:
            return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name=f"level_{level}_{name}")(x)

        for number in range(1, (self.patch // stride).bit_length()):
            x = x if number == 1 else gelu(norm(x, f"up_norm_{number - 1}"))
            x = Deconvolution(x.shape[-1] // 2, self.dtype, name=f"level_{level}_up_{number}")(x)
        if stride > self.patch:
            cells = (stride // self.patch,) * 2
            x = nn.max_pool(x, cells, strides=cells)
        for side, name in ((1, "lateral"), (3, "output")):
            x = convolve(x, self.width, side, f"level_{level}_{name}", self.dtype, bias=False, init=torch_uniform)
            x = norm(x, f"{name}_norm")
        return x.astype(self.dtype)


def build(encoder: Encoder, width: int = WIDTH) -> Neck | SimplePyramid:
    """The neck for this encoder, in its dtype: neck(output.pyramid) gives maps of STRIDES.

    Raises UserError where the encoder's maps cannot become these: a Swin of other than four stages of patches of 4, a
    ViT whose patch is no power of two from 4 to 32 pixels, or whose pyramid ends before its last block.
    """
    if isinstance(encoder, ViT):
        if encoder.patch not in STRIDES:
            raise UserError(
                f"The encoder's patch is {encoder.patch} pixels.\n"
                f"  expected: {', '.join(map(str, STRIDES))}, which a detector's maps can be made of"
            )
        if encoder.pyramid_blocks[-1] != encoder.depth:
            raise UserError(
                f"The encoder's pyramid ends at block {encoder.pyramid_blocks[-1]} of {encoder.depth}, and a detector"
                f" reads the last.\n  change:   --config.encoder.pyramid_blocks='({encoder.depth},)'"
            )
        if encoder.width % (encoder.patch // STRIDES[0]):
            raise UserError(
                f"encoder.width {encoder.width} cannot be halved as often as a detector enlarges its map.\n"
                f"  expected: a multiple of {encoder.patch // STRIDES[0]}"
            )
        return SimplePyramid(width, encoder.patch, encoder.dtype)
    strides = tuple(encoder.patch * 2**stage for stage in range(len(encoder.depth)))
    if strides != STRIDES:
        raise UserError(
            f"The encoder's maps have cells of {', '.join(map(str, strides))} pixels.\n"
            f"  expected: {', '.join(map(str, STRIDES))}, a Swin of four stages and patches of {STRIDES[0]}"
        )
    return Neck(width, encoder.dtype)


def with_coarsest(maps: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """The maps and one more, of every other row and column of the last: for anchors of 512 pixels alone."""
    return (*maps, maps[-1][:, ::2, ::2])
