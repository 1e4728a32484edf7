"""Run lengths of masks, beside pycocotools'."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as reference

from repre_jax.data import rle

SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 90))


def drawn(shape, seed, share):
    return np.random.default_rng(seed).random(shape) < share


@given(SHAPES, st.integers(0, 99), st.sampled_from([0, 0.001, 0.1, 0.5, 0.999, 1]))
def test_runs_are_those_of_pycocotools_and_come_back(shape, seed, share):
    mask = drawn(shape, seed, share)
    theirs = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle.encode(mask)
    assert ours == theirs["counts"]
    np.testing.assert_array_equal(rle.decode(ours, *shape), mask)
    np.testing.assert_array_equal(rle.decode(ours.decode(), *shape), mask)
    assert rle.area(ours) == mask.sum() == reference.area(theirs)
    assert rle.box(mask) == tuple(reference.toBbox(theirs))


def test_a_mask_by_hand():
    """Columns come first, the run of zeros first of all."""
    mask = np.array([[1, 0, 0], [1, 1, 0]], bool)
    assert rle.uncompressed(rle.encode(mask)) == [0, 2, 1, 1, 2]
    assert rle.box(mask) == (0, 0, 2, 2)


def test_long_runs_and_those_that_shrink():
    """A run is stored as a difference, in groups of five bits with a sign."""
    runs = [0, 3, 40_000, 1, 5, 70_000, 16, 15, 31, 32, 1023, 1024]
    assert rle.uncompressed(rle.compressed(runs)) == runs


@pytest.mark.parametrize(("counts", "size"), [(b"n0", (2, 3)), (b"", (1, 1)), (rle.encode(np.ones((3, 4))), (3, 5))])
def test_what_is_of_another_size_is_refused(counts, size):
    with pytest.raises(ValueError):
        rle.decode(counts, *size)
