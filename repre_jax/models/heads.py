"""Projection and prediction heads."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer

from repre_jax.core.numerics import l2_normalize
from repre_jax.models.layers import gelu, normal_02, torch_bias, torch_uniform


class MlpHead(nn.Module):
    """Dense, BatchNorm and ReLU per hidden layer, then Dense. What differs between the frameworks is a setting.

    [B, V, D] -> [B, V, out].

    hidden:      widths of the hidden layers; None stands for the input's width.
    batch_norm:  False leaves it out of the hidden layers.
    hidden_bias, out_bias: of the Dense layers; drawn as PyTorch does.
    out_norm:    BatchNorm after the last Dense: None, 'plain' (no gain, no shift) or 'gain' (no shift).
    joint:       BatchNorm's statistics span all views of the global batch, as when the views pass together; else each
                 view's own, as when they pass one after the other.
    """

    hidden: tuple[int | None, ...]
    out: int
    batch_norm: bool = True
    hidden_bias: bool = False
    out_bias: bool = False
    out_norm: str | None = None
    joint: bool = False
    kernel_init: Initializer = torch_uniform
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, width in enumerate(self.hidden, start=1):
            x = self._dense(x, width or x.shape[-1], self.hidden_bias, f"fc{number}")
            if self.batch_norm:
                x = batch_norm(f"bn{number}", self.joint)(x)
            x = nn.relu(x)
        last = len(self.hidden) + 1
        x = self._dense(x, self.out, self.out_bias, f"fc{last}")
        if self.out_norm is not None:
            x = batch_norm(f"bn{last}", self.joint, gain=self.out_norm == "gain", shift=False)(x)
        return x

    def _dense(self, x: jax.Array, width: int, bias: bool, name: str) -> jax.Array:
        return nn.Dense(
            width,
            use_bias=bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            bias_init=torch_bias(x.shape[-1]),
            name=name,
        )(x)


class PrototypeHead(nn.Module):
    """DINO's: three Dense layers with GELU between, onto the unit sphere, cosines with K prototypes.

    [B, V, D] -> [B, V, prototypes] (dino vision_transformer.py:257-291). Prototypes are rows of length 1, or of a
    learned length (`train_gain`, which starts at 1): torch's weight_norm. batch_norm: before each GELU, over all views
    together (DINO's use_bn_in_head).
    """

    hidden: int
    bottleneck: int
    prototypes: int
    train_gain: bool = False
    batch_norm: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, width in enumerate((self.hidden, self.hidden, self.bottleneck), start=1):
            x = nn.Dense(width, dtype=self.dtype, kernel_init=normal_02, name=f"fc{number}")(x)
            if number < 3:
                x = batch_norm(f"bn{number}", joint=True)(x) if self.batch_norm else x
                x = gelu(x)
        x = l2_normalize(x)
        direction = self.param("direction", torch_uniform, (self.bottleneck, self.prototypes), jnp.float32)
        x = x.astype(self.dtype) @ l2_normalize(direction, axis=0).astype(self.dtype)
        if self.train_gain:
            gain = self.param("gain", nn.initializers.ones, (1, self.prototypes), jnp.float32)
            x = x * gain.astype(self.dtype)
        return x


def batch_norm(name: str, joint: bool, *, gain: bool = True, shift: bool = True) -> nn.LayerNorm:
    """BatchNorm over [B, V, D], of each view or of all jointly; a submodule of its caller.

    Heads run in training only, so BatchNorm always uses the batch and needs no running statistics; LayerNorm along the
    batch axis is the same arithmetic without that state.
    """
    return nn.LayerNorm(
        epsilon=1e-5,
        reduction_axes=(0, 1) if joint else 0,
        feature_axes=-1,
        use_bias=shift,
        use_scale=gain,
        use_fast_variance=False,
        dtype=jnp.float32,
        name=name,
    )
