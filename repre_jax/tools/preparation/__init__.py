"""The parts of `python -m repre_jax.tools.prepare`."""
