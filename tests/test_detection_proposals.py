"""Proposals and what a test chooses of them, against loops in NumPy; targets of one image on canvases of two sizes."""

import functools

import jax
import numpy as np

from repre_jax.models.detection import anchors, targets
from repre_jax.models.detection.mask_rcnn import Detecting, choose
from repre_jax.models.detection.proposals import Proposals, propose

CANVAS, EXTENT = (64, 96), np.array([50, 70], np.int32)


def overlap(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = max(sides[0], 0) * max(sides[1], 0)
    return both / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both, 1e-6)


def greedy(boxes, order, threshold):
    """Of the places in `order`, best first, those that no better one suppresses."""
    kept = []
    for place in order:
        if all(overlap(boxes[place], boxes[other]) <= threshold for other in kept):
            kept.append(place)
    return kept


def decoded(anchor, deltas, stds=(1, 1, 1, 1)):
    """float64, clipped to EXTENT."""
    dx, dy, dw, dh = np.asarray(deltas, np.float64) * stds
    x0, y0, x1, y1 = np.asarray(anchor, np.float64)
    w, h = x1 - x0, y1 - y0
    x, y, w, h = (x0 + x1) / 2 + dx * w, (y0 + y1) / 2 + dy * h, w * np.exp(dw), h * np.exp(dh)
    return np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, [EXTENT[1], EXTENT[0]] * 2)


def said(canvas, seed=0):
    """(Logits, deltas) of all anchors of a canvas."""
    rng = np.random.default_rng(seed)
    count = sum(map(len, anchors.anchors(canvas)))
    return rng.normal(size=count).astype(np.float32), (0.3 * rng.normal(size=(count, 4))).astype(np.float32)


def test_proposals_are_the_best_of_each_level_after_suppression():
    logits, deltas = said(CANVAS)
    found = jax.jit(lambda *given: propose(*given, CANVAS, EXTENT, 40, 60))(logits, deltas)
    scores, boxes, start = 1 / (1 + np.exp(-logits.astype(np.float64))), [], 0
    for given, there in zip(anchors.anchors(CANVAS), anchors.valid(CANVAS, EXTENT), strict=True):
        places = [start + i for i in np.flatnonzero(there)]
        order = sorted(places, key=lambda place: -scores[place])[:40]
        level = {place: decoded(given[place - start], deltas[place]) for place in order}
        boxes += [(scores[place], level[place]) for place in greedy(level, order, 0.7)]
        start += len(given)
    boxes = sorted(boxes, key=lambda pair: -pair[0])[:60]
    assert found.valid.all()
    np.testing.assert_allclose(found.scores, [score for score, _ in boxes], atol=1e-6)
    np.testing.assert_allclose(found.boxes, [box for _, box in boxes], atol=1e-3)


def test_slots_without_a_proposal_are_empty():
    logits, deltas = said((32, 32))
    found = jax.jit(lambda *given: propose(*given, (32, 32), np.array([32, 32], np.int32), 300, 900))(
        logits, np.zeros_like(deltas)
    )
    count = int(found.valid.sum())
    assert 0 < count < 258 == len(logits)
    assert found.boxes.shape == (900, 4)
    assert found.valid[:count].all()
    assert not np.asarray(found.boxes[count:]).any()
    assert not np.asarray(found.scores[count:]).any()


def on_larger(canvas, small, values, outside):
    """Values of the anchors of `small`, of the level's corner of a larger canvas; `outside` elsewhere."""
    found, start = [], 0
    for (rows, columns), (height, width) in zip(anchors.level_sizes(small), anchors.level_sizes(canvas), strict=True):
        level = np.full((height, width, 3, *values.shape[1:]), outside, np.float32)
        part = values[start : start + rows * columns * 3]
        level[:rows, :columns] = part.reshape(rows, columns, 3, *values.shape[1:])
        found.append(level.reshape(-1, *values.shape[1:]))
        start += rows * columns * 3
    return np.concatenate(found)


