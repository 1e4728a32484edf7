"""Figures of a segmentation: the confusion matrix, what is right and wrong, and large images."""

import numpy as np

from repre_jax.data.label_classes import numbered
from repre_jax.report.figures import confusion as matrix_drawing
from repre_jax.report.figures import segmentation as drawing
from repre_jax.report.figures.segmentation import WRONG, Segmented


def test_a_confusion_matrix_is_drawn_in_shares_of_its_rows():
    matrix = np.array([[90, 10, 0], [0, 0, 0], [1, 0, 2]])
    np.testing.assert_allclose(
        matrix_drawing.shares_of(matrix), [[0.9, 0.1, 0], [np.nan] * 3, [1 / 3, 0, 2 / 3]], equal_nan=True
    )
    figure = matrix_drawing.draw(matrix, ("a", "b", "c"), (0.5, None, 0.25), title="t", caption="c")
    cells = {(text.get_position()): text.get_text() for text in figure.axes[0].texts if text.get_text() != "IoU"}
    assert cells == {(0, 0): "90", (1, 0): "10", (0, 2): "33", (2, 2): "67"}
    many = matrix_drawing.draw(np.eye(60, dtype=int), [str(n) for n in range(60)], [1.0] * 60, title="t", caption="c")
    assert [text.get_text() for text in many.axes[0].texts] == ["IoU"]


def test_errors_are_red_and_the_legend_has_what_is_there():
    labels, predicted = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    labels[:5], predicted[10:, :15] = 255, 2
    image = np.full((20, 30, 3), 100, np.uint8)
    figure = drawing.draw([Segmented(image, predicted, labels, "x")], numbered(4), title="t", caption="c")
    assert [axis.get_title() for axis in figure.axes] == ["image", "ground truth", "prediction", "errors"]
    errors = figure.axes[3].images[0].get_array()
    np.testing.assert_allclose(errors[10:, :15], np.broadcast_to(WRONG, (10, 15, 3)))
    assert (errors[:5] == 1).all()
    assert np.ptp(errors[5:10]) < 1e-6
    assert figure.axes[3].get_xlabel() == "66.7% correct"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "2", "ignored"]
    alone = drawing.draw([Segmented(image, predicted)], numbered(4), title="t", caption="c")
    assert [axis.get_title() for axis in alone.axes] == ["image", "prediction", "prediction on the image"]


def test_a_large_image_is_drawn_smaller_and_scored_as_it_is():
    labels = np.zeros((900, 1300), np.uint8)
    predicted = labels.copy()
    predicted[0, 1] = 1
    image = np.zeros((900, 1300, 3), np.uint8)
    figure = drawing.draw([Segmented(image, predicted, labels)], numbered(2), title="t", caption="c")
    assert all(axis.images[0].get_array().shape == (443, 640, 3) for axis in figure.axes)
    assert drawing.correct(labels, predicted) == 1 - 1 / (900 * 1300)
    assert drawing.correct(np.full((2, 2), 255), predicted[:2, :2]) is None
