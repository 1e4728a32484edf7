"""Images of data sets of one's own in COCO's JSON: turned, of other sizes; and all of it prepared and opened."""

import json
import shutil

import cv2
import numpy as np
import pytest

from repre_jax.core.errors import UserError
from repre_jax.data import crops, detection
from repre_jax.data.coco.converting import Converter
from repre_jax.data.coco.listing import Entry
from repre_jax.evaluation import detected
from tests.helpers.coco import annotation, file_name, jpeg, own, polygon
from tests.helpers.preparing import run

# Images


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_an_image_whose_annotations_fit_the_turned_one_is_turned(orientation):
    """As a viewer shows it, and as it was annotated; without the mark, which would turn it again."""
    encoded = jpeg(9, (60, 80), orientation)
    convert = Converter(masks=True)
    entry = Entry(9, "a.jpg", (80, 60), [annotation(1, 9, 1, (10, 10, 30, 60))])
    turned, _, found = convert((encoded, entry), "train")
    shown = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]  # which OpenCV turns
    assert np.abs(crops.decode(turned).astype(int) - shown).mean() < 2
    assert found.size == (80, 60)
    again = Converter(masks=True)
    again((turned, entry), "train")
    assert (convert.turned, again.turned, again.marked) == (["a.jpg"], [], [])
    assert convert.lines() == ["1 images were turned upright, as EXIF says, since their annotations fit only so: a.jpg"]


@pytest.mark.parametrize(
    ("orientation", "size", "listed", "said"),
    [
        (6, (60, 80), (60, 80), "their annotations fit as is: a.jpg"),
        *((mark, (60, 80), (60, 80), "no size says whether") for mark in (2, 3, 4)),  # which no side tells
        (6, (60, 60), (60, 60), "no size says whether"),
        (6, (60, 80), None, "no size says whether"),  # a JSON without them
        (1, (60, 80), None, None),
        (9, (60, 80), None, None),  # no mark that a viewer knows
    ],
)
def test_an_image_whose_size_is_the_annotations_stays_as_it_is_stored(orientation, size, listed, said):
    """Whether they fit a marked one is only said where its sides tell."""
    encoded, convert = jpeg(9, size, orientation), Converter(masks=True)
    kept, _, found = convert((encoded, Entry(9, "a.jpg", listed, [])), "train")
    assert (kept, found.size, len(found)) == (encoded, size, 0)
    lines = convert.lines()
    assert len(lines) == (said is not None) and all(said in line for line in lines)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(UserError, match=r"of 60 x 80 pixels .*annotations are for 80 x 60"):
        Converter(masks=True)((jpeg(9, (60, 80)), Entry(9, "a.jpg", (80, 60), [])), "train")


# All of it


def test_ones_own_is_prepared_and_opened(tmp_path, capsys):
    """Faults and all: mended as it says, and scored as one."""

    def change(found):
        found["annotations"][0]["id"] = 0
        del found["annotations"][1]["area"]
        found["annotations"][2]["segmentation"] = [[1.0, 1.0, 5.0, 5.0]]
        found["annotations"][3]["bbox"] = [20.0, 20.0, 50.0, 50.0]  # corners, on an image of 64 x 64

    arguments = own(tmp_path, change, images={file_name(25): jpeg(25, (96, 64), 3)})
    assert run(*arguments, "--data-dir", tmp_path / "data") == 0
    said = "".join(capsys.readouterr())
    for line in (
        "objects.json: Annotations have ids that are 0",
        "objects.json: 1 annotations have no area",
        "1 images have an EXIF mark to be shown turned or mirrored, which is ignored, and no size says whether their "
        "annotations are for the picture as stored or as shown: look at some, as the figures tool draws them: 00000000",
        "1 objects have no mask (no segmentation, or no polygon of three points) and are left out; --boxes-only keeps "
        "them, and no masks: 000000000025.jpg, annotation 3",
        "1 objects have a box of less than a pixel, or one that reaches beyond the image; COCO's are left, top, width "
        "and height, in pixels: 000000000030.jpg, annotation 4",
        "configs/detect.py --config.data.dir=",
        "--config.data.name=mine --config.init_from=RUN",
    ):
        assert line in said, line
    found = detection.open_dataset("mine", str(tmp_path / "data"))
    assert (len(found.dataset.train), found.dataset.test, found.masks) == (3, None, True)
    records = [found.dataset.train[number] for number in range(3)]
    assert sorted(each for record in records for each in record["objects"].ids) == [1, 2, 4, 5, 6]
    truth = detected.ground_truth(records, found.categories)
    results = detected.truth_as_results(truth, detected.MASKS)
    assert detected.precision(truth, results, detected.MASKS).values["AP"] == pytest.approx(1)


