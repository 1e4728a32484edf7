"""The feature pyramid network that segmentation and detection share (Lin et al., 2017)."""

from collections.abc import Sequence

import jax
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.models.convolutions import convolve
from repre_jax.models.resize import nearest_double
from repre_jax.models.swin import LAYER_NORM_EPSILON


class Neck(nn.Module):
    """A feature pyramid network: Swin's maps -> as many of `width` channels and the same sides, shallow to deep.

    Each map passes a LayerNorm of its own, as Swin's do wherever it serves dense tasks, and a 1 x 1 convolution; from
    deep to shallow the sum of the deeper ones, doubled by the nearest sample, is added; a 3 x 3 convolution follows.
    Xavier's first values; no BatchNorm, no activation (mmdetection's FPN).
    """

    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
        init = nn.initializers.xavier_uniform()
        found: list[jax.Array] = []
        total: jax.Array | None = None
        for level in range(len(maps), 0, -1):
            x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name=f"norm_{level}")(maps[level - 1])
            x = convolve(x, self.width, 1, f"lateral_{level}", self.dtype, init=init)
            total = x if total is None else x + nearest_double(total, (x.shape[1], x.shape[2]))
            found.insert(0, convolve(total, self.width, 3, f"output_{level}", self.dtype, init=init))
        return found
