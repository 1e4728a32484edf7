"""The training step: what moves, what must not, what the losses see."""

import dataclasses
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.core import sharding
from repre_jax.losses import reconstruction
from repre_jax.running import loop
from repre_jax.running.signals import StopRequest
from repre_jax.running.watchdog import Watchdog
from tests.helpers.pretraining import SIZE, batch, build, init, learning, pixels_of


@pytest.fixture(scope="module")
def tiny():
    return learning()


def test_a_step_reports_and_advances(tiny):
    _, _, state, step = tiny
    new, metrics = step(state, batch())
    assert int(new.step) == 1
    assert {"loss", "contrastive", "reconstruction", "weight_contrastive", "weight_reconstruction"} <= set(metrics)
    assert {"lr", "momentum", "gradient_norm", "embedding_std"} <= set(metrics)
    for name, value in metrics.items():
        assert value.shape == (), name
        assert value.dtype == jnp.float32, name
    np.testing.assert_allclose(metrics["loss"], metrics["contrastive"] + metrics["reconstruction"], rtol=1e-6)


def test_everything_but_the_frozen_patches_moves(tiny):
    _, _, state, step = tiny
    new, _ = step(state, batch())
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, new.params)
    assert not any(jax.tree.leaves(moved["encoder"].pop("patch_embed")))
    still = [jax.tree_util.keystr(path) for path, m in jax.tree_util.tree_leaves_with_path(moved) if not m]
    assert still == []


@pytest.mark.parametrize("momentum", [0.0, 0.25, 1.0])
def test_target_is_the_moving_average(tiny, momentum):
    _, method, state, _ = tiny
    method = dataclasses.replace(method, momentum=lambda step: jnp.float32(momentum))
    new, _ = jax.jit(method.train_step)(state, batch())
    online = {name: new.params[name] for name in ("encoder", "projector")}
    expected = jax.tree.map(lambda o, t: momentum * t + (1 - momentum) * o, online, state.target)
    assert set(new.target) == {"encoder", "projector"}
    if momentum in (0.0, 1.0):
        chex.assert_trees_all_equal(new.target, state.target if momentum else online)
    else:
        chex.assert_trees_all_close(new.target, expected, rtol=1e-5, atol=1e-7)


def test_momentum_is_that_of_the_next_step(tiny):
    """Update-after with m(step + 1) gives the targets of MoCo v3's update-before with m(step)."""
    _, method, state, step = tiny
    _, metrics = step(state, batch())
    np.testing.assert_array_equal(metrics["momentum"], method.momentum(1))
    assert metrics["momentum"] != method.momentum(0)


def test_no_gradient_reaches_the_target(tiny):
    """The gradient is the same whether the target is computed inside from its parameters or is a constant."""
    _, method, state, _ = tiny
    pixels = pixels_of(method, state, batch())

    @jax.jit
    @jax.grad
    def gradients_of(target_params):
        target = method.target(dataclasses.replace(state, target=target_params), pixels)
        return method.loss(state.params, state, pixels, target)[0]

    assert all(not g.any() for g in jax.tree.leaves(gradients_of(state.target)))


def test_the_reconstruction_target_is_the_view_before_normalisation(tiny):
    """A decoder that answers with the augmented pixels of view 1 has loss 0; with the normalised ones it has not."""
    _, method, state, _ = tiny
    views = batch()
    pixels = pixels_of(method, state, views).views
    assert float(pixels.min()) >= 0
    assert float(pixels.max()) <= 1
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Spy(type(method.reconstruction)):
        def loss(self, params, pyramid, pixels):
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), pixels)
            return super().loss(params, pyramid, pixels)

    spying = dataclasses.replace(method, reconstruction=Spy(method.reconstruction.decoder))
    jax.block_until_ready(jax.jit(spying.train_step)(state, views))
    jax.effects_barrier()
    np.testing.assert_allclose(seen[0], pixels, atol=1e-6)
    assert float(reconstruction.l1(seen[0][:, 0], pixels[:, 0])) < 1e-6


def test_the_baseline_is_the_contrastive_loss_alone():
    _, method = build("tiny,baseline")
    state = init(method)
    assert set(state.params) == {"encoder", "projector", "predictor"}
    _, metrics = jax.jit(method.train_step)(state, batch())
    assert "reconstruction" not in metrics
    np.testing.assert_array_equal(metrics["loss"], metrics["contrastive"])


def test_two_runs_with_one_seed_are_equal_and_another_seed_differs(tiny):
    _, method, _, step = tiny

    def run(seed):
        state = init(method, seed)
        for number in range(3):
            state, metrics = step(state, batch(seed=number))
        return state, metrics

    chex.assert_trees_all_equal(run(0), run(0))
    assert float(run(0)[1]["loss"]) != float(run(1)[1]["loss"])


def test_augmentation_draws_anew_each_step(tiny):
    _, method, state, _ = tiny
    later = dataclasses.replace(state, step=state.step + 1)
    assert (pixels_of(method, state, batch()).views != pixels_of(method, later, batch()).views).any()


