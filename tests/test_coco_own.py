"""Data sets of one's own in COCO's JSON: what is mended by a rule that is said, and what is refused."""

import json

import numpy as np
import pytest
from pycocotools import mask as pycocotools_mask

from repre_jax.core.errors import UserError
from repre_jax.data.coco import listing, objects
from repre_jax.data.coco.converting import Converter
from tests.helpers.coco import annotation, jpeg, tables


def parsed(change):
    found = tables("train")
    change(found)
    return listing.parse(json.dumps(found).encode(), "my.json")


def by_id(found):
    return {each["id"]: each for image in found.images for each in image.annotations}


def without(key, *, null):
    """Of the first two annotations: not there, or null."""

    def change(found):
        for each in found["annotations"][:2]:
            if null:
                each[key] = None
            else:
                del each[key]

    return change


def ids(*wanted):
    def change(found):
        for each, identity in zip(found["annotations"], wanted, strict=False):
            if identity is None:
                del each["id"]
            else:
                each["id"] = identity

    return change


# What is mended


def test_a_file_without_faults_has_no_notes():
    found = parsed(lambda found: None)
    assert (found.notes, found.masks, found.objects) == ([], 7, 7)
    assert [(image.identity, image.size) for image in found.images][:2] == [(9, (60, 80)), (25, (96, 64))]
    assert set(by_id(found)) == {7038, 156, 900100, 12, 13, 900200, 15}


@pytest.mark.parametrize("wanted", [(0,), (5, 5), (None,), ("a1",), (-3,), (1.5,)])
def test_ids_that_scoring_would_take_for_none_are_numbered_anew(wanted):
    found = parsed(ids(*wanted))
    assert set(by_id(found)) == set(range(1, 8))
    assert [note for note in found.notes if "numbered anew, from 1" in note] == list(found.notes)
    boxes = [each["bbox"] for image in found.images for each in image.annotations]
    assert sorted(boxes) == sorted(list(each["bbox"]) for each in tables("train")["annotations"])


@pytest.mark.parametrize("area", [0, 0.0, -1])
def test_an_area_that_is_not_above_0_is_that_of_the_mask(area):
    """Or of the box: detectors are trained on no object without an area, and some programs write 0 for all."""

    def change(found):
        found["annotations"][0]["area"] = found["annotations"][1]["area"] = area

    found = parsed(change)
    assert len(found.notes) == 1 and found.notes[0].startswith("2 annotations have no area above 0: it is that of the ")
    stored, _ = objects.of_image(found.images[0].annotations, (60, 80), masks=True)
    assert stored.areas.tolist() == stored.masks().sum(axis=(1, 2)).tolist()
    assert stored.trainable().all()
    boxes, _ = objects.of_image(found.images[0].annotations, (60, 80), masks=False)
    assert boxes.areas.tolist() == boxes.boxes[:, 2:].prod(axis=1).tolist()
    assert boxes.trainable().all()


@pytest.mark.parametrize(
    ("key", "note"),
    [("area", "2 annotations have no area"), ("iscrowd", "no crowds"), ("bbox", "the smallest one around the mask")],
)
@pytest.mark.parametrize("null", [False, True])
def test_what_may_be_missing(key, note, null):
    found = parsed(without(key, null=null))
    assert len(found.notes) == 1 and note in found.notes[0]
    (box, area, crowd) = (10.25, 8.5, 40.13, 30.77), 617.40005, False
    (stored, left_out) = objects.of_image(found.images[0].annotations, (60, 80), masks=True)
    mask = stored.masks()[0]
    assert (stored.crowds.tolist(), left_out) == ([crowd, False], [])
    if key == "bbox":
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        expected = [columns[0], rows[0], len(columns), len(rows)]
        assert stored.boxes[0].tolist() == expected
    else:
        assert stored.boxes[0].tolist() == list(box)
    assert stored.areas[0] == (mask.sum() if key == "area" else pytest.approx(area, abs=1e-3))


def test_categories_without_names_are_called_by_their_ids():
    found = parsed(lambda found: found.update(categories=[{"id": 1}, {"id": 18, "name": " "}, {"id": 90, "name": "x"}]))
    assert [each["name"] for each in found.categories] == ["1", "18", "x"]
    assert found.notes == ["2 categories have no name, and are called by their ids: 1, 18"]


def test_annotations_of_other_images_are_left_out():
    found = parsed(lambda found: found["images"].pop(0))
    assert found.objects == 5
    assert found.notes == ["2 annotations are of images that are not listed, and are left out"]


def test_sizes_may_be_left_to_the_images():
    def change(found):
        for each in found["images"]:
            del each["height"], each["width"]

    found = parsed(change)
    assert {image.size for image in found.images} == {None}
    _, entry, stored = Converter(masks=True)((jpeg(9, (60, 80)), found.images[0]), "train")
    assert stored.size == (60, 80)
    assert entry is found.images[0]


