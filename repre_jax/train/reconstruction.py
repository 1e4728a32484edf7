"""Reconstruction: what RePre adds to a contrastive framework (RePre section 3, Algorithm 1)."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from repre_jax.core.linen import apply
from repre_jax.core.optim import Rule
from repre_jax.losses import reconstruction, weighting
from repre_jax.models.decoder import Decoder


@dataclass(frozen=True)
class Reconstruction:
    """A decoder, and two learned log-variances that weigh its loss against the contrastive one.

    views: how many views of a record are reconstructed; Algorithm 1 has the first alone.
    weighting_lr_scale multiplies the learning rate of the log-variances, which the paper leaves open.
    fixed_weights: of the contrastive loss and of the reconstruction, in place of learned ones, which the paper has.
    """

    decoder: Decoder
    views: int = 1
    weighting_lr_scale: float = 1.0
    fixed_weights: tuple[float, float] | None = None

    def init_params(self, key: jax.Array, pyramid: tuple[jax.Array, ...]) -> dict[str, Any]:
        """Parameters 'decoder' and 'balance'. Log-variances start at weights of 1, or at those that are fixed."""
        weights = self.fixed_weights or (1.0, 1.0)
        return {
            "decoder": self.decoder.init(key, pyramid)["params"],
            "balance": {
                name: jnp.float32(-math.log(weight))
                for name, weight in zip(("contrastive", "reconstruction"), weights, strict=True)
            },
        }

    def rules(self) -> tuple[Rule, ...]:
        """Log-variances never decay, which would pull the weights towards 1, and neither are their gradients clipped
        nor do they count in the norm that others are clipped by."""
        return (
            ("^balance/", "weight_decay", 0.0),
            ("^balance/", "lr_scale", 0.0 if self.fixed_weights else self.weighting_lr_scale),
            ("^balance/", "clip", 0.0),
        )

    def reconstruct(self, params: dict[str, Any], pyramid: tuple[jax.Array, ...]) -> jax.Array:
        """Maps [N, h, w, C], shallow to deep -> pixels [N, H, W, C], in the units of the target (0..1)."""
        return apply(self.decoder, params["decoder"], pyramid)

    def loss(self, params: dict[str, Any], pyramid: tuple[jax.Array, ...], pixels: jax.Array) -> jax.Array:
        """L1 of the first `views` views' reconstructions (Algorithm 1, lines 8-10).

        pyramid: maps of all B * V views, batch-major. pixels: [B, V, H, W, C] in 0..1, augmented, not normalised.
        """
        records, views = pixels.shape[:2]

        def wanted(x: jax.Array) -> jax.Array:
            return x.reshape(records, views, *x.shape[1:])[:, : self.views].reshape(-1, *x.shape[1:])

        maps = tuple(wanted(level) for level in pyramid)
        return reconstruction.l1(self.reconstruct(params, maps), wanted(pixels.reshape(-1, *pixels.shape[2:])))

    def combine(self, params: dict[str, Any], losses: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The total of RePre Eq. 4, and the two weights for the log."""
        weights = {f"weight_{name}": weight for name, weight in weighting.weights(params["balance"]).items()}
        return weighting.combine(losses, params["balance"]), weights
