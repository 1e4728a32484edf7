"""Projection and prediction heads."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.models.layers import torch_uniform


class BatchNormMlp(nn.Module):
    """Dense without bias, BatchNorm and ReLU per hidden layer; then Dense and a BatchNorm without gain and shift.

    MoCo v3's projector (two hidden layers) and predictor (one), moco-v3 moco/builder.py:36-52, 112-122.

    [B, V, D] -> [B, V, out]. Each view is normalised by its own statistics over the global batch, as when the views
    pass the head one after the other. Heads run in training only, so BatchNorm always uses the batch and needs no
    running statistics; LayerNorm along the batch axis is the same arithmetic without that state.
    """

    hidden: tuple[int, ...]
    out: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, width in enumerate((*self.hidden, self.out), start=1):
            last = number == len(self.hidden) + 1
            x = nn.Dense(width, use_bias=False, dtype=self.dtype, kernel_init=torch_uniform, name=f"fc{number}")(x)
            x = nn.LayerNorm(
                epsilon=1e-5,
                reduction_axes=0,
                feature_axes=-1,
                use_bias=not last,
                use_scale=not last,
                use_fast_variance=False,
                dtype=jnp.float32,
                name=f"bn{number}",
            )(x)
            x = x if last else nn.relu(x)
        return x
