"""Data sets of images with label maps: prepared by TFDS, and folders."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from repre_jax.core.errors import UserError
from repre_jax.data import label_maps, loader, segmentation, unreadable
from repre_jax.data.scenes import builder, dense_canvases
from repre_jax.data.segmentation import Asked, open_dataset
from repre_jax.data.segmentation_views import SegmentationView, decoded
from tests.helpers.label_maps import SIZE, fill, palette_png, photograph, png, prepare, values

PICTURE = tfds.features.Image(shape=(None, None, 3))
MAP = tfds.features.Image(shape=(None, None, 1))
SPLITS = [("images/train/{}", "labels/train/{}", 4), ("images/val/{}", "labels/val/{}", 2)]


def record(number, image="image", label_map="label_map", **others):
    return {image: photograph(number), label_map: png(values(number)), **others}


def check(opened, count=4, tests=2):
    """That each record has photograph(n) and values(n) of one n: its place, or what its name says."""
    assert (len(opened.dataset.train), len(opened.dataset.test)) == (count, tests)
    numbers = set()
    for place in range(count):
        found = opened.dataset.train[place]
        number = int(found["file_name"].removesuffix(".png")) if "file_name" in found else place
        image, classes = decoded(found, opened.classes, 3)
        np.testing.assert_array_equal(classes, values(number))
        assert png(image) == photograph(number)
        numbers.add(number)
    assert numbers == set(range(count))


@pytest.mark.parametrize("image", ["image", "image_left", "photo"])
@pytest.mark.parametrize("kind", ["named", "numbered", "image", "tensor"])
def test_the_features_are_found_by_their_kinds(kind, image, tmp_path):
    labelled = tfds.features.LabeledImage
    feature = {
        "named": labelled(labels=["road", "car", "sky"], shape=(None, None, 1)),
        "numbered": labelled(labels=3, shape=(None, None, 1)),
        "image": MAP,
        "tensor": tfds.features.Tensor(shape=SIZE, dtype=np.int32),
    }[kind]
    content = (
        (lambda number: values(number).astype(np.int32)) if kind == "tensor" else lambda number: png(values(number))
    )
    features = {image: PICTURE, "where": feature, "score": np.float32, "file_name": tfds.features.Text()}
    directory = prepare(
        tmp_path,
        features,
        lambda n: {image: photograph(n), "where": content(n), "score": 0.5, "file_name": f"{n}.png"},
    )
    asked = Asked(num_classes=3 if kind in ("image", "tensor") else None)
    opened = open_dataset("streets", directory, asked=asked)
    check(opened)
    assert opened.classes.names == (("road", "car", "sky") if kind == "named" else ("0", "1", "2"))
    assert opened.dataset.test_split == "validation"
    assert opened.dataset.train[2]["file_name"] == "2.png"
    assert opened.sizes("test") == {SIZE: 2}
    assert opened.dataset.identity()["classes"] == 3


def test_features_can_be_told(tmp_path):
    features = {"image": PICTURE, "other": PICTURE, "coarse": MAP, "fine": MAP}
    directory = prepare(
        tmp_path, features, lambda n: record(n, label_map="fine", other=photograph(9), coarse=png(values(n) * 0))
    )
    with pytest.raises(UserError, match="several features that may be the label maps: coarse, fine"):
        open_dataset("streets", directory)
    check(open_dataset("streets", directory, asked=Asked(label_map_key="fine", num_classes=3)))
    with pytest.raises(UserError, match=r"no feature 'mask'.\n  expected: one of coarse, fine, image, other"):
        open_dataset("streets", directory, asked=Asked(label_map_key="mask"))
    found = open_dataset("streets", directory, asked=Asked("other", "coarse", 1)).dataset.train[0]
    assert found["image"] == photograph(9)


@pytest.mark.parametrize("grey", [False, True])
def test_a_data_set_without_label_maps_says_what_to_do(tmp_path, grey):
    picture = tfds.features.Image(shape=(None, None, 1)) if grey else PICTURE
    directory = prepare(
        tmp_path,
        {"image": picture, "label": tfds.features.ClassLabel(num_classes=2)},
        lambda n: {"image": png(np.full((4, 4), n, np.uint8)) if grey else photograph(n), "label": 0},
    )
    with pytest.raises(UserError, match=r"streets has no label maps. Its features are image, label") as raised:
        open_dataset("streets", directory)
    assert "scenes/dense" in str(raised.value)


def test_the_number_of_classes_must_be_known_and_right(tmp_path):
    labelled = {"image": PICTURE, "label_map": tfds.features.LabeledImage(labels=3, shape=(None, None, 1))}
    directory = prepare(tmp_path / "labelled", labelled, record)
    with pytest.raises(UserError, match="num_classes is 4, and data set streets has 3 classes"):
        open_dataset("streets", directory, asked=Asked(num_classes=4))
    directory = prepare(tmp_path / "plain", {"image": PICTURE, "label_map": MAP}, record)
    with pytest.raises(UserError, match=r"values up to 2 .*\n  change:   --config.data.num_classes=3, if"):
        open_dataset("streets", directory)
    with pytest.raises(label_maps.WrongLabelMap, match=r"expected: 0 to 1, .*\n  given:    2\n"):
        open_dataset("streets", directory, asked=Asked(num_classes=2))
    for asked in (Asked(num_classes=0), Asked(num_classes=255), Asked(num_classes=3, first_value=255)):
        with pytest.raises(UserError, match=r"data.num_classes"):
            open_dataset("streets", directory, asked=asked)


def test_a_later_record_is_checked_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation.label_checks, "LOOKED_AT", 1)
    directory = prepare(
        tmp_path,
        {"image": PICTURE, "label_map": MAP},
        lambda n: record(n) | ({"label_map": png(values(n) + 4)} if n == 2 else {}),
    )
    opened = open_dataset("streets", directory, asked=Asked(num_classes=3))
    view = SegmentationView((8, 8), opened.classes)
    with pytest.raises(label_maps.WrongLabelMap, match="given:    4, 5, 6"):
        view(opened.dataset.train[2], np.random.default_rng(0))


def test_an_unreadable_label_map_is_named_and_replaced(tmp_path):
    """As an unreadable image is."""
    fill(tmp_path, [("images/{}", "labels/{}", 4)])
    (tmp_path / "labels/1.png").write_bytes(png(values(1))[:50])
    opened = open_dataset(f"folder:{tmp_path}", asked=Asked(num_classes=3))
    records, view, said = opened.dataset.train, SegmentationView((8, 8), opened.classes), []
    seen = unreadable.Unreadable(records, 3, 0.5, said.append)
    stream = loader.train_batches(records, view, seed=0, batch_size=4, start_step=0, workers=0, on_unreadable=seen)
    assert next(stream).images.shape == (4, 8, 8, 3)
    assert len(said) == 1
    assert "another record took the place of 1.png: " in said[0]
    assert "no readable label map" in said[0]


@pytest.mark.parametrize(
    "places",
    [SPLITS, [("train/images/{}", "train/labels/{}", 4), ("val/images/{}", "val/labels/{}", 2)]],
    ids=["splits inside", "splits outside"],
)
def test_a_folder_has_its_splits_both_ways_round(places, tmp_path):
    (fill(tmp_path, places) / "classes.txt").write_text("road\n# the rest\ncar\n\nsky\n")
    opened = open_dataset(f"folder:{tmp_path}")
    check(opened)
    assert opened.classes.names == ("road", "car", "sky")
    assert opened.dataset.test_split == "validation"
    assert opened.sizes("train") == {SIZE: 4}
    part = open_dataset(f"folder:{tmp_path}", train_split="train[:50%]+validation")
    assert len(part.dataset.train) == 4
    for number in range(4):
        found = part.dataset.train[number]
        name = int(found["file_name"].rpartition("/")[2].removesuffix(".png"))
        assert found["image"] == photograph(name)
        assert found["label_map"] == png(values(name))


def test_a_folder_without_splits_trains_on_all(tmp_path):
    fill(tmp_path, [("images/{}", "masks/{}", 4)])
    opened = open_dataset(f"folder:{tmp_path}", asked=Asked(num_classes=3))
    assert len(opened.dataset.train) == 4
    assert opened.dataset.test is None
    with pytest.raises(UserError, match=r"does not say how many classes .*\n.*values up to 2"):
        open_dataset(f"folder:{tmp_path}")


def test_a_folders_faults_are_named(tmp_path):
    fill(tmp_path, SPLITS)
    (tmp_path / "labels/train/1.png").unlink()
    with pytest.raises(
        UserError, match=r"1 of 4 images in .* have no label map: 1.png.\n  expected: for 1.png the file 1.png in"
    ):
        open_dataset(f"folder:{tmp_path}", asked=Asked(num_classes=3))
    (tmp_path / "labels/train/1.png").write_bytes(png(values(1)[:5]))
    with pytest.raises(label_maps.WrongLabelMap, match=r"another size than its image, that of 1\.png"):
        open_dataset(f"folder:{tmp_path}", asked=Asked(num_classes=3))
    with pytest.raises(UserError, match=r"has no label maps.\n  expected: images/ and labels/"):
        open_dataset(f"folder:{tmp_path / 'images'}")
    (tmp_path / "labels/train/1.png").write_bytes(png(values(1)))
    (tmp_path / "classes.txt").write_text("road\ncar\nsky\n")
    with pytest.raises(UserError, match=r"num_classes is 5, and .*classes.txt names 3 classes"):
        open_dataset(f"folder:{tmp_path}", asked=Asked(num_classes=5))
    (tmp_path / "classes.txt").write_text("road\n1 2 3 car\n4 5 6 sky")
    with pytest.raises(UserError, match="given:    3 names and 2 colours"):
        open_dataset(f"folder:{tmp_path}")
    (tmp_path / "classes.txt").write_text("road\ncar\nroad\n")
    with pytest.raises(UserError, match="names the class 'road' twice"):
        open_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("asked", [Asked(), Asked(num_classes=3)])
def test_a_label_map_that_is_a_jpeg_is_named_before_any_training(asked, tmp_path):
    fill(tmp_path, SPLITS)
    (tmp_path / "labels/train/2.png").unlink()
    Image.fromarray(values(2)).save(tmp_path / "labels/train/2.jpg")
    with pytest.raises(label_maps.WrongLabelMap, match=r"A label map is a JPEG, that of 2\.png, which"):
        open_dataset(f"folder:{tmp_path}", asked=asked)


def test_a_test_split_without_a_single_class_cannot_be_measured_by(tmp_path, capsys):
    """Of 20 label maps 8 are looked at when they are opened, and all before they are refused."""
    fill(tmp_path, [SPLITS[0], ("images/val/{}", "labels/val/{}", 20)])
    for number in range(20):
        (tmp_path / f"labels/val/{number}.png").write_bytes(png(np.full(SIZE, 255, np.uint8)))
    opened = open_dataset(f"folder:{tmp_path}", asked=Asked(num_classes=3))
    assert capsys.readouterr().out.count("none has a pixel of a class") == 1
    (tmp_path / "images/val/3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"No label map of the test images of folder:.* has a pixel(.|\n)*data.test_sp"):
        opened.check_scored()
    mapped = opened.dataset.test
    unseen = next(number for number in range(20) if number not in np.linspace(0, 19, 8).astype(int))
    some = np.full(SIZE, 255, np.uint8)
    some[5, 7] = 2
    Path(mapped.map(unseen)).write_bytes(png(some))
    opened = open_dataset(f"folder:{tmp_path}", asked=Asked(num_classes=3))
    assert opened.unlabelled
    opened.check_scored()
    check(opened, tests=20)


def test_a_training_split_without_a_class_is_warned_of_and_a_test_split_with_some_is_scored(tmp_path, capsys):
    fill(tmp_path, SPLITS)
    for number in range(4):
        (tmp_path / f"labels/train/{number}.png").write_bytes(png(np.full(SIZE, 255, np.uint8)))
    opened = open_dataset(f"folder:{tmp_path}", asked=Asked(num_classes=3))
    assert "of 4 label maps" in capsys.readouterr().out
    assert not opened.unlabelled
    opened.check_scored()


def test_maps_in_colours_need_a_table_of_them(tmp_path):
    colours = [(0, 0, 0), (128, 64, 128), (70, 70, 70)]
    fill(tmp_path, SPLITS)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            (tmp_path / f"labels/{split}/{number}.png").write_bytes(png(np.array(colours, np.uint8)[values(number)]))
    with pytest.raises(UserError, match=r"is a picture in colours(.|\n)*'128 64 128 road'"):
        open_dataset(f"folder:{tmp_path}", asked=Asked(num_classes=3))
    (tmp_path / "classes.txt").write_text("0 0 0 nothing\n128 64 128 road\n70, 70, 70 building\n1 1 1 ignored\n")
    opened = open_dataset(f"folder:{tmp_path}")
    check(opened)
    assert opened.classes.names == ("nothing", "road", "building")
    assert opened.classes.colours == tuple(colours)
    before = opened.dataset.identity()
    (tmp_path / "classes.txt").write_text("1 1 1 nothing\n128 64 128 road\n70 70 70 building\n0 0 0 ignored\n")
    after = open_dataset(f"folder:{tmp_path}").dataset.identity()
    assert [key for key in before if before[key] != after[key]] == ["train_content", "test_content"]


def test_palettes_that_differ_are_no_classes(tmp_path, monkeypatch):
    """A program that makes palettes numbers colours as they come. Found among the first maps, across the splits, and
    when a later map is read, by a process of its own too; entries that no pixel has say nothing."""
    monkeypatch.setattr(segmentation.label_checks, "LOOKED_AT", 2)  # the first and the last
    fill(tmp_path, SPLITS)
    colours = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]

    def store(name, number, palette):
        (tmp_path / f"labels/{name}.png").write_bytes(palette_png(values(number), palette))

    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            store(f"{split}/{number}", number, [*colours, (number, 9, 9)])
    name, asked = f"folder:{tmp_path}", Asked(num_classes=3)
    opened = open_dataset(name, asked=asked)
    check(opened)
    first, _, later, last = (opened.dataset.train[place]["file_name"].removesuffix(".png") for place in range(4))
    tested = opened.dataset.test[0]["file_name"].removesuffix(".png")
    given = r"palettes that differ(.|\n)*value 0, which is \(0, 0, 0\) in {}, and \(0, 128, 0\) in {}\n"
    store(f"train/{last}", int(last), colours[::-1])
    with pytest.raises(label_maps.WrongLabelMap, match=given.format(rf"{first}\.png", rf"{last}\.png")):
        open_dataset(name, asked=asked)
    store(f"train/{last}", int(last), colours)
    store(f"train/{later}", int(later), colours[::-1])
    opened = open_dataset(name, asked=asked)
    view = pickle.loads(pickle.dumps(SegmentationView((8, 8), opened.classes)))  # as workers have it
    with pytest.raises(label_maps.WrongLabelMap, match=given.format(rf"{first}\.png", rf"{later}\.png")):
        view(opened.dataset.train[2], np.random.default_rng(0))
    for number in range(2):
        store(f"val/{number}", number, colours[::-1])
    with pytest.raises(label_maps.WrongLabelMap, match=given.format(rf"{first}\.png.*", rf"{tested}\.png")):
        open_dataset(name, asked=asked)


def test_scenes_know_their_classes(tmp_path, monkeypatch):
    monkeypatch.setitem(builder.Scenes.RECORDS, "dense", {"train": 3, "test": 2, "unseen": 2})
    opened = open_dataset("scenes/dense", str(tmp_path))
    assert (len(opened.dataset.train), len(opened.dataset.test)) == (3, 2)
    assert opened.classes.names[:2] == ("background", "Smileys & Emotion")
    assert len(opened.classes) == 8
    assert opened.sizes("test") == {(96, 128): 2}
    canvas = dense_canvases.canvas("train", 1)
    _, classes = decoded(opened.dataset.train[1], opened.classes, 3)
    np.testing.assert_array_equal(classes, canvas.label_map())