OBJECTS = targets.Objects(
    np.array([[3, 5, 30, 40], [20, 8, 66, 47], [0, 0, 9, 9], [0, 0, 0, 0]], np.float32),
    np.array([2, 0, 1, 0], np.int32),
    np.array([True, True, True, False]),
)
FEW = targets.Sampling(regions=8, region_positives=6)
ALL = targets.Sampling(anchors=5000, anchor_positives=2500)  # all that has a target


@functools.cache
def anchors_of(canvas):
    return jax.jit(lambda key, extent, objects: targets.of_anchors(key, canvas, extent, objects, ALL))


@functools.cache
def regions_of(settings):
    return jax.jit(lambda key, *given: targets.of_regions(key, *given, 3, settings))


def learned(canvas, objects=OBJECTS):
    """What the anchors of a canvas learn: {(x0, y0, x1, y1): (positive, deltas)}."""
    found = anchors_of(canvas)(jax.random.key(0), EXTENT, objects)
    given, used = np.concatenate(anchors.anchors(canvas)), np.asarray(found.used)
    rows = zip(given[found.indices], np.asarray(found.positive), np.asarray(found.deltas), used, strict=True)
    return {
        tuple(box): (bool(positive), *np.round(deltas * positive, 4)) for box, positive, deltas, used in rows if used
    }


def test_a_larger_canvas_changes_neither_targets_nor_proposals():
    small, large = learned(CANVAS), learned((96, 160))
    assert small == large
    assert 5 < sum(positive for positive, *_ in small.values()) < len(small) / 2
    logits, deltas = said(CANVAS)
    wanted = jax.jit(lambda *given: propose(*given, CANVAS, EXTENT, 40, 60))(logits, deltas)
    more = on_larger((96, 160), CANVAS, logits, 50.0), on_larger((96, 160), CANVAS, deltas, 0.0)
    found = jax.jit(lambda *given: propose(*given, (96, 160), EXTENT, 40, 60))(*more)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_without_objects_all_anchors_and_regions_are_background():
    nothing = OBJECTS._replace(valid=np.zeros(4, bool))
    assert not any(positive for positive, *_ in learned(CANVAS, nothing).values())
    proposals = Proposals(np.tile([[0, 0, 20, 20]], (3, 1)).astype(np.float32), np.ones(3), np.arange(3) < 2)
    found = regions_of(FEW)(jax.random.key(0), proposals, nothing)
    assert not found.positive.any()
    assert int(found.used.sum()) == 2
    assert (np.asarray(found.classes)[np.asarray(found.used)] == 3).all()
    assert all(np.isfinite(x).all() for x in found)


def test_regions_are_sampled_among_proposals_and_the_objects_own_boxes():
    """One proposal overlaps the second object by more than one half; the objects' boxes are positives too."""
    near = np.array([22, 8, 66, 47], np.float32)
    proposals = Proposals(
        np.stack([near, [50, 0, 60, 5], [0, 0, 0, 0]]).astype(np.float32), np.ones(3), np.arange(3) < 2
    )
    found = targets.of_regions(
        jax.random.key(0), proposals, OBJECTS, 3, targets.Sampling(regions=8, region_positives=6)
    )
    positive, used = np.asarray(found.positive), np.asarray(found.used)
    assert positive.tolist() == [True] * 4 + [False] * 4
    assert used.tolist() == [True] * 5 + [False] * 3
    rows = {tuple(box): (kind, slot) for box, kind, slot in zip(*map(np.asarray, found[:3]), strict=True)}
    assert rows == {
        (3, 5, 30, 40): (2, 0), (20, 8, 66, 47): (0, 1), (0, 0, 9, 9): (1, 2), tuple(near): (0, 1),
        (50, 0, 60, 5): (3, 0), (0, 0, 0, 0): (3, 0),
    }  # fmt: skip
    place = [tuple(box) for box in np.asarray(found.boxes)].index(tuple(near))
    expected = [-1 / 44 / 0.1, 0, np.log(46 / 44) / 0.2, 0]
    np.testing.assert_allclose(found.deltas[place], expected, atol=1e-5)


