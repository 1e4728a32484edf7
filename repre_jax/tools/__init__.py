"""Utilities beside training: `python -m repre_jax.tools.NAME --help`."""
