"""Projection and prediction heads."""

import jax
import jax.numpy as jnp
import numpy as np

from repre_jax.models import heads


def test_heads_normalise_each_view_by_itself():
    head = heads.MlpHead((7,), 5, out_norm="plain")
    x = jax.random.normal(jax.random.key(0), (11, 2, 6)) * jnp.array([1.0, 4.0])[None, :, None]
    variables = head.init(jax.random.key(1), x)
    params = jax.tree.map(lambda p: np.asarray(p, np.float64) + 0.1, variables["params"])
    out = head.apply({"params": params}, x)
    for view in range(2):
        y = np.asarray(x[:, view], np.float64) @ params["fc1"]["kernel"]
        y = (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-5) * params["bn1"]["scale"] + params["bn1"]["bias"]
        y = np.maximum(y, 0) @ params["fc2"]["kernel"]
        y = (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-5)
        np.testing.assert_allclose(out[:, view], y, rtol=2e-4, atol=2e-5)
    assert set(params) == {"fc1", "bn1", "fc2"}, "the last BatchNorm has no gain and shift, Dense has no bias"
    assert set(params["fc1"]) == {"kernel"}


def test_the_papers_projector_has_its_size():
    projector = heads.MlpHead((4096, 4096), 256, out_norm="plain")
    pooled = jax.ShapeDtypeStruct((2, 2, 384), jnp.float32)
    params = jax.eval_shape(projector.init, jax.random.key(0), pooled)
    expected = 384 * 4096 + 4096 * 4096 + 4096 * 256 + 2 * 2 * 4096
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
