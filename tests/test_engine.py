"""The step of all frameworks, with and without RePre, driven from outside: views and weights as arrays."""

import dataclasses
import itertools
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from repre_jax.core import sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.types import Pixels
from repre_jax.frameworks.base import Collapse, Framework
from repre_jax.models import build_encoder
from repre_jax.models.heads import MlpHead
from repre_jax.train.pretrain import Pretraining
from tests.helpers.pretraining import CONFIGS, SIZE, build, init, jitted, made, random_pixels, step_of


@pytest.mark.parametrize(
    ("framework", "branch"),
    [(framework, "repre") for framework in CONFIGS] + [pytest.param("moco_v3", "baseline", marks=pytest.mark.slow)],
)
def test_one_and_two_devices_agree(framework, branch, two_devices):
    """Loss, gradients and the framework's own state, and the step is traced once on each."""
    method, state = made(framework, branch)
    pixels = random_pixels(method)
    step = jitted(framework) if branch == "repre" else jax.jit(step_of(method))
    alone, alone_metrics, alone_grads = step(state, pixels)
    mesh = sharding.make_mesh(16)
    everywhere = sharding.replicated(mesh)
    sharded = jax.jit(step_of(method), out_shardings=everywhere)
    many, many_metrics, many_grads = sharded(jax.device_put(state, everywhere), sharding.shard_batch(pixels, mesh))
    again, _, _ = sharded(many, sharding.shard_batch(random_pixels(method, seed=1), mesh))
    assert sharded._cache_size() == 1
    assert int(again.step) == 2
    chex.assert_trees_all_equal_shapes_and_dtypes(alone, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(again, state)
    chex.assert_trees_all_close(jax.device_get(many_metrics), jax.device_get(alone_metrics), rtol=1e-4)
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(alone_grads))
    assert largest > 1e-3
    chex.assert_trees_all_close(jax.device_get(many_grads), jax.device_get(alone_grads), rtol=1e-4, atol=1e-4 * largest)
    chex.assert_trees_all_close(
        jax.device_get(many.framework_state), jax.device_get(alone.framework_state), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("framework", CONFIGS)
def test_a_state_goes_on_exactly_from_its_checkpoint(framework, tmp_path):
    """To the bit, whatever a framework keeps from step to step. Runs that are killed: test_survives.py."""
    method, state = made(framework)
    step, checkpoints = jitted(framework), Checkpoints(tmp_path)
    state, _, _ = step(state, random_pixels(method))
    checkpoints.save(1, state, {})
    checkpoints.close()
    assert checkpoints.error is None
    here = jax.tree.map(lambda leaf: leaf.sharding, state)
    restored = checkpoints.restore(1, jax.eval_shape(lambda: state), here)
    chex.assert_trees_all_equal(restored, state)
    pixels = random_pixels(method, seed=1)
    chex.assert_trees_all_equal(step(restored, pixels), step(state, pixels))


@pytest.mark.parametrize("framework", CONFIGS)
def test_a_step_that_is_not_finite_moves_nothing_but_step_and_counters(framework):
    method, state = made(framework)
    step = jitted(framework)
    good, bad = random_pixels(method), random_pixels(method, seed=1)
    bad.views[3, 0, 0, 0, 0] = np.nan
    one, _, _ = step(state, good)
    two, metrics, _ = step(one, bad)
    three, _, _ = step(two, bad)
    four, last, _ = step(three, good)
    five, _, _ = step(four, bad)
    assert not np.isfinite(metrics["loss"])
    assert float(metrics["skipped_in_a_row"]) == 1
    for part in ("params", "target", "opt_state", "framework_state"):
        chex.assert_trees_all_equal(getattr(three, part), getattr(one, part))
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (four.params, three.params)), strict=True))
    assert np.isfinite(last["loss"])
    counters = [
        (int(s.step), int(s.skipped), int(s.skipped_in_a_row), int(s.first_bad_step)) for s in (one, three, four, five)
    ]
    assert counters == [(1, 0, 0, 0), (3, 2, 2, 2), (4, 2, 0, 2), (5, 3, 1, 5)]


def test_an_update_that_overflows_is_skipped_too():
    """The gradient is finite, what it would do to the parameters is not."""
    method, state = made("byol")
    method = dataclasses.replace(method, optimizer=optax.scale(3e38))
    state = dataclasses.replace(state, opt_state=method.optimizer.init(state.params))
    new, metrics, grads = jax.jit(step_of(method))(state, random_pixels(method))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert float(metrics["skipped"]) == 1
    chex.assert_trees_all_equal(new.params, state.params)


