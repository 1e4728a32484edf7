"""A batch computed in microbatches: together they are the whole, what passes between them, what they must fit."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from repre_jax.builders import config_checks
from repre_jax.core.errors import UserError
from repre_jax.core.types import Pixels
from repre_jax.data.photometric import Photometric
from repre_jax.frameworks.base import Collapse, Framework
from repre_jax.models import build_encoder
from repre_jax.models.heads import MlpHead
from repre_jax.train.pretrain import Pretraining
from tests.helpers.pretraining import FAST, SIZE, SMALL, batch, build, init, random_pixels, step_of


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["byol", "moco_v2", "moby", "dino"])
def test_what_frameworks_keep_learns_in_parts(framework):
    """Running statistics of heads, one queue, two, and a centre beside local views; in bfloat16."""
    _, method = build("tiny", framework, **SMALL, **FAST, accumulate=2, dtype="bfloat16")
    state, metrics, gradients = jax.jit(step_of(method))(init(method), random_pixels(method))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, metrics, gradients)))
    assert (int(state.step), int(state.skipped)) == (1, 0)
    assert "pointer" not in state.framework_state or int(state.framework_state["pointer"]) == 16


def mean_over_records(accumulate, drop_path=0.0):
    """A framework whose loss is a mean over records, which keeps each part's loss; no BatchNorm."""

    def loss(online, target, framework_state, step):
        del step
        value = ((online - target) ** 2).sum(axis=(1, 2)).mean() + (online**2).mean()
        return value, {"losses": jnp.append(framework_state["losses"][1:], value)}, {"largest": jnp.max(online)}

    return Pretraining(
        build_encoder(
            "vit_ti", width=8, depth=2, heads=1, patch=4, pyramid_levels=1, image_size=SIZE, drop_path=drop_path
        ),
        Framework(
            projector=MlpHead((6,), 3, batch_norm=False),
            loss=loss,
            collapse=Collapse(0.0, "0", 0.01),
            init_framework_state=lambda key: {"losses": jnp.zeros(4)},
        ),
        None,
        optax.sgd(0.1),
        momentum=optax.constant_schedule(0.9),
        augmentation=(Photometric((0.4, 0.0, 0.0, 0.0), 0.8, 0.2, 0.0, (0.1, 2.0), 0.2, 0.5),) * 2,
        accumulate=accumulate,
    )


def test_parts_are_together_the_whole_batch():
    """Where the loss is a mean over records: augmentation, loss, gradients, parameters and target; the batch is odd."""
    whole, parts = mean_over_records(1), mean_over_records(3)
    state, pixels, views = init(whole), random_pixels(whole, count=15), batch(count=15)
    one, logged, gradients = jax.jit(step_of(whole))(state, pixels)
    two, logged_in_parts, gradients_in_parts = jax.jit(step_of(parts))(state, pixels)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients)) > 0.01
    chex.assert_trees_all_close(gradients_in_parts, gradients, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close((two.params, two.target), (one.params, one.target), rtol=1e-5, atol=1e-6)
    for name in ("loss", "contrastive", "gradient_norm"):
        np.testing.assert_allclose(logged_in_parts[name], logged[name], rtol=1e-5)
    assert logged_in_parts["largest"] < logged["largest"], "the parts' mean"
    assert int(two.step) == 1
    augmented, _ = jax.jit(whole.train_step)(state, views)
    augmented_in_parts, _ = jax.jit(parts.train_step)(state, views)
    chex.assert_trees_all_close(augmented_in_parts.params, augmented.params, rtol=1e-5, atol=1e-6)


def test_what_a_framework_keeps_passes_from_part_to_part():
    """Part a has the rows a, a + 3, ...; each part adds the loss of its own rows to what the one before left."""
    method = mean_over_records(3)
    state, pixels = init(method), random_pixels(method, count=15)
    new, metrics, _ = jax.jit(step_of(method))(state, pixels)
    loss_of = jax.jit(lambda rows: method.loss(state.params, state, rows, method.target(state, rows))[0])
    losses = [loss_of(Pixels(pixels.views[part::3])) for part in range(3)]
    np.testing.assert_allclose(new.framework_state["losses"], [0, *losses], rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)


def test_parts_drop_different_paths():
    """All records are alike, so that the parts' losses differ by the paths alone."""
    method = mean_over_records(2, drop_path=0.5)
    pixels = random_pixels(method, count=1)
    new, _, _ = jax.jit(step_of(method))(init(method), Pixels(np.repeat(pixels.views, 8, axis=0)))
    first, second = new.framework_state["losses"][2:]
    assert abs(first - second) > 1e-4


def test_a_part_that_is_not_finite_skips_the_whole_step():
    method = mean_over_records(3)
    state, pixels = init(method), random_pixels(method, count=15)
    pixels.views[7] = np.nan
    new, metrics, _ = jax.jit(step_of(method))(state, pixels)
    assert not np.isfinite(metrics["loss"])
    assert (int(new.step), int(new.skipped)) == (1, 1)
    for part in ("params", "target", "framework_state"):
        chex.assert_trees_all_equal(getattr(new, part), getattr(state, part))


def test_parts_that_fit_nothing_else_are_refused():
    with pytest.raises(UserError, match=r"(?s)accumulate is 9.*at least 2 images.*accumulate=8"):
        config_checks.microbatches(16, 9)
    method = mean_over_records(2)
    with pytest.raises(UserError, match="A batch of 15 cannot be computed in 2 microbatches"):
        jax.eval_shape(method.train_step, init(method), random_pixels(method, 15))
    with pytest.raises(
        UserError, match=r"framework.queue 20 is not a multiple of a microbatch of batch_size 16, which is 8"
    ):
        build("tiny", "moby", **{"accumulate": 2, "framework.queue": 20})


def test_a_queue_is_as_long_as_parts_allow():
    _, method = build("tiny", "moco_v2", **{"accumulate": 2, "framework.queue": 24})
    assert method.framework.collapse.value == pytest.approx(math.log(25))
