"""The step of segmentation: its loss, gradients, rates, running statistics; frozen encoders, skipped steps, devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from repre_jax.core import optim, schedules, sharding
from repre_jax.core.types import LabelMaps
from repre_jax.data.dense_augment import Distortion
from repre_jax.models import build_encoder, resize
from repre_jax.models.segmentation import build as heads
from repre_jax.train import segmentation
from repre_jax.train.segmentation import Segmentation

SIZE, CLASSES = (16, 24), 5
KEY = np.zeros(2, np.uint32)
NOTHING = Distortion(0.0, (1.0, 1.0), (1.0, 1.0), 0, 0.0)
RULES = (("^head/", "peak_scale", 10.0),)


def build(head="naive", augmentation=NOTHING, depth=2, **settings):
    """Naive has an auxiliary head for each block but the last."""
    encoder = build_encoder(
        "vit_ti", width=8, depth=depth, heads=1, patch=8, image_size=SIZE, pyramid_blocks=tuple(range(1, depth + 1))
    )
    plan = schedules.resolve(
        records=80, batch_size=8, epochs=1, total_steps=8, lr_per_256=0.32, lr_end=1e-4, shape="poly"
    )
    return Segmentation(
        encoder=encoder,
        head=heads.build(head, CLASSES, encoder),
        optimizer=optim.build("sgd", plan, momentum=0.9, rules=RULES),
        rules=RULES,
        lr=plan.lr,
        augmentation=augmentation,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        **settings,
    )


def weights(method):
    return method.encoder.init(jax.random.key(1), jnp.zeros((1, *SIZE, 3)))["params"]


def start(method):
    return jax.jit(lambda key: method.new_state(weights(method), key))(KEY)


def batch(count=4):
    """A third is padding; of the rest a part is ignored."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, (count, *SIZE)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.1] = 255
    extents = np.full((count, 2), (16, 16), np.int32)
    images[:, :, 16:], labels[:, :, 16:] = 0, 255
    return LabelMaps(images, labels, extents)


def normalised(views):
    pixels = (views.images / np.float32(255) - 0.5) / 0.25
    pixels[:, :, 16:] = 0
    return pixels


def at_full_size(method, state, views):
    """(Logits of the head, of the auxiliary ones, moved statistics) by the module alone, in the size of label maps."""
    output = method.encoder.apply({"params": state.params["encoder"]}, normalised(views))
    variables = {"params": state.params["head"], "batch_stats": state.batch_stats["head"]}
    found, moved = method.head.apply(variables, output, train=True, mutable=["batch_stats"])
    return *jax.tree.map(lambda x: resize.bilinear(x, SIZE), (found.logits, found.auxiliary)), moved["batch_stats"]


def cross_entropy(logits, labels):
    there = labels != 255
    of_pixel = optax.softmax_cross_entropy_with_integer_labels(logits, np.where(there, labels, 0)) * there
    return of_pixel.sum() / there.sum()


@functools.cache
def compiled():
    """(A method, its first state, its step): compiled once, in bands of two rows."""
    method = build(over="labelled", auxiliary_weight=0.3)
    state = start(method)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation, "BAND", 4 * 24 * CLASSES * 2)
        step = jax.jit(method.train_step).lower(state, batch()).compile()
    return method, state, step


def rates(at_step):
    """What build() asks for: poly from a peak that is ten times as high for heads, to a floor that they share."""
    left = (1 - at_step / 8) ** 0.9
    return {part: (peak - 1e-4) * left + 1e-4 for part, peak in (("encoder", 0.01), ("head", 0.1))}


def test_steps_are_sgd_with_momentum_on_the_weighted_losses_of_all_heads():
    (method, state, step), views = compiled(), batch()
    after, metrics = step(state, views)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params):
        logits, auxiliary, moved = at_full_size(method, dataclasses.replace(state, params=params), views)
        losses = [cross_entropy(each, views.label_maps) for each in (logits, *auxiliary)]
        return losses[0] + 0.3 * sum(losses[1:]), (losses[0], len(auxiliary), logits, moved)

    (value, (own, count, logits, moved)), grads = loss(state.params)
    assert count == 1
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-5)
    assert metrics["pixel_loss"] == pytest.approx(float(own), rel=1e-5)
    there = views.label_maps != 255
    right = (logits.argmax(-1) == views.label_maps)[there].mean()
    assert metrics["train_pixel_accuracy"] == pytest.approx(float(right), rel=1e-6)
    for part, rate in rates(0).items():
        expected = jax.tree.map(lambda p, g, rate=rate: p - rate * g, state.params[part], grads[part])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), after.params[part], expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after.batch_stats["head"], moved)

    second, _ = step(after, views)
    velocity = jax.tree.map(lambda new, old: new + 0.9 * old, loss(after.params)[1], grads)
    for part, rate in rates(1).items():
        expected = jax.tree.map(lambda p, v, rate=rate: p - rate * v, after.params[part], velocity[part])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=4e-6), second.params[part], expected)


