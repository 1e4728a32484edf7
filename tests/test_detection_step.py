"""The step of detection by a Swin: its losses, images without objects, boxes alone, microbatches, devices; and a test.

A ViT's is run by test_detect.py."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.core import optim, schedules, sharding
from repre_jax.core.types import ObjectImages
from repre_jax.models import build_encoder
from repre_jax.models.detection import anchors, mask_rcnn, necks, targets
from repre_jax.models.detection.mask_rcnn import Detecting
from repre_jax.train import microbatches, update
from repre_jax.train.detection import Detection
from tests.helpers.collectives import collectives

SIZE, CLASSES, SLOTS = (32, 64), 3, 4
KEY = np.zeros(2, np.uint32)
EVERYTHING = targets.Sampling(  # of anchors: what is learned of them then is no matter of chance
    anchors=600, anchor_positives=300, regions=12, region_positives=6, per_level=20, proposals=20
)
PARTS = ("objectness_loss", "anchor_box_loss", "class_loss", "box_loss")


def build(masks=True, **settings):
    encoder = build_encoder("swin_t", width=8, depth=(1, 1, 1, 1), heads=(1, 1, 1, 1), window=4)
    plan = schedules.resolve(records=80, batch_size=4, epochs=1, total_steps=8, lr_per_256=0.32)
    return Detection(
        mask_rcnn.build(encoder, CLASSES, masks=masks, width=8, hidden=16),
        optim.build("sgd", plan, momentum=0.9),
        (),
        plan.lr,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        sampling=EVERYTHING,
        testing=Detecting(per_level=20, proposals=20, score=0.2, detections=6),
        **settings,
    )


def start(method):
    encoder = method.model.encoder.init(jax.random.key(1), jnp.zeros((1, *SIZE, 3)))["params"]
    return jax.jit(method.new_state)(encoder, KEY)


def batch(count=2, masks=True):
    """The first image has two objects, the others none; the right fourth is padding."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)
    images[:, :, 48:] = 0
    boxes, bitmaps = np.zeros((count, SLOTS, 4), np.float32), np.zeros((count, SLOTS, *SIZE), bool)
    for slot, (x0, y0, x1, y1) in enumerate([(2, 3, 30, 31), (25, 0, 48, 20)]):
        boxes[0, slot] = x0, y0, x1, y1
        bitmaps[0, slot, y0:y1, x0:x1] = True
    valid = np.zeros((count, SLOTS), bool)
    valid[0, :2] = True
    return ObjectImages(
        images=images,
        extents=np.full((count, 2), (32, 48), np.int32),
        boxes=boxes,
        classes=np.full((count, SLOTS), (2, 0, 0, 0), np.int32),
        valid=valid,
        masks=np.packbits(bitmaps, axis=-1) if masks else np.zeros((count, SLOTS, 0, 0), np.uint8),
        records=np.arange(count, dtype=np.int32),
        scale=np.full((count, 2), (0.5, 2.0), np.float32),
        sizes=np.full((count, 2), (64, 24), np.int32),
    )


@functools.cache
def compiled():
    """(A method, its first state, its gradients by state, two images, their rows and key), compiled once."""
    method = build()
    state, places = start(method), np.arange(2, dtype=np.int32)
    program = jax.jit(method.gradients).lower(state, batch(), places, state.rng).compile()

    def gradients(state, views, rows=places, key=None):
        return program(state, views, rows, state.rng if key is None else key)

    return method, state, gradients


def nothing(views):
    return dataclasses.replace(views, valid=np.zeros_like(views.valid))


def test_the_loss_is_the_sum_of_five_and_that_of_anchors_is_of_all_that_have_a_target():
    """The objectness by hand: binary cross-entropy over all of the first image's assigned anchors, and the second's,
    which are background."""
    method, state, gradients = compiled()
    _, carried, metrics = gradients(state, batch())
    assert carried == {}
    assert float(metrics["loss"]) == pytest.approx(
        sum(float(metrics[name]) for name in (*PARTS, "mask_loss")), rel=1e-6
    )
    assert all(float(metrics[name]) > 0 for name in (*PARTS, "mask_loss"))
    assert float(metrics["mask_loss"]) == pytest.approx(np.log(2), rel=0.3)
    assert float(metrics["class_loss"]) == pytest.approx(np.log(CLASSES + 1), rel=0.3)

    images = (batch().images / np.float32(255) - 0.5) / 0.25
    images[:, :, 48:] = 0
    said = jax.jit(lambda params, images: method.model.of_anchors(params, method.model.levels(params, images)))
    logits = np.asarray(said(state.params, images)[0], np.float64)
    given = np.concatenate(anchors.anchors(SIZE))
    there = np.concatenate(anchors.valid(SIZE, np.array([32, 48])))
    objects = batch().boxes[0, :2]
    low, high = np.maximum(given[:, None, :2], objects[:, :2]), np.minimum(given[:, None, 2:], objects[:, 2:])
    both = np.maximum(high - low, 0).prod(-1)
    sides = (given[:, 2:] - given[:, :2]).prod(-1)[:, None] + (objects[:, 2:] - objects[:, :2]).prod(-1)
    overlaps = np.where(there[:, None], both / (sides - both), -1)
    positive = (overlaps.max(1) >= 0.7) | ((overlaps == overlaps.max(0)) & (overlaps.max(0) >= 0.3)).any(1)
    negative = there & (overlaps.max(1) < 0.3) & ~positive
    losses = [np.log1p(np.exp(-logits[0][positive])), np.log1p(np.exp(logits[0][negative])),
              np.log1p(np.exp(logits[1][there]))]  # fmt: skip
    count = positive.sum() + negative.sum() + 1 + there.sum()
    assert 2 <= positive.sum() < 300
    assert float(metrics["objectness_loss"]) == pytest.approx(sum(x.sum() for x in losses) / count, rel=1e-4)


