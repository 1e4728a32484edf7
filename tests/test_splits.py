"""Which folders of images are splits, and what is said of those that are none."""

import pytest

from repre_jax.core.errors import UserError
from repre_jax.data import folder, splits
from tests.test_listing import files_of, fill


@pytest.mark.parametrize(
    ("train", "test", "split"),
    [
        ("Training", "Testing", "test"), ("training", "testing", "test"), ("Train", "Test", "test"),
        ("TRAIN", "TEST", "test"), ("train", "valid", "validation"), ("Train", "Valid", "validation"),
        ("training_set", "test_set", "test"), ("train2017", "val2017", "validation"), ("trainset", "dev", "validation"),
        ("Train Images", "Validation Images", "validation"), ("train", "Val", "validation"),
        ("images_train", "images_val", "validation"), ("seg_train", "seg_test", "test"), ("train", "test-data", "test"),
        ("train-set", "holdout", "test"), ("Train", "hold-out set", "test"), ("train", "held_out", "test"),
        ("trainA", "testA", "test"), ("segTrain", "segVal", "validation"), ("images/train", "images/val", "validation"),
        ("all/Training", "all/Testing", "test"), ("a/b/train2017", "a/b/val2017", "validation"),
    ],
)  # fmt: skip
def test_splits_by_their_usual_names(train, test, split, tmp_path):
    fill(tmp_path, [f"{train}/cat/1.jpg", f"{train}/dog/2.jpg", f"{test}/dog/3.jpg"])
    found = folder.scan(tmp_path)
    assert files_of(found) == {"train": ("cat/1.jpg", "dog/2.jpg"), split: ("dog/3.jpg",)}
    assert (found.classes, found.splits[split].labels) == (("cat", "dog"), (1,))
    said = [note for note in found.notes if note.startswith("Splits: ")]
    assert (said == []) == ((train, test) in [("train", "val"), ("train", "test")])


def test_three_splits_keep_their_order(tmp_path):
    fill(tmp_path, ["Testing/1.jpg", "Training/2.jpg", "Valid/3.jpg"])
    assert list(folder.scan(tmp_path).splits) == ["train", "validation", "test"]


@pytest.mark.parametrize(
    "names", [("Bus", "Car", "Train"), ("crash_test", "picnic"), ("Dev", "Ops"), ("train_station", "airport")]
)
def test_classes_that_are_called_like_splits_stay_classes(names, tmp_path):
    fill(tmp_path, [f"{name}/1.jpg" for name in names])
    found = folder.scan(tmp_path)
    assert (found.classes, list(found.splits)) == (tuple(sorted(names)), ["train"])
    assert bool(found.notes) == ("Dev" in names), "which alone may well be a split"


def test_one_split_alone_is_one_if_nothing_lies_beside_it(tmp_path):
    fill(tmp_path, ["Training/cat/1.jpg", "Training/dog/2.jpg"])
    (tmp_path / "empty").mkdir()
    assert folder.scan(tmp_path).classes == ("cat", "dog")
    fill(tmp_path, ["3.jpg"])
    assert files_of(folder.scan(tmp_path)) == {"train": ("3.jpg", "Training/cat/1.jpg", "Training/dog/2.jpg")}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a/1.jpg", "test/1.jpg"), "all images in them are trained on: test"),
        (("train1/1.jpg", "train2/1.jpg", "test/1.jpg"), "all images in them are trained on: test, train1, train2"),
        (("pred/1.jpg", "seg_train/1.jpg", "seg_test/1.jpg"), "are trained on: seg_test, seg_train"),
        (
            ("trainA/1.jpg", "trainB/1.jpg", "testA/1.jpg", "testB/1.jpg"),
            "are trained on: testA, testB, trainA, trainB",
        ),
        (("trainA/1.jpg", "testA/1.jpg", "banana/1.jpg"), "are trained on: testA, trainA"),
        (("x_trainA/1.jpg", "x_testA/1.jpg", "banana/1.jpg"), "are trained on: x_testA, x_trainA"),
        (("images/train/1.jpg", "images/val/1.jpg", "more/1.jpg"), "images in images/val/ (expected"),
        (("images/train/1.jpg", "images/val/1.jpg", "1.jpg"), "images in images/val/ (expected"),
        (("cat/test/1.jpg", "cat/train/1.jpg", "dog/test/1.jpg"), "images in cat/test/ and 1 more folders"),
    ],
)
def test_test_images_that_are_trained_on_are_named(names, words, tmp_path):
    found = folder.scan(fill(tmp_path, names))
    assert len(found.splits["train"]) == len(names)
    assert any(words in note for note in found.notes)


