"""MoCo v3's vision transformer, returning the intermediate block outputs that RePre's decoder wants.

Sizes, initialisation and positions follow moco-v3 vits.py:22-127; the pyramid follows RePre section 3.2.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.errors import UserError
from repre_jax.core.types import EncoderOutput
from repre_jax.models import layers


def pyramid_blocks(depth: int, hierarchies: int) -> tuple[int, ...]:
    """The blocks (counted from 1) whose outputs form the pyramid: floor(i * depth / K), i = 1..K.

    12 blocks and K = 4 give 3, 6, 9, 12; 6 blocks give 1, 3, 4, 6. The last block always belongs to it. The paper
    writes multiples of floor(L / K), which is the same whenever K divides L and would miss y_L otherwise.

    Raises UserError when there are more hierarchies than blocks, or none.
    """
    if not 1 <= hierarchies <= depth:
        raise UserError(
            f"encoder.hierarchies {hierarchies} does not fit an encoder of {depth} blocks.\n"
            f"  expected: 1 to {depth}, each hierarchy being the output of another block\n"
            f"  change:   --config.encoder.hierarchies={min(max(hierarchies, 1), depth)}"
        )
    return tuple(i * depth // hierarchies for i in range(1, hierarchies + 1))


class ViT(nn.Module):
    """images [N, H, W, C] float32, normalised -> EncoderOutput with maps of H/patch x W/patch.

    Parameters are float32; matrix products run in `dtype`; LayerNorm, softmax and the residual sum in float32.
    """

    width: int
    depth: int
    heads: int
    patch: int
    hierarchies: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> EncoderOutput:
        x = nn.Conv(
            self.width,
            (self.patch, self.patch),
            strides=self.patch,
            padding="VALID",
            dtype=self.dtype,
            kernel_init=layers.patch_uniform(self.width),
            name="patch_embed",
        )(images)
        count, rows, columns, _ = x.shape
        x = x.reshape(count, rows * columns, self.width).astype(jnp.float32)
        x = x + layers.sincos_positions(rows, columns, self.width)
        # The class token has no position (vits.py:66), so at 1e-6 its first LayerNorm lives on the epsilon.
        cls = self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(cls, (count, 1, self.width)), x], axis=1)

        wanted = pyramid_blocks(self.depth, self.hierarchies)
        pyramid = []
        for number in range(1, self.depth + 1):
            x = layers.Block(self.heads, self.dtype, name=f"block_{number}")(x)
            if number in wanted:
                pyramid.append(x[:, 1:].reshape(count, rows, columns, self.width))
        x = nn.LayerNorm(epsilon=layers.LAYER_NORM_EPSILON, name="norm")(x)
        return EncoderOutput(pooled=x[:, 0], cls=x[:, 0], tokens=x[:, 1:], pyramid=tuple(pyramid))


def build(
    *,
    width: int,
    depth: int,
    heads: int,
    patch: int,
    hierarchies: int,
    image_size: Sequence[int],
    dtype: Dtype = jnp.float32,
) -> ViT:
    """A ViT whose numbers fit together, for images of `image_size` (height, width).

    Raises UserError when the patch does not divide the image, the heads the width, or 4 the width (sin-cos
    positions), or when there are more hierarchies than blocks.
    """
    for name, value in (("width", width), ("depth", depth), ("heads", heads), ("patch", patch)):
        if value < 1:
            raise UserError(f"encoder.{name} must be at least 1, got {value}.")
    if any(side % patch or side < patch for side in image_size):
        fitting = tuple(max(1, round(side / patch)) * patch for side in image_size)
        raise UserError(
            f"Images of {image_size[0]} x {image_size[1]} pixels cannot be cut into patches of {patch} x {patch}.\n"
            f"  expected: height and width to be multiples of encoder.patch ({patch})\n"
            f"  change:   --config.data.image_size='{fitting}' or --config.encoder.patch"
        )
    if width % heads or width % 4:
        raise UserError(
            f"encoder.width {width} must be a multiple of encoder.heads ({heads}) and of 4.\n"
            f"  change:   --config.encoder.width or --config.encoder.heads"
        )
    pyramid_blocks(depth, hierarchies)
    return ViT(width, depth, heads, patch, hierarchies, dtype)
