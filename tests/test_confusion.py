"""The confusion matrix and what it gives, against NumPy: absent classes, images without labels, several batches."""

import jax
import numpy as np
import pytest

from repre_jax.evaluation import confusion

CLASSES = 6


def images():
    """Class 4 is never labelled but predicted, class 5 neither; the last image has no labels at all."""
    rng = np.random.default_rng(1)
    labels = rng.choice([0, 1, 2, 3, 255], p=[0.4, 0.3, 0.1, 0.1, 0.1], size=(6, 9, 11)).astype(np.uint8)
    predictions = rng.integers(0, 5, labels.shape)
    predictions = np.where(rng.random(labels.shape) < 0.5, np.minimum(labels, 4), predictions)
    labels[-1] = 255
    return predictions.astype(np.int32), labels


def matrix():
    predictions, labels = images()
    one = jax.jit(lambda p, y: confusion.count(p, y, CLASSES))
    batches = [one(predictions[i : i + 2], labels[i : i + 2]) for i in range(0, 6, 2)]
    return np.sum([np.asarray(batch, np.int64) for batch in batches], axis=0)


def test_batches_add_up_to_the_counts_over_all_images():
    predictions, labels = images()
    expected = np.zeros((CLASSES, CLASSES), int)
    for place in np.ndindex(labels.shape):
        if labels[place] != 255:
            expected[labels[place], predictions[place]] += 1
    np.testing.assert_array_equal(matrix(), expected)
    assert expected.sum() == (labels != 255).sum() < labels.size


def test_scores_are_those_of_sets_of_pixels():
    predictions, labels = images()
    there = labels != 255
    p, y = predictions[there], labels[there]
    found = confusion.scores(matrix())
    iou = [((p == c) & (y == c)).sum() / ((p == c) | (y == c)).sum() for c in range(5)]
    acc = [((p == c) & (y == c)).sum() / (y == c).sum() for c in range(4)]
    np.testing.assert_allclose(found.iou, [*iou, np.nan])
    np.testing.assert_allclose(found.acc, [*acc, np.nan, np.nan])
    assert iou[4] == 0  # predicted only: a part of the mean of IoUs, not of accuracies
    assert found.miou == pytest.approx(np.mean(iou))
    assert found.macc == pytest.approx(np.mean(acc))
    assert found.aacc == pytest.approx((p == y).mean())


def test_the_best_constant_answer_is_the_largest_class_everywhere():
    _, labels = images()
    found = confusion.scores(matrix())
    answers = []
    for answer in range(CLASSES):
        constant = np.full(labels.shape, answer)
        answers.append(confusion.scores(confusion.count(constant, labels, CLASSES)).miou)
    assert found.constant == pytest.approx(max(answers)) == pytest.approx(answers[0])


def test_nothing_counted_gives_no_number():
    found = confusion.scores(np.zeros((3, 3), np.int64))
    assert all(np.isnan(value) for value in (found.miou, found.macc, found.aacc, found.constant, *found.iou))


def test_counts_beyond_32_bits_are_exact():
    found = confusion.scores(np.array([[2**40, 1], [1, 2**40]], np.int64))
    assert found.iou[0] == 2**40 / (2**40 + 2)