def test_padding_is_0_after_normalising_and_ignored():
    method = build(augmentation=dataclasses.replace(NOTHING, flip_probability=1.0))
    views = batch()
    images, labels = jax.jit(method.augment)(jax.random.key(0), views, jnp.arange(4))
    np.testing.assert_allclose(images[:, :, :16], normalised(views)[:, :, 15::-1], atol=1e-5)
    assert not np.asarray(images[:, :, 16:]).any()
    np.testing.assert_array_equal(labels[:, :, :16], views.label_maps[:, :, 15::-1])
    assert (np.asarray(labels[:, :, 16:]) == 255).all()


def test_a_frozen_encoder_stands_beside_the_state_and_microbatches_move_the_statistics_in_turn():
    """Each by its own batch: not what one large batch would do."""
    method, views = build("linear", depth=1, frozen=True, accumulate=2), batch()
    encoder = weights(method)
    state = jax.jit(method.new_state)(encoder, KEY)
    assert set(state.params) == {"head"}
    step = jax.jit(method.train_step)
    after, metrics = step(state, views, encoder)
    assert metrics["gradient_norm"] > 0
    assert step(state, views, jax.tree.map(lambda x: x + 0.1, encoder))[1]["loss"] != metrics["loss"]
    output = jax.jit(lambda x: method.encoder.apply({"params": encoder}, x).tokens)(normalised(views))
    mean = np.zeros(8)
    for number in range(2):
        mean = 0.9 * mean + 0.1 * np.asarray(output[number::2]).mean(axis=(0, 1))
    np.testing.assert_allclose(after.batch_stats["head"]["bn"]["mean"], mean, atol=1e-5)


def test_a_skipped_step_moves_neither_parameters_nor_statistics():
    _, state, step = compiled()
    bias = jnp.full(CLASSES, jnp.nan)
    params = state.params | {"head": state.params["head"] | {"decode": state.params["head"]["decode"] | {"classify": {
        "kernel": state.params["head"]["decode"]["classify"]["kernel"], "bias": bias}}}}  # fmt: skip
    broken = dataclasses.replace(state, params=params)
    after, metrics = step(broken, batch())
    assert (int(after.step), int(after.skipped), metrics["skipped_in_a_row"]) == (1, 1, 1)
    jax.tree.map(np.testing.assert_array_equal, after.params, broken.params)
    jax.tree.map(np.testing.assert_array_equal, after.batch_stats, broken.batch_stats)


def test_tests_go_by_running_statistics():
    method, views = build("linear", depth=1), batch()
    state = start(method)
    images = normalised(views)
    logits = jax.jit(method.logits)
    found = logits(state.params, state.batch_stats, images)
    assert found.shape == (4, *SIZE, CLASSES)
    images[1:] += 3
    np.testing.assert_allclose(logits(state.params, state.batch_stats, images)[0], found[0], atol=1e-5)
    moved = jax.tree.map(lambda x: x + 1.0, state.batch_stats)
    assert np.abs(logits(state.params, moved, images)[0] - found[0]).max() > 1e-3


def test_two_devices_do_as_one_does(two_devices):
    """Statistics are those of the global microbatch."""
    method = build("linear", depth=1, augmentation=Distortion(), accumulate=2)
    state, views = start(method), batch(8)
    one, _ = jax.jit(method.train_step)(state, views)
    mesh = sharding.make_mesh(8, 2)
    spread = jax.device_put(state, sharding.replicated(mesh))
    many, _ = jax.jit(method.train_step)(spread, sharding.shard_batch(views, mesh))
    for a, b in zip(jax.tree.leaves((one.params, one.batch_stats)), jax.tree.leaves((many.params, many.batch_stats)),
                    strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, atol=1e-4)
