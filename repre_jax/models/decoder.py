"""RePre's reconstruction decoder (section 3.3, Fig. 2)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.errors import UserError


class ConvDecoder(nn.Module):
    """A pyramid of K maps [N, h, w, D], shallow to deep -> pixels [N, h * patch, w * patch, channels].

    Starting from the deepest map, each of the K - 1 blocks concatenates the next shallower one (2 D channels) and
    applies `fusion_layers` times a 3x3 convolution with ReLU, the first 2 D -> D, the rest D -> D. A 1x1 convolution
    then maps each vector to the patch * patch * channels pixels of its own cell.

    The paper leaves open and we choose: zero padding, biases, He initialisation, raw block outputs without a norm,
    no activation after the last convolution, pixel order (row, column, channel) within a cell.
    """

    patch: int
    channels: int
    fusion_layers: int = 2
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...]) -> jax.Array:
        *shallower, x = pyramid
        for block, skip in enumerate(reversed(shallower), start=1):
            x = jnp.concatenate([x, skip], axis=-1)
            for layer in range(1, self.fusion_layers + 1):
                x = nn.Conv(
                    skip.shape[-1],
                    (3, 3),
                    dtype=self.dtype,
                    kernel_init=nn.initializers.he_normal(),
                    name=f"block_{block}_conv_{layer}",
                )(x)
                x = nn.relu(x)
        x = nn.Dense(self.patch * self.patch * self.channels, dtype=self.dtype, name="to_pixels")(x)
        return cells_to_image(x.astype(jnp.float32), self.patch)


def cells_to_image(cells: jax.Array, patch: int) -> jax.Array:
    """[N, h, w, patch * patch * C], each vector in the order (row, column, channel) -> [N, h * patch, w * patch, C]."""
    count, rows, columns, values = cells.shape
    channels = values // (patch * patch)
    cells = cells.reshape(count, rows, columns, patch, patch, channels).transpose(0, 1, 3, 2, 4, 5)
    return cells.reshape(count, rows * patch, columns * patch, channels)


def build(*, patch: int, channels: int, fusion_layers: int, dtype: Dtype = jnp.float32) -> ConvDecoder:
    """A decoder for an encoder of this patch size. Raises UserError for fewer than one layer."""
    if fusion_layers < 1:
        raise UserError(f"repre.fusion_layers must be at least 1, got {fusion_layers}.")
    return ConvDecoder(patch, channels, fusion_layers, dtype)
