"""SETR's Naive and PUP heads (Zheng et al. 2021; fudan-zvg/SETR vit_up_head.py)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.types import EncoderOutput, SegmentationLogits
from repre_jax.models.convolutions import convolve
from repre_jax.models.resize import bilinear
from repre_jax.models.segmentation.layers import Layer, enlarged
from repre_jax.models.vit import LAYER_NORM_EPSILON

WIDTH = 256  # of every layer of SETR's heads


class Branch(nn.Module):
    """LayerNorm, then layers of convolution, BatchNorm and ReLU, then a 1 x 1 convolution to the classes.

    [N, h, w, D] -> logits float32 [N, h * F, w * F, classes], F the product of the factors. side: of the convolutions.
    factors: how much the map is enlarged after each layer, a layer each.
    """

    classes: int
    side: int
    factors: tuple[int, ...]
    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="norm")(x)
        for number, factor in enumerate(self.factors, start=1):
            x = Layer(self.width, self.side, self.dtype, name=f"layer_{number}")(x, train=train)
            x = bilinear(x, enlarged(x, factor))
        return convolve(x, self.classes, 1, "classify", self.dtype).astype(jnp.float32)


class Up(nn.Module):
    """SETR's Naive or PUP: the last block's map through one branch, shallower ones through auxiliary branches.

    Naive: side 1, factors (1,), the same in the auxiliary branches, of which the last map has none. PUP: side 3,
    factors (2, 2, 2, 1), auxiliary (4,), and the last map has one too: auxiliary_of_last. Each branch has a LayerNorm
    of its own, in place of the encoder's final one; convolutions have biases though BatchNorm follows; the first values
    are PyTorch's. SETR enlarges logits to the image inside the head: here whoever takes them does it.
    mmsegmentation's differ: Naive enlarges fourfold before it classifies, PUP classifies at the image's size and has
    three auxiliary branches of two layers, convolutions have no bias and other first values.

    align_corners: how the logits are meant to be enlarged to the image.
    """

    classes: int
    side: int
    factors: tuple[int, ...]
    auxiliary_factors: tuple[int, ...]
    auxiliary_of_last: bool
    width: int = WIDTH
    dtype: Dtype = jnp.float32
    align_corners: bool = False

    @nn.compact
    def __call__(self, output: EncoderOutput, *, train: bool) -> SegmentationLogits:
        def through(name: str, factors: tuple[int, ...], x: jax.Array) -> jax.Array:
            branch = Branch(self.classes, self.side, factors, self.width, self.dtype, name=name)
            return branch(x, train=train)

        logits = through("decode", self.factors, output.pyramid[-1])
        if not train and not self.is_initializing():
            return SegmentationLogits(logits)
        levels = output.pyramid if self.auxiliary_of_last else output.pyramid[:-1]
        auxiliary = [
            through(f"auxiliary_{level}", self.auxiliary_factors, x) for level, x in enumerate(levels, start=1)
        ]
        return SegmentationLogits(logits, tuple(auxiliary))
