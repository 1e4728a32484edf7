"""The linear probe's step: heads by a grid of learning rates, trained at once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from repre_jax.core import optim, schedules, sharding
from repre_jax.core.types import LabelledImages
from repre_jax.models import build_encoder
from repre_jax.train.probe import Probe
from tests.helpers.collectives import collectives, sizes

CLASSES, WIDTH = 10, 64
KEY = np.zeros(2, np.uint32)  # jax.random.PRNGKey(0), without starting JAX while tests are collected


def plan_of(steps=40, batch=32, lr=8.0):
    return schedules.resolve(records=10 * batch, batch_size=batch, epochs=1, total_steps=steps, lr_per_256=lr)


def build(factors=(1.0,), plan=None, name="sgd", rules=(), **settings):
    plan = plan or plan_of()
    optimizer = optim.build(name, plan, rules=rules, **settings.pop("optimizer", {}))
    usual = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "flip_probability": 0.5, "feature": "cls", "classes": CLASSES}
    return Probe(encoder=vit(), optimizer=optimizer, factors=factors, lr=plan.lr, **usual | settings)


def vit(**settings):
    size = {"width": 16, "depth": 1, "heads": 2, "patch": 4, "pyramid_levels": 1, "image_size": (8, 8)}
    return build_encoder("vit_ti", **size | settings)


def digits():
    found = load_digits()
    return found.data.astype(np.float32) / 16 - 0.3, found.target.astype(np.int32)


def trained(probe, steps, found, labels, batch=32, encoders=1):
    state = new_state(probe, encoders)
    step = jax.jit(probe.step)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = rng.integers(len(found), size=batch)
        state, metrics = step(state, jnp.broadcast_to(found[chosen], (encoders, batch, WIDTH)), labels[chosen])
    return state, metrics


def new_state(probe, encoders=1, width=WIDTH):
    return jax.jit(lambda key: probe.init_state(key, encoders, width))(KEY)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd", {"optimizer": {"nesterov": True, "clip_norm": 0.3}}),
        ("lars", {"batch_norm": True}),
        ("adamw", {"label_smoothing": 0.1}),
    ],
)
def test_a_grid_at_once_is_its_heads_one_by_one(name, settings):
    found, labels = digits()
    factors = (0.1, 1.0, 3.0)
    many, _ = trained(build(factors, name=name, **settings), 12, found, labels, encoders=2)
    for number, factor in enumerate(factors):
        plan = plan_of(lr=8.0 * factor)
        one, _ = trained(build(plan=plan, name=name, **settings), 12, found, labels)
        for both, alone in zip(jax.tree.leaves(many.params), jax.tree.leaves(one.params), strict=True):
            size = np.abs(alone).max()
            assert size > 0
            np.testing.assert_allclose(both[0, number] / size, alone[0, 0] / size, rtol=2e-4, atol=5e-5)
            np.testing.assert_array_equal(both[0, number], both[1, number])


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_it_ends_where_scikit_learns_logistic_regression_does(decay):
    """On the same features with the same penalty, here of pixels: accuracy within 1.5 points."""
    found, labels = digits()
    train, test = slice(0, 1437), slice(1437, None)
    plan = dataclasses.replace(plan_of(1500, 128, lr=2.0), weight_decay=lambda step: decay)
    probe = build(plan=plan, rules=(("bias", "weight_decay", 0.0),))
    state, metrics = trained(probe, 1500, found[train], labels[train], batch=128)
    right = jax.jit(probe.correct)(state, found[None, test], labels[test])
    penalty = 1 / (decay * 1437) if decay else np.inf
    expected = LogisticRegression(C=penalty, max_iter=3000).fit(found[train], labels[train])
    assert right.shape == (1, 1, 360)
    assert right.mean() == pytest.approx(expected.score(found[test], labels[test]), abs=0.015)
    assert float(metrics["loss"]) == pytest.approx(
        -expected.predict_log_proba(found[train])[range(1437), labels[train]].mean(), abs=0.1
    )


def test_batch_norm_is_maes():
    """Affine-free, epsilon 1e-6; by the batch in training, by running statistics, whose variance is unbiased, in
    evaluations."""
    found, labels = digits()
    probe = build(batch_norm=True)
    state = new_state(probe)
    batch = found[None, :32]
    normalised = jax.jit(probe._normalised, static_argnames="train")
    seen, statistics = normalised(batch, state.batch_stats, train=True)
    np.testing.assert_allclose(
        seen[0], (batch[0] - batch[0].mean(0)) / np.sqrt(batch[0].var(0) + 1e-6), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(statistics["mean"][0], 0.1 * batch[0].mean(0), atol=1e-6)
    np.testing.assert_allclose(statistics["var"][0], 0.9 + 0.1 * batch[0].var(0, ddof=1), atol=1e-5)
    after, _ = jax.jit(probe.step)(state, batch, labels[:32])
    np.testing.assert_allclose(after.batch_stats["mean"], statistics["mean"], atol=1e-6)
    still, same = normalised(batch, after.batch_stats, train=False)
    np.testing.assert_allclose(
        still, (batch - after.batch_stats["mean"]) / np.sqrt(after.batch_stats["var"] + 1e-6), rtol=1e-3
    )
    np.testing.assert_array_equal(same["mean"], after.batch_stats["mean"])


def test_the_whole_step_flips_drops_paths_and_leaves_the_encoder_alone():
    encoder = build_encoder(
        "vit_ti", width=16, depth=2, heads=2, patch=4, pyramid_levels=1, image_size=(8, 8), drop_path=0.9
    )
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    batch = LabelledImages(images=images, labels=np.arange(4, dtype=np.int32))
    params = jax.jit(encoder.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))["params"]

    @functools.cache
    def made(flip, drop):
        """(step, fresh state)."""
        probe = dataclasses.replace(build(flip_probability=flip, drop_paths=drop), encoder=encoder)
        return jax.jit(probe.train_step), new_state(probe, width=16)

    def after(flip, drop, images=images):
        step, state = made(flip, drop)
        return step(state, dataclasses.replace(batch, images=images), params)[0].params["kernel"]

    plain = after(0.0, False)
    np.testing.assert_allclose(after(1.0, False, images[:, :, ::-1]), plain, atol=1e-6)
    assert np.abs(after(1.0, False) - plain).max() > 1e-5
    assert np.abs(after(0.0, True) - plain).max() > 1e-5
    gradient = jax.jit(jax.grad(lambda p: build().features([p], images / 255.0).sum()))
    one_block = {name: tree for name, tree in params.items() if name != "block_2"}
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient(one_block)))


def test_the_logged_loss_and_rate_are_the_protocols_own():
    found, labels = digits()
    probe = build((0.1, 1.0))
    (_, metrics), (_, alone) = (
        jax.jit(made.step)(new_state(made), found[None, :32], labels[:32]) for made in (probe, build())
    )
    assert metrics["loss"] == pytest.approx(float(alone["loss"]))
    assert metrics["lr"] == pytest.approx(1.0)


def compiled(probe, count, mesh):
    """(the step, its state, batch and encoder's parameters), for that many images."""
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    batch = sharding.shard_batch(LabelledImages(images=images, labels=np.arange(count, dtype=np.int32) % CLASSES), mesh)
    images_of_one = np.zeros((1, 8, 8, 3), np.float32)
    given = (new_state(probe, width=16), jax.jit(probe.encoder.init)(jax.random.key(0), images_of_one)["params"])
    state, params = sharding.copy_to_each(jax.device_get(given), mesh)
    return jax.jit(probe.train_step).lower(state, batch, params).compile(), (state, batch, params)


@pytest.mark.parametrize(("count", "chunk"), [(16, 4), (14, 3), (16, 8)], ids=["whole", "with a rest", "all at once"])
def test_images_are_encoded_in_chunks_and_stay_on_their_device(count, chunk, monkeypatch, two_devices):
    """Heads, flips and judgements are those of all images at once."""
    mesh, plain = sharding.make_mesh(count), build(batch_norm=True)
    monkeypatch.setattr(sharding, "CHUNK", chunk)
    chunked = dataclasses.replace(plain, mesh=mesh)
    (at_once, given), (in_microbatches, _) = (compiled(probe, count, mesh) for probe in (plain, chunked))
    for one, other in zip(*map(jax.tree.leaves, (at_once(*given), in_microbatches(*given))), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    moved = collectives(in_microbatches.as_text())
    image = 8 * 8 * 3
    assert set(moved) <= {"all-reduce", "all-gather"}
    assert max(max(sizes(shapes), default=0) for shapes in moved.values()) < count * image / 2
    images = given[1].images
    judged = [jax.jit(probe.encode)([given[2]], images) for probe in (plain, chunked)]
    np.testing.assert_allclose(*judged, rtol=1e-4, atol=1e-5)


def test_chunks_hold_down_the_memory(monkeypatch, two_devices):
    """With 8 images a device at once in place of 128."""
    monkeypatch.setattr(sharding, "CHUNK", 8)
    mesh, plain = sharding.make_mesh(256), build()
    needs = [
        compiled(probe, 256, mesh)[0].memory_analysis().temp_size_in_bytes
        for probe in (plain, dataclasses.replace(plain, mesh=mesh))
    ]
    assert needs[1] < needs[0] / 4


def test_a_step_with_features_that_are_not_finite_is_skipped():
    """Heads, their optimiser and the running statistics stay; the next good step goes on from them."""
    features, labels = digits()
    probe = build(factors=(0.1, 1.0), batch_norm=True)
    state, _ = trained(probe, 3, features, labels)
    found, step = jnp.asarray(features[None, :32, :WIDTH]), jax.jit(probe.step)
    after, metrics = step(state, found.at[0, 5, 7].set(jnp.nan), labels[:32])
    assert (int(after.step), metrics["skipped"], metrics["skipped_in_a_row"], metrics["first_bad_step"]) == (4, 1, 1, 4)
    for field in ("params", "opt_state", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, field), getattr(state, field))
    good, metrics = step(after, found, labels[:32])
    assert (int(good.step), metrics["skipped"], metrics["skipped_in_a_row"]) == (5, 1, 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good))


def test_a_head_that_diverges_leaves_the_others_alone():
    features, labels = digits()
    state, _ = trained(build(factors=(1.0, 1e38), batch_norm=True), 20, features, labels)
    alone, _ = trained(build(factors=(1.0,), batch_norm=True), 20, features, labels)
    assert not np.isfinite(state.params["kernel"][0, 1]).all()
    assert int(state.skipped) == 0
    np.testing.assert_allclose(state.params["kernel"][0, 0], alone.params["kernel"][0, 0], rtol=1e-5, atol=1e-6)