def test_a_class_called_test_is_named_once(tmp_path):
    found = folder.scan(fill(tmp_path, ["a/1.jpg", "test/1.jpg"]))
    assert len(found.notes) == 1
    assert found.notes[0].startswith("Not taken as splits, so that all images in them are trained on: test (expected")


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("photos/1.jpg", "photos/2.jpg"), None),
        (("my_train/a/1.jpg", "my_train/b/2.jpg"), None),
        ((".train/a/1.jpg", ".test/a/1.jpg", "a/1.jpg", "b/1.jpg"), ("a", "b")),
    ],
    ids=["one folder", "one name with a word in it", "hidden ones"],
)
def test_what_is_no_split_stays_where_it_is(names, classes, tmp_path):
    found = folder.scan(fill(tmp_path, names))
    assert files_of(found) == {"train": tuple(name for name in names if name[0] != ".")}
    assert (found.splits["train"].root, found.classes) == (str(tmp_path), classes)


def test_train_alone_is_a_split_whatever_lies_beside_it(tmp_path):
    found = folder.scan(fill(tmp_path, ["train/a/1.jpg", "train/b/2.jpg", "other/3.jpg"]))
    assert (files_of(found), found.classes) == ({"train": ("a/1.jpg", "b/2.jpg")}, ("a", "b"))
    assert found.notes == (f"Passed over: 1 folder, which is no split (beside train/): {tmp_path}/other",)


def test_what_lies_beside_the_splits_is_named(tmp_path):
    """And train, val as before: of two folders for one split the one that was taken before."""
    fill(tmp_path, ["train/a/1.jpg", "val/a/2.jpg", "validation/a/3.jpg", "other/4.jpg", "5.jpg"])
    found = folder.scan(tmp_path)
    assert found.splits["validation"].root == str(tmp_path / "validation")
    assert found.notes[:2] == (
        f"Passed over: 2 folders, which are no split (beside train/): {tmp_path}/other, ...",
        f"Passed over: 1 image, which is in no split (beside train/): {tmp_path}/5.jpg",
    )


def test_what_is_called_like_the_splits_beside_them_is_no_class(tmp_path):
    """Intel's scenes have seg_pred/, without labels, beside seg_train/ and seg_test/."""
    names = ["seg_train/sea/1.jpg", "seg_train/street/2.jpg", "seg_test/sea/3.jpg", "seg_pred/4.jpg"]
    found = folder.scan(fill(tmp_path, names))
    assert files_of(found) == {"train": ("sea/1.jpg", "street/2.jpg"), "test": ("sea/3.jpg",)}
    assert (found.classes, found.splits["test"].labels) == (("sea", "street"), (0,))
    assert found.notes == (
        "Splits: train is seg_train/, test is seg_test/",
        f"Passed over: 1 folder, which is no split (beside seg_train/): {tmp_path}/seg_pred",
    )


def test_splits_of_yolos_layout(tmp_path):
    """images/ beside labels/, which holds texts; and a link back to itself ends nothing."""
    fill(tmp_path, ["images/train/1.jpg", "images/train/2.jpg", "images/val/3.jpg", "images/test/4.jpg"])
    fill(tmp_path, ["labels/train/1.txt", "labels/val/3.txt"], b"0 0.5 0.5 1 1")
    found = folder.scan(tmp_path)
    assert files_of(found) == {"train": ("1.jpg", "2.jpg"), "validation": ("3.jpg",), "test": ("4.jpg",)}
    assert found.splits["train"].root == str(tmp_path / "images" / "train")
    assert found.notes[:2] == (
        "Splits: train is images/train/, validation is images/val/, test is images/test/",
        f"Passed over: 1 folder, which is no split (beside images/): {tmp_path}/labels",
    )
    (tmp_path / "round").mkdir()
    (tmp_path / "round" / "again").symlink_to(tmp_path / "round")
    with pytest.raises(UserError, match="There are no images in"):
        folder.scan(tmp_path / "round")


def test_a_holdout_beside_a_test_is_the_one_that_is_passed_over(tmp_path):
    found = folder.scan(fill(tmp_path, ["Train/1.jpg", "Test/2.jpg", "holdout/3.jpg"]))
    assert files_of(found) == {"train": ("1.jpg",), "test": ("2.jpg",)}
    assert f"Passed over: 1 folder, which is no split (beside Train/): {tmp_path}/holdout" in found.notes


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("TrainSet", "train"), ("test_", "test"), ("dataset", None), ("set", None), ("trains", None),
     ("2017", None), ("latest", None), ("value", None), ("training data 2", "train"), ("hold-out", "test"),
     ("held", None), ("holdouts", None)],
)  # fmt: skip
def test_what_a_name_says(name, split):
    assert splits._split_named(name) == split


@pytest.mark.parametrize(
    ("name", "split"),
    [("seg_train", "train"), ("trainA", "train"), ("myTestData", "test"), ("VAL_x", "validation"), ("strain", None),
     ("train_val", None), ("latest", None), ("contest", None)],
)  # fmt: skip
def test_what_a_word_in_a_name_says(name, split):
    assert splits._split_hinted_at(name) == split
