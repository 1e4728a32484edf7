"""What segmentation heads are made of."""

import jax
from flax import linen as nn
from flax.typing import Dtype, Initializer

from repre_jax.models.batch_norm import BatchNorm
from repre_jax.models.convolutions import convolve


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
