"""The loss of segmentation: ignored pixels, and what its mean is taken over."""

import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.losses import segmentation


def drawn(ignored=0.3):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (2, 6, 7)).astype(np.uint8)
    labels[rng.random(labels.shape) < ignored] = 255
    return rng.normal(size=(2, 6, 7, 5)).astype(np.float32) * 3, labels


def test_each_pixels_loss_is_the_cross_entropy_and_0_where_it_is_ignored():
    logits, labels = drawn()
    found = np.asarray(segmentation.cross_entropy(logits, labels))
    for place in np.ndindex(labels.shape):
        row = logits[place].astype(np.float64)
        expected = 0.0 if labels[place] == 255 else np.log(np.exp(row).sum()) - row[labels[place]]
        assert found[place] == pytest.approx(expected, abs=1e-5)
    assert 10 < (labels == 255).sum() < 50


def test_the_mean_is_over_all_pixels_or_over_those_with_a_class():
    _, labels = drawn()
    assert segmentation.denominator(labels, "all") == 84
    assert segmentation.denominator(labels, "labelled") == (labels != 255).sum()
    nothing = np.full((2, 3, 3), 255, np.uint8)
    total = segmentation.cross_entropy(jnp.full((2, 3, 3, 5), 7.0), nothing).sum()
    assert total / segmentation.denominator(nothing, "labelled") == 0


def test_ignored_pixels_are_neither_correct_nor_wrong():
    logits, labels = drawn()
    hits = (logits.argmax(-1) == labels)[labels != 255].sum()
    assert 0 < hits == segmentation.correct(logits, labels)
