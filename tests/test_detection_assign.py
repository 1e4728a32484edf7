"""Which object an anchor answers for, beside a brute-force reading of the rule, and which anchors are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.models.detection import anchors
from repre_jax.models.detection.assign import assign
from repre_jax.models.detection.sample import sample

RPN, BOX_HEAD = (0.7, 0.3, 0.3), (0.5, 0.5, 0.5)  # positive, negative, lowest
SLOTS = 12  # more than are taken at once
compute = jax.jit(assign)


def overlap(box, other):
    """float32, as the rule compares for equality; exact but for one division where sides are whole numbers."""
    width = max(min(box[2], other[2]) - max(box[0], other[0]), np.float32(0))
    height = max(min(box[3], other[3]) - max(box[1], other[1]), np.float32(0))
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (box, other)]
    return np.float32(width * height) / max(np.float32(areas[0] + areas[1] - width * height), np.float32(1e-6))


def expected(boxes, valid, objects, positive, negative, lowest):
    """Only objects that are there."""
    found = np.full(len(boxes), -1)
    if not len(objects):
        found[valid] = 0
        return found
    table = np.array([[overlap(box, other) for other in objects] for box in boxes], np.float32)
    table[~valid] = -1
    best = table.max(axis=1)
    found[(best >= 0) & (best < np.float32(negative))] = 0
    for number, row in enumerate(table):
        if best[number] >= np.float32(positive):
            found[number] = row.argmax() + 1
    for number, column in enumerate(table.T):
        if column.max() >= np.float32(lowest):
            found[column == column.max()] = number + 1
    found[~valid] = -1
    return found


def padded(objects):
    """In SLOTS slots, the rest filled with boxes that would be somebody's best."""
    slots = np.tile(np.float32([[0, 0, 64, 64]]), (SLOTS, 1))
    slots[: len(objects)] = objects
    return slots, np.arange(SLOTS) < len(objects)


def drawn(count, seed):
    """Objects of whole sides on 128 x 160, the last as the first, where there are more than two."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 60, (count, 2))
    found = np.concatenate([low, low + rng.integers(8, 60, (count, 2))], axis=1).astype(np.float32)
    if count > 2:
        found[-1] = found[0]
    return found


@pytest.mark.parametrize("rule", [RPN, BOX_HEAD])
@pytest.mark.parametrize("count", [0, 1, 3, 10])
def test_assignment_is_the_rules(count, rule):
    """Anchors rounded, so that many overlap an object equally, 600 of 2,000; a tenth is invalid."""
    rng = np.random.default_rng(count)
    boxes = np.concatenate(anchors.anchors((128, 160))).round()
    objects = drawn(count, count)
    boxes = np.concatenate([boxes[rng.permutation(len(boxes))[:590]], *[objects + d for d in (0, 2)]])
    valid = rng.random(len(boxes)) > 0.1
    room = np.zeros((620 - len(boxes), 4), np.float32)  # one shape, one program
    boxes, valid = np.concatenate([boxes, room]), np.concatenate([valid, np.zeros(len(room), bool)])
    found = np.asarray(compute(boxes, valid, *padded(objects), *rule))
    np.testing.assert_array_equal(found, expected(boxes, valid, objects, *rule))
    if count == 10:
        assert len(set(found)) > 8
    if count == 0:
        assert set(found[valid]) == {0}


def test_borders_and_ties_by_hand():
    objects, present = padded(np.float32([[0, 0, 10, 10], [0, 0, 10, 10], [100, 0, 110, 10]]))
    boxes = np.float32(
        [[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 3], [0, 0, 10, 2], [100, 0, 110, 3], [100, 0, 110, 2]]
    )
    found = compute(boxes, np.ones(6, bool), objects, present, 0.7, 0.3, 0.3)
    # Two equal objects: .7 exactly is positive and goes to the first, the best box to the last; .3 exactly is ignored
    # but for the third object's best box.
    np.testing.assert_array_equal(found, [2, 1, -1, 0, 3, 0])
    valid = np.array([False, True, True, True, False, True])
    found = compute(boxes, valid, objects, present, 0.7, 0.3, 0.3)  # now others are the best, and .2 is not enough
    np.testing.assert_array_equal(found, [-1, 2, -1, 0, -1, 0])


def test_an_image_has_the_same_targets_on_any_canvas():
    """Of a batch, too."""
    extent, objects = jnp.array([60, 97]), drawn(3, 5)

    @jax.jit
    def both(objects, present):
        found = []
        for canvas in ((64, 128), (96, 160)):
            boxes, valid = np.concatenate(anchors.anchors(canvas)), jnp.concatenate(anchors.valid(canvas, extent))
            found.append(jax.vmap(lambda o, p, b=boxes, v=valid: assign(b, v, o, p, *RPN))(objects, present))
        return found, valid

    slots, present = padded(objects)
    (small, large), valid = both(np.stack([slots, slots]), np.stack([present, np.zeros(SLOTS, bool)]))
    np.testing.assert_array_equal(large[:, np.asarray(valid)], small)
    assert (np.asarray(large)[:, ~np.asarray(valid)] == -1).all()
    assert set(np.asarray(small[0])) == {-1, 0, 1, 2, 3}
    assert not small[1].any()


draw = jax.jit(sample, static_argnums=(2, 3))


def test_positives_stand_first_and_background_fills_up():
    assigned = np.full(400, -1)
    assigned[50:100], assigned[200:350] = 3, 0
    found = draw(jax.random.key(0), assigned, 64, 16)
    indices = np.asarray(found.indices)
    np.testing.assert_array_equal(found.positive, np.arange(64) < 16)
    assert found.used.all()
    assert len(set(indices)) == 64
    assert (assigned[indices[:16]] == 3).all()
    assert (assigned[indices[16:]] == 0).all()

    assigned[55:] = -1
    assigned[390:] = 0
    found = draw(jax.random.key(0), assigned, 64, 16)
    np.testing.assert_array_equal(found.positive, np.arange(64) < 5)
    np.testing.assert_array_equal(found.used, np.arange(64) < 15)
    assert set(np.asarray(found.indices[:5])) == set(range(50, 55))
    assert set(np.asarray(found.indices[5:15])) == set(range(390, 400))
    assert not found.indices[15:].any()


def test_nothing_to_draw_and_less_than_there_are_slots():
    found = draw(jax.random.key(0), np.full(400, -1), 64, 16)
    assert not found.used.any()
    assert not found.positive.any()
    found = draw(jax.random.key(0), np.array([0, 1, -1, 2, 0]), 64, 16)
    np.testing.assert_array_equal(found.positive, np.arange(64) < 2)
    np.testing.assert_array_equal(found.used, np.arange(64) < 4)
    assert set(np.asarray(found.indices[:2])) == {1, 3}


def test_every_candidate_has_the_same_chance_and_keys_differ():
    assigned = np.array([0, 1, 1, -1, 1, 0, 1, 0, 0, 0])
    keys = jax.random.split(jax.random.key(1), 4000)
    found = jax.jit(jax.vmap(lambda key: sample(key, assigned, 5, 2)))(keys)
    shares = np.bincount(np.asarray(found.indices).reshape(-1), minlength=10) / 4000
    np.testing.assert_allclose(shares, np.where(assigned == 1, 2 / 4, np.where(assigned == 0, 3 / 5, 0)), atol=0.04)
