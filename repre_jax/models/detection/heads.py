"""What reads the pyramid of a Mask R-CNN: the head for anchors, and those for boxes and masks of regions.

Layers and first values are mmdetection's (SwinOD mmdet/models/dense_heads/rpn_head.py, roi_heads/bbox_heads/,
roi_heads/mask_heads/fcn_mask_head.py); none normalises. All give float32 whatever the encoder's dtype.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from repre_jax.models.convolutions import Deconvolution, convolve, he_fan_out

SHAPES = 3  # anchors a cell
HIDDEN = 1024  # width of the box head


class AnchorHead(nn.Module):
    """The region proposal network: maps [N, h, w, D] -> (logits [N, A], deltas [N, A, 4]) of all anchors.

    One 3 x 3 convolution of `width` with ReLU, then 1 x 1 ones, the same on each map. A is the sum of h * w * SHAPES;
    anchors go map by map, row by row, column by column, shape by shape. A logit is for there being an object; deltas
    are what boxes.decode takes.
    """

    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
        init = nn.initializers.normal(0.01)
        conv = nn.Conv(self.width, (3, 3), dtype=self.dtype, kernel_init=init, name="conv")
        objectness = nn.Dense(SHAPES, dtype=self.dtype, kernel_init=init, name="objectness")
        deltas = nn.Dense(4 * SHAPES, dtype=self.dtype, kernel_init=init, name="deltas")
        found = []
        for x in maps:
            hidden = nn.relu(conv(x)).reshape(-1, self.width)
            count = x.shape[0]
            found.append((objectness(hidden).reshape(count, -1), deltas(hidden).reshape(count, -1, 4)))
        logits, offsets = (jnp.concatenate(parts, axis=1).astype(jnp.float32) for parts in zip(*found, strict=True))
        return logits, offsets


class BoxHead(nn.Module):
    """Regions [R, 7, 7, D] -> (logits [R, classes + 1], the background last; deltas [R, classes, 4], of each class).

    Two layers of `hidden` with ReLU on the flattened region.
    """

    classes: int
    dtype: Dtype
    hidden: int = HIDDEN

    @nn.compact
    def __call__(self, regions: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = regions.reshape(len(regions), -1)
        xavier, normal = nn.initializers.xavier_uniform(), nn.initializers.normal
        for number in (1, 2):
            x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, kernel_init=xavier, name=f"layer_{number}")(x))
        logits = nn.Dense(self.classes + 1, dtype=self.dtype, kernel_init=normal(0.01), name="classify")(x)
        deltas = nn.Dense(4 * self.classes, dtype=self.dtype, kernel_init=normal(0.001), name="deltas")(x)
        return logits.astype(jnp.float32), deltas.astype(jnp.float32).reshape(-1, self.classes, 4)


class MaskHead(nn.Module):
    """Regions [R, 14, 14, D] -> logits [R, 28, 28, classes]: whether a pixel of a region is the object's, by class.

    Four 3 x 3 convolutions of `width` with ReLU, a 2 x 2 deconvolution with ReLU, a 1 x 1 convolution.
    """

    classes: int
    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, regions: jax.Array) -> jax.Array:
        x = regions
        for number in range(1, 5):
            x = nn.relu(convolve(x, self.width, 3, f"conv_{number}", self.dtype, init=he_fan_out))
        init = nn.initializers.normal((2 / (4 * self.width)) ** 0.5)  # Kaiming's by PyTorch's fan_out, 4 D
        x = nn.relu(Deconvolution(self.width, self.dtype, init, name="up")(x))
        return convolve(x, self.classes, 1, "classify", self.dtype, init=he_fan_out).astype(jnp.float32)
