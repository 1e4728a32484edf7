"""MoCo v3 (Chen, Xie and He, 2021): contrast two views within the batch, against a momentum encoder.

Heads: moco-v3 moco/builder.py:36-52 and 112-122. Loss: moco/builder.py:63-73, 96.
"""

import jax
from flax.typing import Dtype

from repre_jax.core.errors import UserError
from repre_jax.frameworks.base import Framework
from repre_jax.losses import contrastive
from repre_jax.models.heads import BatchNormMlp


def build(*, hidden: int, out: int, temperature: float, dtype: Dtype) -> Framework:
    """hidden, out: widths of the heads (4096 and 256 in the paper). temperature: unitless, 0.2 for ViT."""
    if min(hidden, out) < 1:
        raise UserError(f"framework.hidden and framework.out must be at least 1, got {hidden} and {out}.")

    def loss(online: jax.Array, target: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return symmetric_loss(online, target, temperature), {}

    return Framework(
        projector=BatchNormMlp((hidden, hidden), out, dtype),
        predictor=BatchNormMlp((hidden,), out, dtype),
        loss=loss,
    )


def symmetric_loss(online: jax.Array, target: jax.Array, temperature: float) -> jax.Array:
    """2 * temperature * InfoNCE(online of one view, target of the other), both directions summed.

    online, target: [B, 2, E]. Returns a float32 scalar; 4 * temperature * ln(B) when nothing can be told apart.
    """
    q1, q2 = online[:, 0], online[:, 1]
    k1, k2 = target[:, 0], target[:, 1]
    both = contrastive.info_nce(q1, k2, temperature) + contrastive.info_nce(q2, k1, temperature)
    return 2 * temperature * both
