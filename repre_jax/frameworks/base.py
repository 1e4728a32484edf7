"""What a contrastive framework is to the training step: a record of heads and a loss, not a base class."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from flax import linen as nn

# (online [B, V, E], target [B, V, E] without gradient) -> (float32 scalar, at least 0; scalars to log)
ContrastiveLoss = Callable[[jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


@dataclass(frozen=True)
class Framework:
    """A framework with an EMA target.

    projector:  maps pooled features [B, V, D] to [B, V, E], in the online and the target branch.
    predictor:  maps the online projection on, [B, V, E] -> [B, V, E]; the target has none.
    loss:       over the global batch; must never be negative (losses/balance.py says why).
    """

    projector: nn.Module
    predictor: nn.Module
    loss: ContrastiveLoss
