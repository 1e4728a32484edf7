"""Detections pasted, written as COCO's results and scored by pycocotools: known cases, through the real evaluator."""

import json
import math

import numpy as np
import pytest
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO

from repre_jax.data.detection import Categories
from repre_jax.evaluation import detected
from repre_jax.evaluation.detected import BOXES, MASKS, Detections
from repre_jax.evaluation.detection_run import Measured
from repre_jax.probing import detecting
from repre_jax.report import console, evaluated, metric_names, page
from repre_jax.report.results import summary
from repre_jax.report.run import read
from tests.helpers import logged

CATEGORIES = Categories((1, 4, 90), ("bird", "cat", "kite"))  # ids with holes
SIZES = {10: (60, 80), 12: (50, 40), 17: (120, 200)}


def by_hand(probabilities, box, size):
    """Bilinear interpolation at each pixel's middle, in the words of grid_sample; beyond the mask is 0."""
    x0, y0, x1, y1 = map(float, box)
    cells = len(probabilities)
    found = np.zeros(size)
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = (row + 0.5 - y0) / (y1 - y0) * cells - 0.5, (column + 0.5 - x0) / (x1 - x0) * cells - 0.5
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    if 0 <= i < cells and 0 <= j < cells:
                        found[row, column] += probabilities[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return found


@pytest.mark.parametrize(
    "box",
    [(3.2, 4.7, 25.1, 17.9), (-6.5, -3.0, 12.25, 30.0), (0, 0, 30, 24), (10.1, 5.2, 10.9, 5.7), (20, 10, 45, 40)],
    ids=["inside", "outside above", "whole", "below a pixel", "outside below"],
)
def test_masks_are_pasted_as_grid_sample_does(box):
    probabilities = np.random.default_rng(1).random((7, 7)).astype(np.float32)
    for values in (probabilities, np.ones((7, 7), np.float32)):
        expected = by_hand(values, box, (24, 30))
        clear = np.abs(expected - 0.5) > 1e-5
        pasted = detected.pasted(values, np.array(box, np.float32), (24, 30))
        np.testing.assert_array_equal(pasted[clear], (expected >= 0.5)[clear])
        assert clear.mean() > 0.99


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (5, 5, 9, 5), (5, 5, 5, 5), (9, 5, 4, 9), (40, 5, 50, 9), (-9, 0, -4, 9)]
)
def test_a_box_without_area_or_outside_has_an_empty_mask(box):
    assert not detected.pasted(np.ones((28, 28), np.float32), np.array(box, np.float32), (24, 30)).any()


def test_run_lengths_are_columns_first():
    mask = np.zeros((4, 6), bool)
    mask[1, 2:5] = True
    found = detected.run_lengths(mask)
    assert json.loads(json.dumps(found))["size"] == [4, 6]
    np.testing.assert_array_equal(pycocotools_mask.decode(found), mask)
    assert pycocotools_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode() == found["counts"]


def rectangle(size, x, y, width, height):
    mask = np.zeros(size, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def truth():
    """Small, medium and large ones of two categories, and a crowd; nothing is a kite."""
    rows = [
        (10, 1, (3, 4, 20, 20), 0),
        (10, 4, (40, 20, 30, 32), 0),
        (12, 4, (5, 5, 32, 32), 0),
        (17, 1, (20, 10, 150, 100), 0),
        (17, 4, (0, 0, 60, 60), 1),
    ]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": list(map(float, box)),
            "area": float(box[2] * box[3]),
            "iscrowd": crowd,
            "segmentation": detected.run_lengths(rectangle(SIZES[image], *box)),
        }
        for number, (image, category, box, crowd) in enumerate(rows, 1)
    ]
    images = [{"id": image, "height": size[0], "width": size[1]} for image, size in SIZES.items()]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES.listed()}


@pytest.mark.parametrize("what", [BOXES, MASKS])
def test_the_truth_as_detections_is_perfect(what, capsys):
    given = truth()
    before = json.dumps(given)
    found = detected.precision(given, detected.truth_as_results(given, what), what)
    ones = dict.fromkeys(("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"), 1.0)
    assert found.values == pytest.approx(ones, abs=1e-12)  # pycocotools adds the least number to a divisor
    assert found.classes == pytest.approx({"bird": 1.0, "cat": 1.0})
    assert found.curves.shape == (10, 101, 3)
    assert found.curves[..., :2] == pytest.approx(1)
    assert (found.curves[..., 2] == -1).all()
    assert json.dumps(given) == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("what", [BOXES, MASKS])
def test_nothing_found_is_nought(what):
    found = detected.precision(truth(), [], what)
    assert found.values == dict.fromkeys(("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"), 0.0)
    assert found.classes == {"bird": 0.0, "cat": 0.0}


def test_sizes_that_nothing_has_have_no_precision():
    given = truth()
    given["annotations"] = given["annotations"][:1]
    found = detected.precision(given, detected.truth_as_results(given, BOXES), BOXES)
    assert found.values == pytest.approx(
        {"AP": 1.0, "AP50": 1.0, "AP75": 1.0, "AP_small": 1.0, "AP_medium": None, "AP_large": None}
    )
    assert found.classes == pytest.approx({"bird": 1.0})


