"""Labels of the canvases of scenes/dense fit their pixels: masks, boxes, areas, label maps and what is left out."""

import cv2
import numpy as np
import pytest

from repre_jax.data import rle
from repre_jax.data.scenes import builder, concepts, dense_canvases

ONE_LEFT = (("train", 36), ("test", 137))


@pytest.fixture(scope="module")
def dense():
    """40 canvases of each split."""
    return {
        split: [dense_canvases.canvas(split, index) for index in range(40)] for split in ("train", "test", "unseen")
    }


def test_masks_boxes_and_areas_fit(dense):
    for split, canvases in dense.items():
        ids = [each.id for canvas in canvases for each in canvas.annotations]
        assert min(ids) == 1 and len(set(ids)) == len(ids), split
        for canvas in canvases:
            masks = np.stack([each.mask for each in canvas.annotations])
            assert 2 <= len(masks) <= 6
            assert masks.sum(axis=0).max() == 1, "disjoint"
            for each in canvas.annotations:
                stored = builder.annotation(each)
                x, y, width, height = map(int, stored["bbox"])
                outside = each.mask.copy()
                outside[y : y + height, x : x + width] = False
                assert not outside.any()
                inside = each.mask[y : y + height, x : x + width]
                assert inside.shape == (height, width)
                assert inside[[0, -1]].any(axis=1).all() and inside[:, [0, -1]].any(axis=0).all()
                assert stored["area"] == each.mask.sum() >= dense_canvases.PIXELS
                np.testing.assert_array_equal(rle.decode(stored["counts"], 96, 128), each.mask)
                assert concepts.CATEGORIES[each.category_id] == category_of(each.file)
    everything = [each for canvases in dense.values() for canvas in canvases for each in canvas.annotations]
    assert {each.category_id for each in everything} == set(concepts.CATEGORY_IDS)
    crowds = sum(each.iscrowd for each in everything)
    assert 5 < crowds < 40


def test_a_canvas_that_lost_too_many_is_given_more():
    """These were left with one object once what is hardly visible was dropped; others are not touched."""
    for split, index in ONE_LEFT:
        assert 2 <= len(dense_canvases.canvas(split, index).annotations) <= 6, (split, index)


def category_of(file):
    (found,) = [concept.category for concept in concepts.all_concepts() if file in concept.files]
    return found


def test_label_maps_equal_the_masks(dense):
    for canvas in dense["train"]:
        labels = canvas.label_map()
        expected = np.zeros((96, 128), np.uint8)
        for each in canvas.annotations:
            expected[each.mask] = 1 + list(concepts.CATEGORIES).index(each.category_id)
        border = labels == 255
        np.testing.assert_array_equal(labels[~border], expected[~border])
        assert 0 < border.mean() < 0.12
        assert set(np.unique(labels)) <= {*range(8), 255}
        # Of each region, an object or the background, the border is what erosion from the right and below takes away.
        masks = [each.mask for each in canvas.annotations]
        kernel = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 0]], np.uint8)
        inner = [
            cv2.erode(region.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1).astype(bool)
            for region in (~np.any(masks, axis=0), *masks)
        ]
        np.testing.assert_array_equal(~border, np.any(inner, axis=0))


def layer(box, size=(96 + 72, 128 + 72)):
    alpha = np.zeros(size, np.float32)
    top, left, bottom, right = (each + dense_canvases.PAD for each in box)
    alpha[top:bottom, left:right] = 1
    colour = np.repeat(alpha[..., None] * 200, 3, axis=-1)
    return dense_canvases.Layer(colour, alpha, 1, False, "a square", "")


def test_what_is_hardly_visible_is_left_out():
    """By another object or by the canvas's edge; what is itself left out hides nothing."""
    small, large = layer((10, 10, 20, 20)), layer((0, 0, 40, 40))
    assert dense_canvases.visible_enough([small, large]) == [large]
    assert dense_canvases.visible_enough([large, small]) == [large, small]
    three_quarters = layer((0, 0, 40, 31))
    assert dense_canvases.visible_enough([large, three_quarters]) == [three_quarters]
    assert dense_canvases.visible_enough([large, layer((0, 0, 40, 30))])[0] is large
    assert dense_canvases.visible_enough([layer((-31, 0, 9, 40))]) == []
    assert len(dense_canvases.visible_enough([layer((-30, 0, 10, 40))])) == 1
    outside = layer((0, -36, 40, 9))  # four fifths of it
    assert dense_canvases.visible_enough([layer((0, 0, 20, 10)), outside])[0] is not outside
