"""What segmentation heads are made of."""

import jax
from flax import linen as nn
from flax.typing import Dtype, Initializer

from repre_jax.models.batch_norm import BatchNorm
from repre_jax.models.layers import torch_bias, torch_uniform


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


class Layer(nn.Module):
    """A convolution, BatchNorm and ReLU: [N, h, w, D] -> [N, h, w, width]. bias, kernel_init: the convolution's."""

    width: int
    side: int
    dtype: Dtype
    bias: bool = True
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = convolve(x, self.width, self.side, "conv", self.dtype, bias=self.bias, init=self.kernel_init)
        return nn.relu(BatchNorm(dtype=self.dtype, name="bn")(x, train=train))


def enlarged(x: jax.Array, factor: int) -> tuple[int, int]:
    """The sides of a map [N, h, w, D], times the factor."""
    return (factor * x.shape[1], factor * x.shape[2])
