"""The LayerNorm that GPUs get, against Flax's: values, with a gradient and without one, and the gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from repre_jax.models import layer_norm, platform

EPSILON = 1e-6


def test_it_is_flaxs(monkeypatch):
    theirs = layer_norm.build(EPSILON, "norm")
    monkeypatch.setattr(platform, "compiled_for", lambda: "gpu")
    ours = layer_norm.build(EPSILON, "norm")
    assert (type(theirs), type(ours)) == (nn.LayerNorm, layer_norm.OnePassNorm)

    rng = np.random.default_rng(0)
    x, cotangent = (jnp.float32(rng.normal(0.5, 2, (6, 33))) for _ in range(2))
    params = {"params": {"scale": jnp.float32(rng.normal(size=33)), "bias": jnp.float32(rng.normal(size=33))}}
    chex.assert_trees_all_equal_shapes_and_dtypes(ours.init(jax.random.PRNGKey(0), x), params)

    def found(module):
        value, back = jax.vjp(module.apply, params, x)
        return module.apply(params, x), value, back(cotangent)

    chex.assert_trees_all_close(jax.jit(lambda: found(ours))(), jax.jit(lambda: found(theirs))(), rtol=2e-5, atol=2e-5)