@pytest.mark.parametrize("found_one", [True, False])
def test_images_without_objects_have_no_precision(found_one, tmp_path):
    """What is recorded and said of them then: null, and no number."""
    given = truth()
    results = detected.truth_as_results(given, BOXES)[:found_one]
    given["annotations"] = []
    precision = detected.precision(given, results, BOXES)
    measured = Measured(results, None, {BOXES: precision}, images=3, overflow=0, truth=given)
    assert detecting.logged(measured) == {"box_ap": None, "box_ap50": None}
    result = json.loads(json.dumps(detecting.result_of(measured)))
    assert (result["box_ap"], set(result["ap"]["box"].values())) == (None, {None})
    assert "box_ap" in result
    assert len(result["ap"]["box"]) == 6
    assert result["ap_of_classes"] == {"box": {}}
    whole = result | {"origin": {"init_from": None}, "test": {"test_short": 64, "test_longest": 96}, "seconds": 1.0}
    assert "box AP       none: there are no objects\n" in evaluated.detected(whole) + "\n"
    assert console.progress_line(4, 4, detecting.logged(measured), batch_size=2) == "step 4/4"
    assert metric_names.quality(detecting.logged(measured)) is None
    logged.write(tmp_path, logged=[{"step": 4, "loss": 1.0, **detecting.logged(measured)}], result=whole)
    assert [figure.name for figure in summary(read(tmp_path))] == ["Steps"]
    assert page.write(tmp_path).exists()


def test_an_area_at_a_bound_counts_on_both_sides():
    """1,024 pixels are small and medium: with that object alone missing, both lose it."""
    given = truth()
    results = [each for each in detected.truth_as_results(given, BOXES) if each["image_id"] != 12]
    found = detected.precision(given, results, BOXES)
    assert found.values["AP_small"] == pytest.approx((1 + 51 / 101) / 2)  # a bird, and one of two cats
    assert found.values["AP_medium"] == 0.0
    # Of cats one of two is found: a precision of 1 up to a recall of 0.5.
    assert found.classes == pytest.approx({"bird": 1.0, "cat": 51 / 101})


def test_iou_decides_what_counts():
    """Moved by a third of the width IoU is 0.5; a wrong class or image finds nothing; a crowd takes what lies in it."""
    given = truth()
    given["annotations"] = [each for each in given["annotations"] if each["image_id"] == 17]
    right = detected.truth_as_results(given, BOXES)
    moved = [right[0] | {"bbox": [70.0, 10.0, 150.0, 100.0]}]
    values = detected.precision(given, moved, BOXES).values
    assert (values["AP50"], values["AP75"], values["AP"]) == pytest.approx((1.0, 0.0, 0.1))
    for change in ({"category_id": 4}, {"image_id": 10}):
        assert detected.precision(given, [right[0] | change], BOXES).values["AP"] == 0.0
        alike = detected.precision(given, [right[0] | change], BOXES, one_class=True)
        assert alike.values["AP"] == alike.classes["object"] == pytest.approx(float("category_id" in change))
    in_the_crowd = [{"image_id": 17, "category_id": 4, "score": 0.9, "bbox": [x, 5.0, 20.0, 20.0]} for x in (1.0, 30.0)]
    assert detected.precision(given, right + in_the_crowd, BOXES).values["AP"] == pytest.approx(1)
    beside = [each | {"bbox": [100.0, 90.0, 20.0, 20.0], "category_id": 1, "score": 1.1} for each in in_the_crowd[:1]]
    assert detected.precision(given, right + beside, BOXES).values["AP"] == pytest.approx(0.5)


def test_detections_become_results():
    """Categories' ids, not classes; x, y, width, height; masks without boxes, so that sizes go by the mask (D14)."""
    probabilities = np.zeros((2, 28, 28), np.float32)
    probabilities[0] = 1
    probabilities[1, :, :14] = 1
    found = Detections(
        12,
        (50, 40),
        np.array([[3, 4, 23, 24], [0, 10, 40, 50]], np.float32),
        np.array([0.75, 0.5], np.float32),
        np.array([2, 1]),
        probabilities,
    )
    boxes, masks = found.of_boxes(CATEGORIES), found.of_masks(CATEGORIES)
    assert boxes == [
        {"image_id": 12, "category_id": 90, "score": 0.75, "bbox": [3.0, 4.0, 20.0, 20.0]},
        {"image_id": 12, "category_id": 4, "score": 0.5, "bbox": [0.0, 10.0, 40.0, 40.0]},
    ]
    assert [set(each) for each in masks] == [{"image_id", "category_id", "score", "segmentation"}] * 2
    np.testing.assert_array_equal(pycocotools_mask.decode(masks[0]["segmentation"]), rectangle((50, 40), 3, 4, 20, 20))
    half = pycocotools_mask.decode(masks[1]["segmentation"])
    assert half[10:, :19].all() and not half[:, 21:].any() and not half[:10].any()
    loaded = COCO()
    loaded.dataset = truth()
    loaded.createIndex()
    read = loaded.loadRes(json.loads(json.dumps(masks)))
    assert [each["area"] for each in read.dataset["annotations"]] == [400, half.sum()]
    assert Detections(1, (5, 5), np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)).of_masks(CATEGORIES) == []


def test_annotations_need_ids():
    """pycocotools takes an annotation of id 0 for unmatched, whatever matches it."""
    for ids in ((0, 1), (2, 2)):
        given = truth()
        for each, identity in zip(given["annotations"], ids, strict=False):
            each["id"] = identity
        with pytest.raises(ValueError, match="ids from 1 on"):
            detected.precision(given, [], BOXES)
