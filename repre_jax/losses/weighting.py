"""Learned weights that join several losses (RePre section 3.4, after Kendall et al. 2018).

Each loss L has a learned log-variance s and contributes exp(-s) * L + s. The minimum over s lies at s = ln L, where
the weight exp(-s) is 1 / L: constants in front of a loss do not matter there. This holds for L > 0 only; a loss that
can be negative drives s to minus infinity, so no framework here has one.
"""

import functools

import jax
import jax.numpy as jnp

# exp(-s) stays within 1/403..403. The paper names no bounds.
LOG_VARIANCE_RANGE = (-6.0, 6.0)


def combine(losses: dict[str, jax.Array], log_variances: dict[str, jax.Array]) -> jax.Array:
    """Sum of exp(-s) * L + s over the named losses; scalars with the same names on both sides."""
    terms = (jnp.exp(-log_variances[name]) * loss + log_variances[name] for name, loss in losses.items())
    return functools.reduce(jnp.add, terms, jnp.float32(0))


def weights(log_variances: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The weight exp(-s) of each loss."""
    return {name: jnp.exp(-s) for name, s in log_variances.items()}


def clamp(log_variances: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Log-variances within LOG_VARIANCE_RANGE. Applied after the update, so that the gradient never dies."""
    return {name: jnp.clip(s, *LOG_VARIANCE_RANGE) for name, s in log_variances.items()}