# What is refused


def set_first(table, **changes):
    return lambda found: found[table][0].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found.pop("categories"), "no file of objects in COCO's JSON"),
        (lambda found: found.update(images={}), "no file of objects in COCO's JSON"),
        (lambda found: found.update(images=[]), "lists no images"),
        (lambda found: found.update(categories=[]), "lists no categories"),
        (set_first("images", id=25), "1 ids of images are there more than once: 25"),
        (set_first("images", id="a"), "1 images have ids that are no whole numbers from 0 on: a"),
        (set_first("categories", id=90), "1 ids of categories are there more than once: 90"),
        (set_first("images", file_name=""), "1 images have no file_name: those of ids 9"),
        (set_first("images", height=0), "image 9 has height 0 and width 80"),
        (set_first("images", width=None), "image 9 has height 60 and width None"),
        (set_first("annotations", category_id=2), "1 annotations are of categories that are not listed: 2"),
        (set_first("annotations", bbox=[1, 2, 3]), r"annotation 7038 has the bbox \[1, 2, 3\]"),
        (set_first("annotations", bbox=[1, 2, float("nan"), 4]), "annotation 7038 has the bbox"),
        (set_first("annotations", area="large"), "annotation 7038 has area large"),
        (set_first("annotations", iscrowd=2), "iscrowd 2"),
        (set_first("annotations", bbox=None, segmentation=[]), "annotation 7038 has neither bbox nor segmentation"),
    ],
)
def test_what_nobody_can_mend_is_refused(change, words):
    with pytest.raises(UserError, match=words) as error:
        parsed(change)
    assert "my.json" in str(error.value)
    assert "change:" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]"])
def test_what_is_no_json_is_refused(content):
    with pytest.raises(UserError, match=r"is no JSON, or half a file|is no file of objects"):
        listing.parse(content, "my.json")


# Masks


def test_polygons_of_two_points_are_no_boxes():
    """pycocotools would take four numbers for x, y, width and height; what has no polygon left, has no mask."""
    triangle = [10.0, 10.0, 30.0, 10.0, 10.0, 30.0]
    annotations = [
        annotation(1, 9, 1, (10, 10, 20, 20), segmentation=[[5.0, 5.0, 40.0, 40.0], triangle]),
        annotation(2, 9, 1, (5, 5, 35, 35), segmentation=[[5.0, 5.0, 40.0, 40.0]]),
        annotation(3, 9, 1, (5, 5, 35, 35), segmentation=None),
        annotation(4, 9, 1, (10, 10, 20, 20), segmentation=triangle),  # not in a list of its own
    ]
    found, left_out = objects.of_image(annotations, (60, 80), masks=True)
    assert (found.ids.tolist(), left_out) == ([1, 4], [2, 3])
    expected = pycocotools_mask.decode(pycocotools_mask.frPyObjects([triangle], 60, 80))[..., 0]
    for mask in found.masks():
        np.testing.assert_array_equal(mask, expected)
    boxes, left_out = objects.of_image(annotations, (60, 80), masks=False)
    assert (boxes.ids.tolist(), left_out) == ([1, 2, 3, 4], [])
    assert boxes.counts == (b"",) * 4
    assert "segmentation" not in boxes.annotations(9)[0]


def test_boxes_and_masks_outside_the_image():
    """Masks are cut at its edge; boxes stay as they are written; what does not touch the image is not trained on."""
    annotations = [annotation(1, 9, 1, (-20, 10, 60, 40)), annotation(2, 9, 1, (90, 10, 20, 20))]
    found, _ = objects.of_image(annotations, (60, 80), masks=True)
    assert found.boxes.tolist() == [[-20, 10, 60, 40], [90, 10, 20, 20]]
    assert found.masks()[0][:, 0].any() and not found.masks()[1].any()
    assert found.trainable().tolist() == [True, False]


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [80, 60], "counts": [4800]},
        {"size": [60, 80], "counts": [4799]},
        {"size": [60, 80], "counts": "~~"},
        {"counts": [4800]},
        [["a", "b"]],
        [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]],
        [[1.0, 2.0, float("inf"), 4.0, 5.0, 6.0]],
        [{"x": 1}],
    ],
)
def test_segmentations_that_are_none(segmentation):
    with pytest.raises(UserError, match="annotation 7: "):
        objects.run_lengths(segmentation, (60, 80), 7)


def test_run_lengths_in_both_forms():
    mask = np.zeros((60, 80), np.uint8)
    mask[10:20, 30:50] = 1
    compressed = pycocotools_mask.encode(np.asfortranarray(mask))["counts"]
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    for counts in (compressed.decode(), runs):
        assert objects.run_lengths({"size": [60, 80], "counts": counts}, (60, 80), 1) == compressed
