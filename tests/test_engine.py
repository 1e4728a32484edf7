"""The step of all frameworks, with and without RePre, driven from outside: views and weights as arrays."""

import dataclasses
import functools
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
from repre_jax.losses import weighting
from repre_jax.models import build_encoder
from repre_jax.models.heads import MlpHead
from repre_jax.train.pretrain import Pretraining
from tests.helpers.pretraining import CONFIGS, SIZE, batch_for, build, init, random_pixels, step_of


@functools.cache
def made(framework, branch="repre"):
    """(method at a rate that one step shows, fresh state on the first device).

    It is put there so that a restored state, which is, finds the same program.
    """
    variants = "tiny" if branch == "repre" else "tiny,baseline"
    overrides = {"optim.lr": 0.01, "optim.warmup_epochs": 0.0, "encoder.drop_path": 0.3}
    overrides |= {"encoder.depth": (2,), "encoder.pyramid_levels": 2}  # compiling is what these tests wait for
    _, method = build(variants, framework, **overrides)
    shapes = jax.eval_shape(lambda: method.init_params(jax.random.PRNGKey(0), (*SIZE, 3)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape) * 0.1, jnp.float32), shapes)
    return method, jax.device_put(method.new_state(params, jax.random.PRNGKey(0)), jax.devices()[0])


@functools.cache
def jitted(framework):
    """The step of what `made` gives, traced once for all tests."""
    return jax.jit(step_of(made(framework)[0]))


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


@pytest.mark.parametrize("framework", ["byol", "moco_v2", "moco_v3", "moby", "dino"])
def test_no_gradient_reaches_target_queue_or_centre(framework):
    """Neither from the loss to the target, nor from what the step leaves in the queue or the centre to anything."""
    method, state = made(framework, "baseline")
    pixels = random_pixels(method)

    def loss_and_kept(target_params, params):
        """The loss reaches the target alone; what is kept could reach both."""
        moved = dataclasses.replace(state, target=target_params)
        target = method.target(moved, pixels)
        loss, _ = method.loss(state.params, moved, pixels, target)
        _, (framework_state, _) = method.loss(params, moved, pixels, target)
        return loss + sum(jnp.sum(x) for x in framework_state.values() if x.dtype == jnp.float32)

    target_gradient, kept_gradient = jax.jit(jax.grad(loss_and_kept, argnums=(0, 1)))(state.target, state.params)
    assert all(not g.any() for g in jax.tree.leaves((target_gradient, kept_gradient)))


def test_byols_predictor_learns_from_both_directions():
    """The gradient of the predictor is the sum of those of the two directions, neither of which is zero."""
    method, state = made("byol", "baseline")
    pixels = random_pixels(method)

    @jax.jit
    def gradient(state, forth, back):
        def loss(online, target, framework_state, step):
            del step
            a, b = (1 - optax.cosine_similarity(online[:, v], target[:, 1 - v]).mean() for v in (0, 1))
            return 2 * (forth * a + back * b), framework_state, {}

        one = dataclasses.replace(method, framework=dataclasses.replace(method.framework, loss=loss))
        grads, _ = jax.grad(one.loss, has_aux=True)(state.params, state, pixels, method.target(state, pixels))
        return grads["predictor"]

    target = jax.jit(method.target)(state, pixels)
    whole, _ = jax.jit(jax.grad(method.loss, has_aux=True))(state.params, state, pixels, target)
    halves = gradient(state, 1.0, 0.0), gradient(state, 0.0, 1.0)
    for half in halves:
        assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(half)) > 1e-4
    total = jax.tree.map(jnp.add, *halves)
    chex.assert_trees_all_close(total, whole["predictor"], rtol=1e-3, atol=1e-6)


