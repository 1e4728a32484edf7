"""Convolutions that dense tasks build their heads of."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer

from repre_jax.models.layers import torch_bias, torch_uniform

he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def convolve(
    x: jax.Array, width: int, side: int, name: str, dtype: Dtype, *, bias: bool = True, init: Initializer | None = None
) -> jax.Array:
    """[N, h, w, D] -> [N, h, w, width]: a convolution of side x side with zero padding, a submodule of its caller.

    init: of the kernel, the bias then begins as 0; None: both as PyTorch's. One of 1 x 1 is a Dense over rows, which on
    CPU takes a third of the time.
    """
    kernel_init = torch_uniform if init is None else init
    bias_init = torch_bias(side * side * x.shape[-1]) if init is None else nn.initializers.zeros
    if side == 1:
        dense = nn.Dense(width, use_bias=bias, dtype=dtype, kernel_init=kernel_init, bias_init=bias_init, name=name)
        return dense(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], width)
    conv = nn.Conv(
        width, (side, side), use_bias=bias, dtype=dtype, kernel_init=kernel_init, bias_init=bias_init, name=name
    )
    return conv(x)


class Deconvolution(nn.Module):
    """A transposed convolution of 2 x 2 with stride 2: [N, h, w, D] -> [N, 2 h, 2 w, width].

    No two cells reach the same place, so it is one matrix product: each cell gives a square of 2 x 2. The kernel is
    [D, 2, 2, width], rows before columns, as PyTorch's [D, width, 2, 2]. kernel_init: None for PyTorch's first values,
    whose bound is 1 / sqrt(4 width), and a bias of that range; the bias otherwise begins as 0.
    """

    width: int
    dtype: Dtype
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        count, rows, columns, depth = x.shape
        bound = torch_bias(4 * self.width)  # PyTorch takes the second axis of its kernel, the outputs, for the inputs
        bias_init = bound if self.kernel_init is None else nn.initializers.zeros
        kernel = self.param("kernel", self.kernel_init or bound, (depth, 2, 2, self.width), jnp.float32)
        bias = self.param("bias", bias_init, (self.width,), jnp.float32)
        x = x.astype(self.dtype).reshape(-1, depth) @ kernel.astype(self.dtype).reshape(depth, -1)
        x = x.reshape(count, rows, columns, 2, 2, self.width) + bias.astype(self.dtype)
        return x.swapaxes(2, 3).reshape(count, 2 * rows, 2 * columns, self.width)