def test_images_without_objects_give_finite_gradients_and_none_for_boxes_and_masks():
    _, state, gradients = compiled()
    found, _, metrics = gradients(state, nothing(batch()))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
    assert [float(metrics[name]) for name in ("anchor_box_loss", "box_loss", "mask_loss", "positive_regions")] == [
        0
    ] * 4
    assert float(metrics["class_loss"]) > 0
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(found["mask_head"]))
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(found["box_head"]["deltas"]))
    assert all(np.asarray(x).any() for x in jax.tree.leaves(found["box_head"]["classify"]))


def test_every_part_learns_from_an_image_with_objects():
    _, state, gradients = compiled()
    found, _, metrics = gradients(state, batch())
    assert 1 <= float(metrics["positive_regions"]) <= 3
    for part, tree in found.items():
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(tree)), part
        assert sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(tree)) > 0, part


def test_what_is_sampled_depends_on_the_image_and_the_step():
    """The same records, at other places of the batch or in another step, learn from other regions."""
    _, state, gradients = compiled()
    views = nothing(batch())
    first = float(gradients(state, views)[2]["class_loss"])
    assert float(gradients(state, views)[2]["class_loss"]) == first
    later = dataclasses.replace(state, step=state.step + 1)
    assert float(gradients(later, views)[2]["class_loss"]) != first


