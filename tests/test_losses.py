"""Losses against plain NumPy loops, and where the weights that join them settle."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from repre_jax.core.numerics import l2_normalize
from repre_jax.losses import contrastive, reconstruction, weighting


def info_nce_by_loops(queries, keys, temperature):
    total = 0.0
    for i, q in enumerate(queries):
        logits = [np.dot(q, k) / np.linalg.norm(q) / np.linalg.norm(k) / temperature for k in keys.astype(np.float64)]
        total += np.log(np.sum(np.exp(logits))) - logits[i]
    return total / len(queries)


@pytest.mark.parametrize(("batch", "width", "temperature"), [(7, 5, 0.2), (3, 11, 1.0), (13, 4, 0.07)])
def test_info_nce_equals_the_loop(batch, width, temperature):
    rng = np.random.default_rng(batch)
    queries, keys = rng.normal(size=(2, batch, width)) * [[[3.0]], [[0.2]]]
    ours = contrastive.info_nce(jnp.asarray(queries), jnp.asarray(keys), temperature)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, info_nce_by_loops(queries, keys, temperature), rtol=2e-5)


def test_l2_normalize_survives_zero():
    gradient = jax.grad(lambda x: l2_normalize(x).sum())(jnp.zeros((2, 3)))
    assert np.isfinite(gradient).all()


def test_l1_is_the_mean_over_everything():
    rng = np.random.default_rng(1)
    a, b = rng.uniform(size=(2, 3, 5, 7, 3))
    total = sum(abs(x - y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
    np.testing.assert_allclose(reconstruction.l1(jnp.asarray(a), jnp.asarray(b)), total / a.size, rtol=1e-5)


def test_balance_is_kendalls_sum():
    losses = {"contrastive": jnp.float32(2.5), "reconstruction": jnp.float32(0.07)}
    s = {"contrastive": jnp.float32(0.4), "reconstruction": jnp.float32(-1.3)}
    expected = np.exp(-0.4) * 2.5 + 0.4 + np.exp(1.3) * 0.07 - 1.3
    np.testing.assert_allclose(weighting.combine(losses, s), expected, rtol=1e-6)
    np.testing.assert_allclose(weighting.weights(s)["reconstruction"], np.exp(1.3), rtol=1e-6)


def test_balance_is_lowest_where_the_weight_is_one_over_the_loss():
    losses = {"a": jnp.float32(2.5), "b": jnp.float32(0.07)}
    best = {name: jnp.log(loss) for name, loss in losses.items()}
    gradient = jax.grad(lambda s: weighting.combine(losses, s))(best)
    np.testing.assert_allclose([gradient["a"], gradient["b"]], 0, atol=1e-6)
    np.testing.assert_allclose(weighting.weights(best)["b"], 1 / 0.07, rtol=1e-5)


def test_clamp_holds_log_variances_in_range():
    clamped = weighting.clamp({"a": jnp.float32(-9.0), "b": jnp.float32(7.0), "c": jnp.float32(0.3)})
    assert [float(x) for x in clamped.values()] == pytest.approx([-6.0, 6.0, 0.3])


def test_log_variances_settle_at_the_logarithm_of_a_constant_loss():
    """Adam on exp(-s) L + s, with L held still: s -> ln L."""
    losses = {"contrastive": jnp.float32(6.65), "reconstruction": jnp.float32(0.08)}
    optimizer = optax.adam(0.01)
    s = {name: jnp.zeros(()) for name in losses}

    def update(carry, _):
        s, state = carry
        updates, state = optimizer.update(jax.grad(lambda s: weighting.combine(losses, s))(s), state)
        return (weighting.clamp(optax.apply_updates(s, updates)), state), None

    (s, _), _ = jax.lax.scan(update, (s, optimizer.init(s)), length=3000)
    for name, loss in losses.items():
        np.testing.assert_allclose(s[name], np.log(loss), atol=1e-3)
