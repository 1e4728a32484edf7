"""Semantic FPN, the head for Swin (Kirillov et al., Panoptic Feature Pyramid Networks, 2019)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.core.types import EncoderOutput, SegmentationLogits
from repre_jax.models.convolutions import convolve, he_fan_out
from repre_jax.models.feature_pyramid import Neck
from repre_jax.models.resize import bilinear
from repre_jax.models.segmentation.layers import Layer

NECK_WIDTH, DECODE_WIDTH = 256, 128


class Decode(nn.Module):
    """The neck's maps -> logits float32 of the first one's sides, [N, h, w, classes].

    Each map passes a 3 x 3 layer of `width` and is brought to the sides of the next shallower one until it has those of
    the first, which passes one layer too; their sum is classified by a 1 x 1 convolution.
    """

    classes: int
    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], *, train: bool) -> jax.Array:
        total = jnp.zeros((), self.dtype)
        for level, given in enumerate(maps, start=1):
            x = given
            for number in range(1, max(level, 2)):
                name = f"level_{level}_layer_{number}"
                x = Layer(self.width, 3, self.dtype, bias=False, kernel_init=he_fan_out, name=name)(x, train=train)
                rows, columns = maps[max(level - number, 1) - 1].shape[1:3]
                x = bilinear(x, (rows, columns))
            total = total + x
        init = nn.initializers.normal(0.01)
        return convolve(total, self.classes, 1, "classify", self.dtype, init=init).astype(jnp.float32)


class Fpn(nn.Module):
    """Semantic FPN: Swin's pyramid through a feature pyramid network, then summed at the first map's size.

    Chosen before UPerNet, which Swin's and MoBY's authors use: it is described in one page, needs no pooling to fixed
    grids, which depends on the image's size, and computes a small part of UPerNet's. Its results do not compare with
    theirs. As mmsegmentation has it, with BatchNorm where the paper has GroupNorm; without its dropout of 0.1 before
    the classes. No auxiliary heads. As in MLA, the neck trains at the encoder's rate (NECK in configs/segment.py).
    Where a side is odd each doubling is cut to the next map's size; mmsegmentation doubles and cuts at the end.

    align_corners: how the logits are meant to be enlarged to the image.
    """

    classes: int
    width: int = NECK_WIDTH
    decode_width: int = DECODE_WIDTH
    dtype: Dtype = jnp.float32
    align_corners: bool = False

    @nn.compact
    def __call__(self, output: EncoderOutput, *, train: bool) -> SegmentationLogits:
        maps = Neck(self.width, self.dtype, name="neck")(output.pyramid)
        return SegmentationLogits(Decode(self.classes, self.decode_width, self.dtype, name="decode")(maps, train=train))
