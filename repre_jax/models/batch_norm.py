"""BatchNorm with running statistics, as PyTorch keeps them; of segmentation heads and of the linear probe."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

MOMENTUM = 0.1  # PyTorch's word: the share of the batch. Flax's `momentum` is the rest.


class BatchNorm(nn.Module):
    """torch.nn.BatchNorm1d and 2d over all axes but the last, in float32: [..., D] -> [..., D] in `dtype`.

    train=True: by the mean and the biased variance of the whole batch, also of one that is sharded or was given as one
        microbatch; with 'batch_stats' mutable, the running ones become (1 - MOMENTUM) of the old and MOMENTUM of the
        batch's, its variance divided by n - 1 as PyTorch does, not by n as flax.linen.BatchNorm.
    train=False: by the running statistics, which stay.

    The collection 'batch_stats' holds mean and var, float32 [D], that begin as 0 and 1; parameters are scale and bias.
    """

    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32) if self.use_scale else None
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32) if self.use_bias else None
        mean, var = running_mean.value, running_var.value
        if train:
            mean, var = _statistics(x)
            if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
                count = math.prod(x.shape[:-1])
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value = (1 - MOMENTUM) * running_mean.value + MOMENTUM * mean
                running_var.value = (1 - MOMENTUM) * running_var.value + MOMENTUM * unbiased
        factor = jax.lax.rsqrt(var + self.epsilon)
        x = (x.astype(jnp.float32) - mean) * (factor if scale is None else factor * scale)
        return (x if bias is None else x + bias).astype(self.dtype)


def _statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance over all axes but the last: float32 [D]. In two passes: E[x^2] - E[x]^2 loses the
    variance of features whose mean is large."""
    x, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    mean = x.mean(axis=axes)
    return mean, jnp.square(x - mean).mean(axis=axes)
