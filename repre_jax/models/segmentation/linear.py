"""A linear head: how much of the classes can be read off the encoder's maps as they are."""

import jax.numpy as jnp
from flax import linen as nn

from repre_jax.core.types import EncoderOutput, SegmentationLogits
from repre_jax.models.batch_norm import BatchNorm
from repre_jax.models.convolutions import convolve
from repre_jax.models.resize import bilinear


class Linear(nn.Module):
    """BatchNorm and a 1 x 1 convolution: DINOv2's linear head (Oquab et al. 2023; dinov2 linear_head.py).

    whole_pyramid: of all maps of the pyramid side by side, as large as the first, before any
        LayerNorm (iBOT's linear head is of four maps too); else of the last tokens after the encoder's final LayerNorm.
    Weights begin as N(0, 0.01), the bias as 0. In float32 whatever the encoder's dtype. align_corners: how the logits
    are meant to be enlarged to the image.
    """

    classes: int
    whole_pyramid: bool
    align_corners: bool = False

    @nn.compact
    def __call__(self, output: EncoderOutput, *, train: bool) -> SegmentationLogits:
        if self.whole_pyramid:
            size = output.pyramid[0].shape[1:3]
            maps = [bilinear(x, (size[0], size[1]), self.align_corners) for x in output.pyramid]
            x = jnp.concatenate(maps, axis=-1)
        else:
            x = output.tokens.reshape(*output.pyramid[-1].shape[:3], -1)
        x = BatchNorm(name="bn")(x.astype(jnp.float32), train=train)
        init = nn.initializers.normal(0.01)
        return SegmentationLogits(convolve(x, self.classes, 1, "classify", jnp.float32, init=init))
