"""Encoders, heads and the reconstruction decoder (Flax Linen)."""
