"""The fine-tuning step: layer decay, the head, gradients, steps that are skipped, devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from repre_jax.core import optim, schedules, sharding
from repre_jax.core.types import LabelledImages
from repre_jax.data.mixing import Mixing
from repre_jax.models import build_encoder
from repre_jax.models.classifier import Classifier
from repre_jax.train.supervised import Supervised, layer_decay

SIZE = (8, 12)
KEY = np.zeros(2, np.uint32)  # jax.random.PRNGKey(0), without starting JAX while tests are collected


def vit(depth=3, **settings):
    size = {"width": 16, "depth": depth, "heads": 2, "patch": 4, "pyramid_levels": 1, "image_size": SIZE}
    return build_encoder("vit_ti", **size | settings)


def swin():
    return build_encoder("swin_t", width=8, depth=(1, 2), heads=(1, 2), patch=2, window=2, image_size=SIZE)


def build(encoder=None, accumulate=1, rules=(), mixing=None, erase=0.0, flip=0.0, lr=2.0, mean_then_norm=True):
    encoder = encoder or vit(1)
    plan = schedules.resolve(records=80, batch_size=8, epochs=1, total_steps=8, lr_per_256=lr, weight_decay=0.05)
    return Supervised(
        encoder=encoder,
        classifier=Classifier(5, mean_then_norm, 0.1),
        optimizer=optim.build("adamw", plan, rules=rules),
        rules=rules,
        lr=plan.lr,
        mixing=mixing or Mixing(0.0, 0.0, smoothing=0.0),
        erase_probability=erase,
        flip_probability=flip,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        accumulate=accumulate,
    )


def start(method):
    return jax.jit(lambda key: fresh(method, key))(KEY)


def fresh(method, key):
    weights = method.encoder.init(jax.random.key(1), jnp.zeros((1, *SIZE, 3)))["params"]
    return method.new_state(weights, key)


def batch(count=8):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)
    return LabelledImages(images=images, labels=rng.integers(0, 5, count).astype(np.int32))


def scales(encoder, decay):
    params = jax.eval_shape(lambda key: fresh(build(encoder, mean_then_norm=False), key), KEY).params
    tree = optim.values_by_path(params, layer_decay(encoder, decay), "lr_scale")
    return traverse_util.flatten_dict(tree, sep="/")


def test_layer_decay_is_maes_for_each_parameter():
    """decay^(L + 1 - i): 0 is patches, positions, class token; b the block b; L + 1 the rest (recipes.md 7.2)."""
    powers = {"patch_embed": 4, "cls_token": 4, "pos_embed": 4, "block_1": 3, "block_2": 2, "block_3": 1, "norm": 0}
    found = scales(vit(3), 0.5)
    assert len(found) == 4 + 3 * 12 + 2 + 2
    for path, scale in found.items():
        part = path.split("/")[1] if path.startswith("encoder/") else "norm"
        assert scale == 0.5 ** powers[part], path


def test_layer_decay_counts_a_swins_blocks_through_all_stages():
    powers = {"patch_embed": 4, "patch_norm": 4, "stage_1_block_1": 3, "stage_1_merge": 3, "stage_2_block_1": 2,
              "stage_2_block_2": 1, "norm": 0}  # fmt: skip
    for path, scale in scales(swin(), 0.5).items():
        part = path.split("/")[1] if path.startswith("encoder/") else "norm"
        assert scale == 0.5 ** powers[part], path
    assert layer_decay(swin(), 1.0) == ()
    deep = scales(vit(12), 0.65)  # block_1 is no beginning of block_10's name
    assert deep["encoder/block_1/mlp/fc1/kernel"] == pytest.approx(0.65**12)
    assert deep["encoder/block_10/mlp/fc1/kernel"] == pytest.approx(0.65**3)


def test_maes_head_normalises_the_mean_of_the_last_blocks_patches():
    method = build(vit(2))
    state = start(method)
    images = np.random.default_rng(0).normal(size=(2, *SIZE, 3)).astype(np.float32)
    output = jax.jit(lambda params: method.encoder.apply({"params": params}, images))(state.params["encoder"])
    raw = np.asarray(output.pyramid[-1]).mean(axis=(1, 2))
    normed = (raw - raw.mean(-1, keepdims=True)) / np.sqrt(raw.var(-1, keepdims=True) + 1e-6)
    head = state.params["head"]["head"]
    found = jax.jit(method.logits)(state.params, images)
    np.testing.assert_allclose(found, normed @ head["kernel"] + head["bias"], atol=1e-5)


def test_one_step_is_adamw_on_the_cross_entropy():
    method = build(rules=layer_decay(vit(1), 0.5))
    state, views = start(method), batch()
    after, metrics = jax.jit(method.train_step)(state, views)
    images = (views.images / np.float32(255) - 0.5) / 0.25

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params):
        logits = method.logits(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, views.labels).mean(), logits

    (value, logits), grads = loss(state.params)
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-5)
    assert metrics["gradient_norm"] == pytest.approx(float(optax.tree.norm(grads)), rel=1e-4)
    assert metrics["train_top1"] == (logits.argmax(-1) == views.labels).mean()
    rate = float(metrics["lr"])
    for part, scale in ((("head", "head", "kernel"), 1), (("encoder", "block_1", "mlp", "fc1", "kernel"), 0.5)):
        before, gradient, now = (_at(tree, part) for tree in (state.params, grads, after.params))
        expected = before - rate * scale * (gradient / (np.abs(gradient) + 1e-8) + 0.05 * before)
        np.testing.assert_allclose(now, expected, atol=2e-3 * rate)


@pytest.mark.parametrize(
    ("drawn", "settings"),
    [
        (True, {"encoder": vit(3, drop_path=0.5)}),
        (True, {"mixing": Mixing(0.8, 1.0)}),
        (False, {}),
    ],
)
def test_each_step_draws_dropped_paths_and_mixtures_anew(drawn, settings):
    """Of the same images with the same parameters; without either, nothing is drawn."""
    method, views = build(**settings), batch()
    step = jax.jit(method.train_step)
    first = start(method)
    losses = [step(dataclasses.replace(first, step=jnp.int32(number)), views)[1]["loss"] for number in range(3)]
    assert len(set(map(float, losses))) == (3 if drawn else 1)


def _at(tree, path):
    for name in path:
        tree = tree[name]
    return np.asarray(tree)


def test_augmentation_erases_normalised_images_and_then_mixes():
    method = build(mixing=Mixing(0.8, 0.0, smoothing=0.1), erase=1.0, flip=1.0)
    views, rows = batch(), jnp.arange(8)
    images, targets = method.augment(jax.random.key(3), views, rows)
    plain = build(flip=1.0)
    unmixed, hard = plain.augment(jax.random.key(3), views, rows)
    np.testing.assert_allclose(unmixed, (views.images[:, :, ::-1] / np.float32(255) - 0.5) / 0.25, atol=1e-5)
    np.testing.assert_array_equal(hard, jax.nn.one_hot(views.labels, 5))
    unmixing = dataclasses.replace(method, mixing=Mixing(0.0, 0.0, smoothing=0.1))
    erased, smooth = map(np.asarray, unmixing.augment(jax.random.key(3), views, rows))
    assert 0 < (erased != unmixed).mean() < 0.6
    differ = smooth != smooth[::-1]
    share = np.median((targets - smooth[::-1])[differ] / (smooth - smooth[::-1])[differ])
    assert 0 < share < 1
    np.testing.assert_allclose(images, share * erased + (1 - share) * erased[::-1], atol=1e-4)


def test_what_is_not_finite_moves_nothing():
    method = build(lr=2.0)
    state = start(method)
    broken = dataclasses.replace(method, mean=(np.nan,) * 3)
    after, metrics = jax.jit(broken.train_step)(state, batch())
    assert (int(after.step), int(after.skipped), int(after.first_bad_step)) == (1, 1, 1)
    assert metrics["skipped_in_a_row"] == 1
    for one, two in zip(jax.tree.leaves(after.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_devices_do_as_one_does(two_devices, accumulate):
    method = build(mixing=Mixing(), erase=0.5, flip=0.5, accumulate=accumulate)
    state, views = start(method), batch(16)
    one, _ = jax.jit(method.train_step)(state, views)
    mesh = sharding.make_mesh(16, accumulate)
    spread = jax.device_put(state, sharding.replicated(mesh))
    many, _ = jax.jit(method.train_step)(spread, sharding.shard_batch(views, mesh))
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
