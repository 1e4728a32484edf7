"""LayerNorm over the last axis, in float32: Flax's, and on a GPU one that XLA joins into one kernel where it can."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from repre_jax.models import platform


def build(epsilon: float, name: str) -> nn.Module:
    """nn.LayerNorm, or on a GPU a module with its parameters and another order of operations."""
    kind = OnePassNorm if platform.compiled_for() == "gpu" else nn.LayerNorm
    return kind(epsilon=epsilon, name=name)


class OnePassNorm(nn.Module):
    """nn.LayerNorm, whose pass without a gradient, such as the target's, is one kernel on a GPU."""

    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        return _normalised(x.astype(jnp.float32), scale, bias, self.epsilon)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalised(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """XLA joins a sum over a row with what follows it where the sum stands between the row and a use of that row: here
    twice, for the mean and for the mean square of what is left. With a gradient this would cost more than it saves."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + epsilon) * scale + bias


def _normalised_by_moments(epsilon: float, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """As nn.LayerNorm has it."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = jnp.maximum(0, jnp.square(x).mean(axis=-1, keepdims=True) - jnp.square(mean))
    return (x - mean) * (jax.lax.rsqrt(variance + epsilon) * scale) + bias


_normalised.defvjp(
    lambda x, scale, bias, epsilon: jax.vjp(functools.partial(_normalised_by_moments, epsilon), x, scale, bias),
    lambda epsilon, back, gradient: back(gradient),
)