def test_simsiams_target_has_no_gradient_of_its_own():
    """Its gradient is that with the target's projections given as constants."""
    method, state = made("simsiam", "baseline")
    pixels = random_pixels(method)
    ours, _ = jax.jit(jax.grad(method.loss, has_aux=True))(state.params, state, pixels, None)
    key = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), 1)

    def projections(params):
        pooled = method.encode_views(params["encoder"], pixels.views, key).pooled.reshape(16, 2, -1)
        return method.framework.projector.apply({"params": params["projector"]}, pooled)

    constant = jax.jit(projections)(state.params)

    def loss(params):
        predicted = method.framework.predictor.apply({"params": params["predictor"]}, projections(params))
        cosines = [optax.cosine_similarity(predicted[:, a], constant[:, 1 - a]).mean() for a in (0, 1)]
        return -sum(cosines) / 2  # main_simsiam.py:294-295

    chex.assert_trees_all_close(ours, jax.jit(jax.grad(loss))(state.params), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("framework", ["simclr", "simsiam"])
def test_frameworks_without_a_moving_average_keep_no_target(framework):
    method, state = made(framework)
    assert state.target == {}
    assert method.target(state, random_pixels(method)) is None


@pytest.mark.parametrize("framework", ["moco_v2", "dino"])
def test_each_branch_sees_the_views_it_should(framework):
    """MoCo v2: online the first, target the second. DINO: the target no local views, the student all."""
    method, _ = made(framework, "baseline")
    state = init(method)
    pixels = random_pixels(method)

    @jax.jit
    def values(pixels):
        target = method.target(state, pixels)
        return target, method.loss(state.params, state, pixels, target)[1][1]["loss"]

    other = random_pixels(method, seed=1)
    target, loss = values(pixels)
    assert target.shape[1] == {"moco_v2": 1, "dino": 2}[framework]
    if framework == "moco_v2":
        moved_first = dataclasses.replace(pixels, views=np.stack([other.views[:, 0], pixels.views[:, 1]], axis=1))
        same_target, other_loss = values(moved_first)
    else:
        same_target, other_loss = values(dataclasses.replace(pixels, local=other.local))
    np.testing.assert_array_equal(same_target, target)
    assert abs(float(other_loss - loss)) > 1e-5


def test_dino_reconstructs_the_first_large_view_alone():
    method, state = made("dino")
    pixels, other = random_pixels(method), random_pixels(method, seed=1)

    @jax.jit
    def l1(pixels):
        return method.loss(state.params, state, pixels, method.target(state, pixels))[1][1]["reconstruction"]

    views = np.stack([pixels.views[:, 0], other.views[:, 1]], axis=1)
    assert float(l1(Pixels(pixels.views, other.local))) == pytest.approx(float(l1(pixels)), rel=1e-6)
    # drop path draws per image, so that nothing else may change
    assert float(l1(Pixels(views, pixels.local))) == pytest.approx(float(l1(pixels)), rel=1e-6)
    assert float(l1(Pixels(other.views, pixels.local))) != pytest.approx(float(l1(pixels)), rel=1e-6)


def test_two_views_can_be_reconstructed_where_one_is_contrasted():
    _, method = build("tiny", "moco_v2", **{"repre.views": 2})
    framework, seen = method.framework, []

    def loss(online, *rest):
        seen.append(online.shape[1])
        return framework.loss(online, *rest)

    method = dataclasses.replace(method, framework=dataclasses.replace(framework, loss=loss))
    state = init(method)
    pixels, other = random_pixels(method), random_pixels(method, seed=1)
    second = Pixels(np.stack([pixels.views[:, 0], other.views[:, 1]], axis=1))
    target = jax.jit(method.target)(state, pixels)
    losses = jax.jit(lambda pixels: method.loss(state.params, state, pixels, target)[1][1])
    one, two = losses(pixels), losses(second)
    np.testing.assert_allclose(one["contrastive"], two["contrastive"], rtol=1e-5)
    assert one["reconstruction"] != two["reconstruction"]
    assert seen == [1], "the second view goes through the encoder, not through the heads"


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


@pytest.mark.parametrize("name", ["lars", "sgd"])
def test_every_optimiser_drives_the_step(name):
    """By its name in the config; the frozen patch projection stays, everything else with a gradient moves."""
    _, method = build("tiny", "simclr", **{"optim.name": name, "optim.lr": 0.5, "optim.warmup_epochs": 0.0})
    state = init(method)
    new, metrics, grads = jax.jit(step_of(method))(state, random_pixels(method))
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    assert float(metrics["skipped"]) == 0
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), new.params, state.params)
    has_gradient = jax.tree.map(lambda g: bool(g.any()), grads)
    assert moved["balance"] == {"contrastive": True, "reconstruction": True}
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


def test_local_views_are_augmented_with_their_own_settings_and_draws():
    """Blur off for the large views and on for local ones; equal local crops come out differently."""
    always = (0.0, 0.0, 1.0)
    _, method = build("tiny", "dino", **{"augment.blur_probability": always, "augment.jitter_probability": 0.0})
    views = batch_for(method)
    views.local[:, 1] = views.local[:, 0]
    state = init(method)
    pixels = jax.jit(method.augment)(state.rng, 0, views)
    np.testing.assert_allclose(pixels.views, views.images / 255, atol=1e-6)
    assert np.abs(pixels.local[:, 0] - views.local[:, 0] / 255).max() > 0.1
    assert np.abs(pixels.local[:, 0] - pixels.local[:, 1]).max() > 0.01


def test_no_two_views_share_their_draws():
    """Grey images and brightness alone: the factor of each view of each record, large or local, is its own."""
    off = {f"augment.{name}_probability": (0.0, 0.0, 0.0) for name in ("blur", "solarize")}
    off |= {"augment.jitter": (0.8, 0.0, 0.0, 0.0), "augment.jitter_probability": 1.0, "augment.flip_probability": 0.0}
    _, method = build("tiny", "dino", **off)
    views = batch_for(method)
    grey = dataclasses.replace(views, images=np.full_like(views.images, 100), local=np.full_like(views.local, 100))
    pixels = jax.jit(method.augment)(jax.random.PRNGKey(0), 0, grey)
    factors = np.concatenate([np.asarray(p)[..., 0, 0, 0].ravel() for p in (pixels.views, pixels.local)])
    assert len(set(factors.tolist())) == len(factors) == 16 * 4