def test_one_and_two_devices_agree(tiny, two_devices):
    """BatchNorm, negatives and the reconstruction span the global batch, and paths drop alike, however it is split."""
    _, method = build(**{"optim.lr": 0.05, "optim.warmup_epochs": 0.0, "encoder.drop_path": 0.5})
    state, step = tiny[2], jax.jit(method.train_step)
    alone, alone_metrics = step(state, batch())
    mesh = sharding.make_mesh(16)
    spread = jax.device_put(state, sharding.replicated(mesh))
    many, many_metrics = step(spread, sharding.shard_batch(batch(), mesh))
    chex.assert_trees_all_close(jax.device_get(many_metrics), jax.device_get(alone_metrics), rtol=1e-4)
    close = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), jax.device_get(alone.target), jax.device_get(many.target)
    )
    assert max(jax.tree.leaves(close)) < 1e-4


def test_the_state_is_donated(tiny):
    _, method, _, _ = tiny
    state = init(method)
    new, _ = jax.jit(method.train_step, donate_argnums=0)(state, batch())
    assert state.params["encoder"]["norm"]["scale"].is_deleted()
    assert not new.params["encoder"]["norm"]["scale"].is_deleted()


def test_bfloat16_agrees_with_float32(tiny):
    _, _, state, step = tiny
    _, mixed = build(**{"optim.lr": 0.05, "optim.warmup_epochs": 0.0, "dtype": "bfloat16"})
    new, metrics = jax.jit(mixed.train_step)(state, batch())
    _, exact = step(state, batch())
    np.testing.assert_allclose(metrics["contrastive"], exact["contrastive"], rtol=0.05)
    np.testing.assert_allclose(metrics["reconstruction"], exact["reconstruction"], rtol=0.05)
    assert {leaf.dtype for leaf in jax.tree.leaves(new.params)} == {jnp.dtype("float32")}


def test_the_step_is_its_parts_put_together(tiny):
    """Loss and gradient norm by hand: normalised views through both branches, frozen patches left out of the norm."""
    _, method, state, step = tiny
    pixels = pixels_of(method, state, batch())
    images = ((pixels.views - jnp.array(method.mean)) / jnp.array(method.std)).reshape(-1, *SIZE, 3)
    pooled = jax.jit(method.encode)(state.target["encoder"], images).pooled.reshape(16, 2, -1)
    target = jax.jit(method.framework.projector.apply)({"params": state.target["projector"]}, pooled)
    grads, (_, metrics) = jax.jit(jax.grad(method.loss, has_aux=True))(state.params, state, pixels, target)
    squares = {name: sum(float((g**2).sum()) for g in jax.tree.leaves(tree)) for name, tree in grads.items()}
    frozen = sum(float((g**2).sum()) for g in jax.tree.leaves(grads["encoder"]["patch_embed"]))
    _, reported = step(state, batch())
    assert frozen > 1e-6
    np.testing.assert_allclose(reported["loss"], metrics["loss"], rtol=1e-5)
    np.testing.assert_allclose(reported["gradient_norm"], (sum(squares.values()) - frozen) ** 0.5, rtol=1e-3)


def test_the_loop_does_not_run_ahead_of_the_device():
    """The batch of a step is asked for only when the step before the last has finished."""
    matrix = jnp.eye(400)
    slow = jax.jit(lambda x: jax.lax.fori_loop(0, 60, lambda _, y: y @ matrix, x).sum())
    outputs, ready = [], []

    def step(state, x):
        outputs.append(slow(x))
        return state, {"loss": outputs[-1]}

    def batches():
        while True:
            if len(outputs) >= 2:
                ready.append(outputs[-2].is_ready())
            yield matrix

    with StopRequest() as stop:
        loop.fit(
            step, None, batches(), start_step=0, total_steps=8, batch_size=1,
            log_steps=frozenset({8}), log=lambda *_: None, hooks=(), after=lambda *_: None, stop=stop,
            watchdog=Watchdog(0, "", print),
        )  # fmt: skip
    assert ready == [True] * 6


def test_a_shape_that_comes_later_is_compiled_then_and_its_step_is_not_timed():
    """Batches of one canvas, and at step 5 the first of another: whoever waits too long is told that it compiles."""
    said, logged, seen = [], {}, set()

    class Told(Watchdog):
        def doing(self, what):
            said.append(what)

    def step(state, x):
        time.sleep(1.0 if seen and x.shape not in seen else 0.01)
        seen.add(x.shape)
        return state, {"loss": jnp.float32(0)}

    shapes = [(2, 3), (2, 3), (2, 3), (2, 3), (3, 2), (2, 3), (3, 2), (3, 2)]
    with StopRequest() as stop:
        loop.fit(
            step, None, map(np.zeros, shapes), start_step=0, total_steps=8, batch_size=1,
            log_steps=frozenset({2, 8}), log=logged.__setitem__, hooks=(), after=lambda *_: None, stop=stop,
            watchdog=Told(0, "", print),
        )  # fmt: skip
    assert [what for what in said if "compiling" in what] == ["Step 1: compiling", "Step 5: compiling"]
    assert logged[8]["images_per_second"] > 8  # five steps in 0.05 s; with that of 1 s it would be 5.7


def test_frozen_parameters_do_not_count_in_the_gradient_norm(tiny):
    """With the class token frozen, whose gradient is the largest at the start."""
    _, method, state, _ = tiny
    frozen = dataclasses.replace(method, rules=(("^encoder/cls_token", "lr_scale", 0.0),))
    free = dataclasses.replace(method, rules=())
    norms = [jax.jit(m.train_step)(state, batch())[1]["gradient_norm"] for m in (frozen, free)]
    assert norms[0] < 0.9 * norms[1]