def test_dinos_prototypes_stand_still_in_the_first_epoch():
    """Here an epoch as the config means it has 2 of the run's 8 steps."""
    _, method = build("tiny", "dino", **{"epochs": 4.0, "optim.warmup_epochs": 0.0, "optim.lr": 0.1})
    states = [init(method)]
    step = jax.jit(step_of(method))
    for seed in range(3):
        states.append(step(states[-1], random_pixels(method, seed=seed))[0])

    def moves(name):
        heads = [state.params["projector"][name] for state in states]
        first = [np.asarray(jax.tree.leaves(head)[0]) for head in heads]
        return [bool((a != b).any()) for a, b in itertools.pairwise(first)]

    assert {name: moves(name) for name in ("direction", "gain", "fc1")} == {
        "direction": [False, False, True], "gain": [False, False, True], "fc1": [True, True, True],
    }  # fmt: skip


def test_the_example_of_the_docs_runs(capsys):
    """As it stands in docs/step.md."""
    page = Path(__file__).resolve().parent.parent / "docs" / "step.md"
    text = page.read_text().split("## The step from outside")[1]
    exec(text.split("```python")[1].split("```")[0], {})
    assert "'weight_reconstruction': 1.0" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "weights"), [("lars", None), ("sgd", (0.5, 20.0))])
def test_every_optimiser_drives_the_step(name, weights):
    """By its name in the config; the frozen patch projection stays, and weights that are fixed; everything else with a
    gradient moves."""
    settings = {"optim.name": name, "optim.lr": 0.5, "optim.warmup_epochs": 0.0, "repre.fixed_weights": weights}
    _, method = build("tiny", "simclr", **settings)
    state = init(method)
    new, metrics, grads = jax.jit(step_of(method))(state, random_pixels(method))
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    assert float(metrics["skipped"]) == 0
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), new.params, state.params)
    has_gradient = jax.tree.map(lambda g: bool(g.any()), grads)
    learned = weights is None
    assert moved.pop("balance") == {"contrastive": learned, "reconstruction": learned}
    del has_gradient["balance"]
    if weights:
        found = [metrics[f"weight_{loss}"] for loss in ("contrastive", "reconstruction")]
        np.testing.assert_allclose(found, weights, rtol=1e-6)
    assert moved["encoder"].pop("patch_embed") == {"kernel": False, "bias": False}
    del has_gradient["encoder"]["patch_embed"]
    assert jax.tree.leaves(moved).count(True) > 40
    assert all(m for m, g in zip(*map(jax.tree.leaves, (moved, has_gradient)), strict=True) if g)


def test_the_engine_is_driven_from_outside():
    """As docs/step.md shows it: an own framework and encoder, given weights, plain SGD, a fixed momentum; by hand."""

    def loss(online, target, framework_state, step):
        del step
        return ((online - target) ** 2).sum(axis=(1, 2)).mean(), framework_state, {}

    encoder = build_encoder("vit_ti", width=8, depth=1, heads=1, patch=4, pyramid_levels=1, image_size=SIZE)
    framework = Framework(projector=MlpHead((6,), 3, batch_norm=False), loss=loss, collapse=Collapse(0.0, "0", 0.01))
    method = Pretraining(encoder, framework, None, optax.sgd(0.1), momentum=optax.constant_schedule(0.9))
    rng = np.random.default_rng(0)
    views = rng.random((5, 2, *SIZE, 3), np.float32)
    shapes = jax.eval_shape(lambda: method.init_params(jax.random.PRNGKey(0), (*SIZE, 3)))
    weights = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape) * 0.1, jnp.float32), shapes)
    state = method.new_state(weights, jax.random.PRNGKey(0))
    new, metrics, gradients = jax.jit(step_of(method))(state, Pixels(views))

    def by_hand(params):
        pooled = encoder.apply({"params": params["encoder"]}, views.reshape(10, *SIZE, 3), train=False).pooled
        hidden = jax.nn.relu(pooled @ params["projector"]["fc1"]["kernel"])
        return (hidden @ params["projector"]["fc2"]["kernel"]).reshape(5, 2, 3)

    fixed = jax.jit(by_hand)(weights)
    distance = jax.jit(jax.value_and_grad(lambda p: ((by_hand(p) - fixed) ** 2).sum(axis=(1, 2)).mean()))
    value, expected = distance(weights)
    np.testing.assert_allclose(metrics["loss"], value, atol=1e-9)
    chex.assert_trees_all_close(gradients, expected, atol=1e-6)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, weights, gradients)
    chex.assert_trees_all_close(new.params, moved, rtol=1e-6)
    chex.assert_trees_all_close(new.target, jax.tree.map(lambda w, m: 0.9 * w + 0.1 * m, weights, moved), atol=1e-7)
    third, metrics, gradients = jax.jit(step_of(method))(dataclasses.replace(new, params=weights), Pixels(1 - views))
    assert float(metrics["loss"]) >= 0
    assert int(third.step) == 2
