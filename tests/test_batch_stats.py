"""Running statistics in the train state: they pass between microbatches, and a skipped step leaves them alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from repre_jax.core.types import TrainState
from repre_jax.models.batch_norm import BatchNorm
from repre_jax.train import microbatches
from repre_jax.train.update import update

NORM = BatchNorm(use_scale=False, use_bias=False)
OPTIMIZER = optax.sgd(0.1)


def gradients_of(state, batch, rows, key):
    """Of the mean of a normalised, weighted batch [B, 3]; its running statistics are the module's own."""
    del rows, key

    def loss(params):
        normed, changed = NORM.apply({"batch_stats": state.batch_stats}, batch, train=True, mutable=["batch_stats"])
        return jnp.sum(normed.mean(axis=0) + batch.mean(axis=0) * params["weight"]), changed["batch_stats"]

    (value, batch_stats), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    return gradients, {"batch_stats": batch_stats}, {"loss": value}


def fresh():
    params = {"weight": jnp.ones(3)}
    batch_stats = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    return TrainState.begin(jnp.zeros(2, jnp.uint32), params, OPTIMIZER.init(params), batch_stats=batch_stats)


def step(state, batch, count):
    gradients, carried, metrics = microbatches.mean(gradients_of, state, batch, count)
    return update(state, gradients, carried, metrics, optimizer=OPTIMIZER)


@pytest.mark.parametrize("count", [1, 3])
def test_each_microbatch_moves_them_once(count):
    """As PyTorch does: microbatch m has the rows m, m + count, ..., and each moves what the one before left."""
    batch = np.random.default_rng(0).normal(2.0, 3.0, (15, 3)).astype(np.float32)
    after, _ = jax.jit(step, static_argnums=2)(fresh(), batch, count)
    mean, var = np.zeros(3), np.ones(3)
    for number in range(count):
        rows = batch[number::count]
        mean, var = 0.9 * mean + 0.1 * rows.mean(axis=0), 0.9 * var + 0.1 * rows.var(axis=0, ddof=1)
    np.testing.assert_allclose(after.batch_stats["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(after.batch_stats["var"], var, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_a_skipped_step_leaves_them_alone(count):
    batch = np.ones((15, 3), np.float32)
    batch[7, 1] = np.nan
    state = fresh()
    after, metrics = jax.jit(step, static_argnums=2)(state, batch, count)
    assert (int(after.step), int(after.skipped), metrics["skipped_in_a_row"]) == (1, 1, 1)
    for part in ("batch_stats", "params"):
        for new, old in zip(*map(jax.tree.leaves, (getattr(after, part), getattr(state, part))), strict=True):
            np.testing.assert_array_equal(new, old)