def test_few_places_for_positives_go_to_random_ones():
    run = regions_of(targets.Sampling(regions=4, region_positives=1))
    proposals = Proposals(np.zeros((3, 4), np.float32), np.ones(3), np.ones(3, bool))
    found = [run(jax.random.key(seed), proposals, OBJECTS) for seed in range(12)]
    assert all(x.positive.sum() == 1 and x.used.sum() == 4 for x in found)
    assert {int(x.objects[0]) for x in found} == {0, 1, 2}


def chosen_by_loops(logits, deltas, proposals, scale, settings):
    """(score, class, box) of a test's detections."""
    exponents = np.exp(logits.astype(np.float64))
    scores = exponents / exponents.sum(axis=1, keepdims=True)
    found = []
    for category in range(logits.shape[1] - 1):
        boxes = {}
        for i in np.flatnonzero(scores[:, category] > settings.score):
            corners = decoded(proposals[i], deltas[i, category], (0.1, 0.1, 0.2, 0.2))
            boxes[i] = corners / [scale[1], scale[0], scale[1], scale[0]]
        order = sorted(boxes, key=lambda i, category=category: -scores[i, category])
        found += [(scores[i, category], category, boxes[i]) for i in greedy(boxes, order, settings.threshold)]
    return sorted(found, key=lambda row: -row[0])[: settings.detections]


def spoken(seed=1):
    """(Logits of 3 classes and the background, deltas, proposals) of 30 regions, the last 4 of them empty slots."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 40, (30, 2))
    boxes = np.concatenate([low, low + rng.uniform(8, 30, (30, 2))], axis=1).astype(np.float32)
    logits = (1.5 * rng.normal(size=(30, 4))).astype(np.float32)
    deltas = rng.normal(size=(30, 3, 4)).astype(np.float32)
    logits[26:, 0] = 9  # none may come of it
    return logits, deltas, Proposals(boxes, np.ones(30, np.float32), np.arange(30) < 26)


def test_detections_are_suppressed_by_class_at_the_stored_size():
    logits, deltas, proposals = spoken()
    scale = np.array([1.25, 0.8], np.float32)
    settings = Detecting(score=0.1, threshold=0.3, detections=40)
    found = jax.jit(lambda *given: choose(settings, *given))(logits, deltas, proposals, EXTENT, scale)
    expected = chosen_by_loops(logits[:26], deltas[:26], proposals.boxes[:26], scale, settings)
    count = int(found.valid.sum())
    assert 15 < count == len(expected) < 40
    assert found.valid[:count].all()
    np.testing.assert_allclose(found.scores[:count], [row[0] for row in expected], atol=1e-5)
    assert np.asarray(found.classes[:count]).tolist() == [row[1] for row in expected]
    np.testing.assert_allclose(found.boxes[:count], [row[2] for row in expected], atol=1e-3)
    assert not np.asarray(found.boxes[count:]).any()
    assert not found.overflow


def test_more_candidates_than_are_compared_are_told():
    """The best are compared still."""
    logits, deltas, proposals = spoken()
    given = (logits, deltas, proposals, EXTENT, np.ones(2, np.float32))
    above = int((np.asarray(jax.nn.softmax(logits))[:26, :3] > 0.1).sum())
    for candidates, overflow in ((above, False), (above - 1, True)):
        settings = Detecting(score=0.1, detections=3, candidates=candidates)
        found = jax.jit(functools.partial(choose, settings))(*given)
        assert bool(found.overflow) is overflow
        assert found.scores[0] == np.asarray(jax.nn.softmax(logits))[:26, :3].max()
