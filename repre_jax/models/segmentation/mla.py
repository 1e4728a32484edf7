"""SETR's MLA head (Zheng et al. 2021; fudan-zvg/SETR vit_mla.py, vit_mla_head.py, vit_mla_auxi_head.py)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.types import EncoderOutput, SegmentationLogits
from repre_jax.models.convolutions import convolve
from repre_jax.models.resize import bilinear
from repre_jax.models.segmentation.layers import Layer, enlarged
from repre_jax.models.segmentation.up import WIDTH
from repre_jax.models.vit import LAYER_NORM_EPSILON


class Neck(nn.Module):
    """Maps of the encoder's width -> as many of `width`, shallow to deep, [N, h, w, width].

    Each passes a LayerNorm and a 1 x 1 layer; from deep to shallow each is added to the sum of the deeper ones; a 3 x 3
    layer follows. Layers are convolution without a bias, BatchNorm and ReLU.
    """

    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], *, train: bool) -> list[jax.Array]:
        found: list[jax.Array] = []
        total: jax.Array | None = None
        for level in range(len(maps), 0, -1):
            x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name=f"norm_{level}")(maps[level - 1])
            x = Layer(self.width, 1, self.dtype, bias=False, name=f"lateral_{level}")(x, train=train)
            total = x if total is None else total + x
            layer = Layer(self.width, 3, self.dtype, bias=False, name=f"output_{level}")
            found.insert(0, layer(total, train=train))
        return found


class Decode(nn.Module):
    """The neck's maps -> logits float32 [N, h * factor, w * factor, classes].

    Each map passes two 3 x 3 layers of `width` and is enlarged, corners aligned; side by side they pass a 3 x 3
    convolution to the classes.
    """

    classes: int
    factor: int
    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], *, train: bool) -> jax.Array:
        found = []
        for level, given in enumerate(maps, start=1):
            x = given
            for number in (1, 2):
                name = f"level_{level}_layer_{number}"
                x = Layer(self.width, 3, self.dtype, bias=False, name=name)(x, train=train)
            found.append(bilinear(x, enlarged(x, self.factor), True))
        x = jnp.concatenate(found, axis=-1)
        return convolve(x, self.classes, 3, "classify", self.dtype).astype(jnp.float32)


class Mla(nn.Module):
    """SETR's MLA: all maps of the pyramid, added from deep to shallow, decoded side by side.

    The neck is part of SETR's encoder, so that its LayerNorms and convolutions train at the encoder's rate
    (NECK in configs/segment.py); the auxiliary heads are 1 x 1 convolutions of its maps without a bias. The encoder is
    meant to have no class token. First values are PyTorch's. mmsegmentation's differs: the class convolution is 1 x 1,
    corners are not aligned, auxiliary heads have a bias.

    factor: how much maps are enlarged before they are classified. align_corners: how the logits are meant to be
    enlarged to the image.
    """

    classes: int
    factor: int
    width: int = WIDTH
    decode_width: int = WIDTH // 2
    dtype: Dtype = jnp.float32
    align_corners: bool = False

    @nn.compact
    def __call__(self, output: EncoderOutput, *, train: bool) -> SegmentationLogits:
        maps = Neck(self.width, self.dtype, name="neck")(output.pyramid, train=train)
        logits = Decode(self.classes, self.factor, self.decode_width, self.dtype, name="decode")(maps, train=train)
        if not train and not self.is_initializing():
            return SegmentationLogits(logits)
        auxiliary = [
            convolve(x, self.classes, 1, f"auxiliary_{level}", self.dtype, bias=False)
            for level, x in enumerate(maps, start=1)
        ]
        return SegmentationLogits(logits, tuple(x.astype(jnp.float32) for x in auxiliary))
