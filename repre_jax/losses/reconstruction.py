"""The reconstruction loss."""

import jax
import jax.numpy as jnp


def l1(reconstruction: jax.Array, pixels: jax.Array) -> jax.Array:
    """Mean absolute error over batch, pixels and channels (RePre Eq. 3 and section 3.4).

    reconstruction: [B, H, W, C], unbounded. pixels: [B, H, W, C] in 0..1, the augmented view before normalisation.
    Returns a float32 scalar.
    """
    return jnp.abs(reconstruction.astype(jnp.float32) - pixels.astype(jnp.float32)).mean()
