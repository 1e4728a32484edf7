"""Draws of many records at once are NumPy's own, one by one; and so are the orientations that follow from them."""

import dataclasses
import time

import numpy as np
import pytest

from repre_jax.data import detection_order, loader
from repre_jax.data.many_draws import ManyDraws
from repre_jax.data.order import LANDSCAPE, PORTRAIT
from repre_jax.data.resizing import Resizing

COCO = 118_287


@pytest.mark.parametrize("seed", [(0, 0, 2), (7, 35, 2), (2**40 + 5, 9, 2), (3,)])
def test_all_are_those_of_a_generator_each(seed):
    """In any mixture of numbers and integers, which share a word in twos."""
    count = 200
    many, one_by_one = ManyDraws(seed, count), [np.random.default_rng((*seed, number)) for number in range(count)]
    given = np.random.default_rng(0)
    for _ in range(4):
        np.testing.assert_array_equal(many.random(), [rng.random() for rng in one_by_one])
        high, drawn = given.integers(1, 6, count), given.random(count) < 0.7
        wanted = [rng.integers(n) if there else 0 for rng, n, there in zip(one_by_one, high, drawn, strict=True)]
        np.testing.assert_array_equal(many.integers(high, drawn), wanted)
    assert not many.strayed.any()


def test_it_tells_which_numpy_draws_again():
    high, everyone = 2**31 + 1, np.ones(500, bool)  # half of all draws are repeated
    many = ManyDraws((1,), 500)
    found = many.integers(high, everyone)
    same = found == [np.random.default_rng((1, number)).integers(high) for number in range(500)]
    assert 150 < many.strayed.sum() < 350
    np.testing.assert_array_equal(same, ~many.strayed)


@pytest.mark.parametrize("crop", [0.0, 0.5, 1.0])
def test_orientations_are_those_that_are_drawn_one_by_one(crop):
    how = Resizing(crop=crop)
    sizes = np.random.default_rng(0).integers(32, 641, (1000, 2))
    sizes[:9] = 3000, 2999  # of one length after resizing
    found = detection_order.Orientations(sizes, how)(3, 4)
    for number, size in enumerate(sizes.tolist()):
        placement = how.drawn(tuple(size), loader.draws(3, 4, number))
        canvas = how.canvas(placement.before_last(tuple(size)))
        assert found[number] == (LANDSCAPE, PORTRAIT)[how.canvases.index(canvas)]
        assert all(side <= room for side, room in zip(placement.last, canvas, strict=True))
    assert 300 < (found == PORTRAIT).sum() < 700


def test_where_images_are_drawn_otherwise_they_decide():
    """As by a NumPy to come whose generators draw other numbers."""

    @dataclasses.dataclass(frozen=True)
    class Turned(Resizing):
        def drawn(self, size, rng):
            found = super().drawn(size, rng)
            first, (top, left, height, width) = found.crop or (size, (0, 0, *size))
            return dataclasses.replace(found, crop=(first, (top, left, width, height)))

    sizes = np.random.default_rng(0).integers(32, 641, (100, 2))
    found = detection_order.Orientations(sizes, Turned())(0, 0)
    wanted = [Turned().drawn(tuple(size), loader.draws(0, 0, n)).crop[1] for n, size in enumerate(sizes.tolist())]
    np.testing.assert_array_equal(found == PORTRAIT, [height > width for *_, height, width in wanted])


def test_all_of_coco_takes_no_second():
    sizes = np.random.default_rng(0).integers(200, 641, (COCO, 2))
    begun = time.process_time()
    detection_order.Orientations(sizes, Resizing())(0, 0)
    detection_order.by_canvas(sizes, Resizing())
    assert time.process_time() - begun < 2  # 0.4; one by one it is 8