@pytest.mark.parametrize("flags", [[], ["--boxes-only"]])
def test_boxes_alone(flags, tmp_path, capsys):
    """Where nothing has a segmentation, or none is wanted, for a detector without masks."""

    def change(found):
        for each in found["annotations"]:
            each["segmentation"] = [] if not flags else polygon(*each["bbox"])

    assert run(*own(tmp_path, change), "--data-dir", tmp_path / "data", *flags) == 0
    assert "configs/detect.py:boxes" in capsys.readouterr().out
    with pytest.raises(UserError, match="boxes, and no masks"):
        detection.open_dataset("mine", str(tmp_path / "data"))
    found = detection.open_dataset("mine", str(tmp_path / "data"), masks=False)
    assert found.dataset.train[0]["objects"].counts == (b"", b"")
    truth = detected.ground_truth([found.dataset.train[0]], found.categories)
    assert "segmentation" not in truth["annotations"][0]
    results = detected.truth_as_results(truth, detected.BOXES)
    assert detected.precision(truth, results, detected.BOXES).values["AP"] == pytest.approx(1)


def test_two_files_and_a_zip(tmp_path, capsys):
    arguments = own(tmp_path)
    own(tmp_path / "other", split="val")
    shutil.copytree(tmp_path / "other" / "photos", tmp_path / "photos" / "deep", dirs_exist_ok=True)
    shutil.copy(tmp_path / "other" / "objects.json", tmp_path / "test.json")
    shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path / "photos")
    more = ["--images", "all.zip", "--annotations", "objects.json", "test.json", "--data-dir", tmp_path / "data"]
    assert run(*arguments[:5], *more) == 0
    found = detection.open_dataset("mine", str(tmp_path / "data"))
    assert (len(found.dataset.train), len(found.dataset.test)) == (4, 2)
    assert found.dataset.test[1]["image_id"] == 285
    text = json.loads((tmp_path / "test.json").read_text())
    text["categories"].reverse()
    (tmp_path / "test.json").write_text(json.dumps(text))
    more[-1] = tmp_path / "elsewhere"
    capsys.readouterr()
    assert run(*arguments[:5], *more) == 1
    assert "objects.json and test.json have other categories, or in another order" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "flags", "words"),
    [
        ({file_name(9): None}, [], "train: 1 of 6 images that objects.json lists: 000000000009.jpg"),
        ({file_name(9): b"\xff\xd8 half"}, [], "1 file is no readable image of the annotations' size"),
        (
            {file_name(9): jpeg(9, (30, 40))},
            [],
            "it is of 30 x 40 pixels (height x width), and its annotations are for",
        ),
        ({}, ["--images", "none"], "none is not there.\n  change:   --images"),
        ({}, ["--annotations", "none.json"], "none.json is not there.\n  change:   --annotations"),
        ({}, ["--images", "a", "b"], "--images is given 2 and --annotations 1 paths"),
        ({}, ["--name", "My Data"], "--name is 'My Data'"),
        ({}, ["--name", "coco_instances"], "which is another data set's"),
    ],
)
def test_faults_of_the_files_are_told(images, flags, words, tmp_path, capsys):
    """And nothing is written."""
    assert run(*own(tmp_path, images=images), "--data-dir", tmp_path / "data", *flags) == 1
    assert words in capsys.readouterr().err
    assert not list((tmp_path / "data").glob("mine/1.0.0"))


def test_a_data_set_without_an_object_to_train_on(tmp_path):
    def change(found):
        for each in found["annotations"]:
            each["iscrowd"] = 1

    assert run(*own(tmp_path, change), "--data-dir", tmp_path / "data") == 0
    with pytest.raises(UserError, match="No image in split 'train' of mine has an object to train on") as error:
        detection.open_dataset("mine", str(tmp_path / "data"))
    assert "6 images with 7 annotations, of which 0 are such objects" in str(error.value)


def test_flags_that_belong_together(tmp_path, capsys):
    own(tmp_path)
    assert run("coco", "--from", tmp_path, "--name", "mine", "--data-dir", tmp_path / "data") == 1
    assert "--images and --annotations missing" in capsys.readouterr().err
