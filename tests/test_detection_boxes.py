"""Boxes, anchors and suppression, beside torchvision's (tests/golden/detection_geometry.py) and by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.models.detection import anchors, boxes
from repre_jax.models.detection.nms import nms
from tests.golden.detection_boxes import STDS, THRESHOLDS, crowded
from tests.golden.detection_boxes import boxes as drawn
from tests.golden.named_values import value

GOLDEN = Path(__file__).parent / "golden" / "detection_geometry.npz"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


def test_overlaps_are_torchvisions(golden):
    found = boxes.iou(drawn("first", 30), drawn("second", 20))
    np.testing.assert_allclose(found, golden["iou"], atol=1e-6)
    assert 0.5 < golden["iou"].max() < 1


def test_overlaps_by_hand():
    first = jnp.array([[0.0, 0, 4, 4], [2, 2, 2, 9]])
    second = jnp.array([[2.0, 0, 6, 4], [0, 0, 4, 4], [4, 0, 8, 4], [2, 2, 2, 9]])
    np.testing.assert_array_equal(boxes.iou(first, second), [[np.float32(8 / 24), 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(boxes.area(second), [16, 16, 16, 0])
    assert boxes.area(jnp.array([5.0, 5, 3, 3])) == 0  # the other way round, not 4


def test_deltas_are_torchvisions_and_come_back(golden):
    at, to = drawn("anchors", 30), drawn("targets", 30)
    encoded = boxes.encode(at, to, STDS)
    decoded = boxes.decode(at, value("deltas", (30, 4)), STDS)
    np.testing.assert_allclose(encoded, golden["encoded"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(decoded, golden["decoded"], rtol=1e-4, atol=1e-3)
    held = np.abs(encoded[:, 2:] * 0.2).max(axis=1) > boxes.MOST_LOG
    assert held.sum() < 5
    np.testing.assert_allclose(boxes.decode(at, encoded, STDS)[~held], to[~held], rtol=1e-4, atol=1e-3)


def test_sides_change_at_most_by_a_factor_of_62_and_a_half_either_way():
    at = jnp.array([10.0, 20, 30, 24])
    far = jnp.array([[0, 0, 9.0, 9.0], [0, 0, -9.0, -9.0], [0, 0, 4.1, -4.1]])  # broadcast: one box, three deltas
    found = boxes.decode(at, far)
    sides = found[:, 2:] - found[:, :2]
    expected = [[20 * 62.5, 4 * 62.5], [20 / 62.5, 4 / 62.5], [20 * np.exp(4.1), 4 * np.exp(-4.1)]]
    np.testing.assert_allclose(sides, expected, rtol=1e-4)
    np.testing.assert_allclose((found[:, 2:] + found[:, :2]) / 2, [[20, 22]] * 3, rtol=1e-4)


def test_deltas_of_empty_boxes_are_finite():
    empty, full = jnp.zeros(4), jnp.array([0.0, 0, 8, 8])
    for at, to in ((empty, full), (full, empty), (empty, empty)):
        assert np.isfinite(boxes.encode(at, to)).all()


def test_boxes_are_clipped_to_the_images_extent():
    given = jnp.array([[-3.0, 5, 70, 60], [10, -1, 20, 30]])
    np.testing.assert_array_equal(boxes.clip(given, jnp.array([50, 64])), [[0, 5, 64, 50], [10, 0, 20, 30]])


def test_anchors_by_hand():
    levels = anchors.anchors((96, 160))
    assert anchors.level_sizes((96, 160)) == ((24, 40), (12, 20), (6, 10), (3, 5), (2, 3))
    assert [len(level) for level in levels] == [2880, 720, 180, 45, 18]
    assert all(level.dtype == np.float32 for level in levels)
    finest = levels[0].reshape(24, 40, 3, 4)
    np.testing.assert_allclose(finest[0, 0, 1], [-16, -16, 16, 16])
    wide, high = 16 * 2**0.5, 16 / 2**0.5
    np.testing.assert_allclose(finest[2, 5, 0], [20 - wide, 8 - high, 20 + wide, 8 + high], rtol=1e-6)  # height / width
    np.testing.assert_allclose(finest[2, 5, 2], [20 - high, 8 - wide, 20 + high, 8 + wide], rtol=1e-6)
    np.testing.assert_allclose(levels[4].reshape(2, 3, 3, 4)[1, 2, 1], [128 - 256, 64 - 256, 128 + 256, 64 + 256])
    assert sum(h * w * 3 for h, w in anchors.level_sizes((800, 1344))) == 268569


def test_an_image_has_the_same_valid_anchors_on_any_canvas():
    extent = jnp.array([60, 97])  # 64 x 128 with padding
    valid = jax.jit(anchors.valid, static_argnums=0)
    small, large = valid((64, 128), extent), valid((96, 160), extent)
    assert all(level.all() for level in small)
    corners = zip(anchors.anchors((64, 128)), anchors.anchors((96, 160)), large, strict=True)
    for of_small, of_large, inside in corners:
        np.testing.assert_array_equal(of_large[np.asarray(inside)], of_small)
    rows = np.asarray(large[4]).reshape(2, 3, 3)[..., 0]
    np.testing.assert_array_equal(rows, [[True, True, False], [False, False, False]])  # 64 / 64, 128 / 64


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_suppression_is_torchvisions(golden, threshold):
    suppress = jax.jit(nms)
    given = (crowded(), value("scores", (500,)), np.ones(500, bool), threshold)
    kept, in_groups = suppress(*given, np.zeros(500, int)), suppress(*given, np.arange(500) % 5)
    np.testing.assert_array_equal(kept, golden[f"nms/one/{threshold}"])
    np.testing.assert_array_equal(in_groups, golden[f"nms/groups/{threshold}"])
    assert 20 < kept.sum() < in_groups.sum() < 450


def test_invalid_boxes_suppress_nothing_and_equal_scores_keep_the_first():
    given = jnp.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [50, 0, 60, 10], [50, 0, 60, 5]])
    scores = jnp.array([0.9, 0.5, 0.5, 0.1, 0.2])
    valid = jnp.array([False, True, True, True, True])
    suppress = jax.jit(nms)
    found = suppress(given, scores, valid, 0.5)
    np.testing.assert_array_equal(found, [False, True, False, True, True])  # the last two's IoU is .5
    np.testing.assert_array_equal(suppress(given, scores, valid, 0.49), [False, True, False, False, True])
    assert not suppress(given, scores, jnp.zeros(5, bool), 0.5).any()


def test_a_chain_of_boxes_is_decided_from_its_start_also_over_a_batch():
    """Each suppresses the next, so that every second one is kept: as many rounds as boxes."""
    places = np.arange(40)
    chain = np.stack([places, 0 * places, places + 2.5, 0 * places + 1], axis=1).astype(np.float32)
    scores = np.linspace(1, 0, 40, dtype=np.float32)
    order = np.random.default_rng(0).permutation(40)
    batch = np.stack([chain, chain[order]])
    kept = jax.jit(jax.vmap(lambda b, s: nms(b, s, jnp.ones(40, bool), 0.4)))(batch, np.stack([scores, scores[order]]))
    np.testing.assert_array_equal(kept[0], places % 2 == 0)
    np.testing.assert_array_equal(kept[1], order % 2 == 0)
