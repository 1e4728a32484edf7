"""Encoders, heads and the reconstruction decoder (Flax Linen)."""

from repre_jax.models.encoders import build_encoder

__all__ = ["build_encoder"]
