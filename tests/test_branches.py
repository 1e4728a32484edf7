"""Which views each branch of a framework sees, how they are augmented, and whom its gradients reach."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from repre_jax.core.types import Pixels
from tests.helpers.pretraining import batch_for, build, init, made, random_pixels


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