def test_two_devices_learn_in_microbatches_what_one_learns_of_each(two_devices):
    _, state, gradients = compiled()
    views = batch(4)
    parts = []
    for number in range(2):  # rows 0 and 2, then 1 and 3: one on each device
        rows = np.arange(number, 4, 2, dtype=np.int32)
        key = jax.random.fold_in(state.rng, np.uint32(microbatches.KEY + number))
        parts.append(gradients(state, jax.tree.map(lambda x, rows=rows: x[rows], views), rows, key))
    mean, _, metrics = jax.tree.map(lambda *values: sum(values) / 2, *parts)

    mesh = sharding.make_mesh(4, 2)
    method = build(accumulate=2, mesh=mesh)
    found, said = jax.jit(method.train_step)(
        jax.device_put(state, sharding.replicated(mesh)), sharding.shard_batch(views, mesh)
    )
    assert (int(found.step), int(found.skipped)) == (1, 0)
    for name in (*PARTS, "mask_loss"):
        assert float(said[name]) == pytest.approx(float(metrics[name]), rel=1e-5), name
    wanted, _ = jax.jit(functools.partial(update.update, optimizer=method.optimizer, rules=()))(
        state, mean, {}, metrics
    )
    for a, b in zip(jax.tree.leaves(wanted.params), jax.tree.leaves(found.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


class OfMaps(mask_rcnn.MaskRcnn):
    """Reads its pyramid among the parameters."""

    def levels(self, params, images, key=None):
        return params["maps"]


def test_losses_are_the_same_on_a_larger_canvas():
    """Where the maps are: beyond the smaller canvas they are 0, as they are for a convolution at its border. What an
    encoder makes of padding is another matter. All anchors and regions are learned from, so that chance has no part."""
    small, large, extent = (64, 96), (96, 160), (48, 80)
    rng, method = np.random.default_rng(0), build()
    everything = targets.Sampling(
        anchors=1600, anchor_positives=800, regions=24, region_positives=24, per_level=20, proposals=20
    )
    method = dataclasses.replace(method, model=OfMaps(**vars(method.model)), sampling=everything)
    random = lambda shape: 0.3 * rng.normal(size=shape).astype(np.float32)  # noqa: E731
    params = jax.tree.map(lambda x: random(x.shape), jax.eval_shape(lambda: start(method).params))
    maps = [random((1, small[0] // stride, small[1] // stride, 8)) for stride in anchors.STRIDES[:-1]]
    boxes = np.float32([(2, 3, 40, 45), (35, 5, 80, 48), (50, 20, 62, 32), (0, 0, 0, 0)])[None]

    def losses(canvas):
        margins = [
            (*((0, a // stride - b // stride) for a, b in zip(canvas, small, strict=True)), (0, 0))
            for stride in anchors.STRIDES[:-1]
        ]
        padded = [np.pad(x, ((0, 0), *margin)) for x, margin in zip(maps, margins, strict=True)]
        masks = np.zeros((1, SLOTS, *canvas), bool)
        for slot, (x0, y0, x1, y1) in enumerate(boxes[0].astype(int)):
            masks[0, slot, y0:y1, x0:x1] = np.tri(y1 - y0, x1 - x0)
        views = ObjectImages(
            images=np.zeros((1, *canvas, 3), np.uint8),
            extents=np.int32([extent]),
            boxes=boxes,
            classes=np.int32([[2, 0, 1, 0]]),
            valid=np.array([[True, True, True, False]]),
            masks=np.packbits(masks, axis=-1),
            records=np.zeros(1, np.int32),
            scale=np.ones((1, 2), np.float32),
            sizes=np.int32([extent]),
        )
        given = params | {"maps": necks.with_coarsest(padded)}
        return jax.jit(method._losses)(given, views, views.images, np.zeros((1, 2, 2), np.uint32), KEY)[1]

    found, wanted = losses(large), losses(small)
    assert float(wanted["positive_regions"]) >= 3
    for name in (*PARTS, "mask_loss", "positive_regions", "region_accuracy"):
        assert float(wanted[name]) > 0, name
        assert float(found[name]) == pytest.approx(float(wanted[name]), rel=1e-5), name


def test_a_device_samples_from_its_own_images_and_asks_no_other(two_devices):
    """The same as where one device has all of them, of the same keys."""
    mesh = sharding.make_mesh(4)
    views, method = batch(4), build()
    rng = np.random.default_rng(1)
    total = sum(map(len, anchors.anchors(SIZE)))
    keys = np.asarray(jax.random.split(KEY, 4))
    logits = rng.normal(size=(4, total)).astype(np.float32)
    deltas = rng.normal(size=(4, total, 4)).astype(np.float32)
    objects = targets.Objects(views.boxes, views.classes, views.valid)

    def sampled(method, keys, logits, deltas, extents, objects):
        return (
            method.anchors(keys, extents, objects, SIZE),
            method.regions(keys, logits, deltas, extents, objects, SIZE),
        )

    given = keys, logits, deltas, views.extents, objects
    alone = jax.jit(functools.partial(sampled, method))(*given)
    split = functools.partial(sampled, dataclasses.replace(method, mesh=mesh))
    program = jax.jit(split).lower(*sharding.shard_batch(given, mesh)).compile()
    assert collectives(program.as_text()) == {}
    assert alone[1].positive.sum() >= 2
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(program(*sharding.shard_batch(given, mesh))), strict=True):
        np.testing.assert_array_equal(a, b)


def test_boxes_alone_need_no_masks():
    """Traced alone: what becomes of its losses is the same as with masks."""
    method = build(masks=False)

    def parts():
        encoder = method.model.encoder.init(jax.random.key(1), jnp.zeros((1, *SIZE, 3)))["params"]
        state = method.new_state(encoder, KEY)
        return state.params, method.gradients(state, batch(masks=False), np.arange(2), state.rng)[2]

    params, metrics = jax.eval_shape(parts)
    assert set(params) == {"encoder", "neck", "anchor_head", "box_head"}
    assert {name for name in metrics if name.endswith("_loss")} == set(PARTS)


def test_a_test_finds_boxes_of_the_stored_image_and_the_masks_of_their_classes():
    """Stored images are twice as high as those that the detector sees, and half as wide."""
    method, state, _ = compiled()
    model, views = method.model, batch()

    @jax.jit
    def run(params):
        found = method.detections(params, views)
        levels = model.levels(params, method.normalised(views))
        on_canvas = found.boxes * np.array([2.0, 0.5, 2.0, 0.5], np.float32)
        return found, on_canvas, model.of_masks(params, levels, on_canvas)

    found, on_canvas, logits = run(state.params)
    assert found.valid.all()
    assert found.boxes.shape == (2, 6, 4)
    assert (np.asarray(on_canvas) <= [48, 32, 48, 32]).all()
    assert np.asarray(found.boxes)[..., 3].max() > 32
    assert (np.diff(found.scores) <= 0).all()
    own = np.take_along_axis(np.asarray(logits), np.asarray(found.classes)[..., None, None, None], axis=-1)[..., 0]
    np.testing.assert_allclose(found.masks, 1 / (1 + np.exp(-own)), atol=1e-5)
    assert not found.overflow.any()
