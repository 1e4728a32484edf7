"""Images and label maps that are decoded once: the same crops as without, whatever happens to the folder."""

import os
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from repre_jax.builders import segmentation as builder
from repre_jax.core.errors import UserError
from repre_jax.data import decoded, loader
from repre_jax.data.segmentation import Asked, open_dataset
from repre_jax.data.segmentation_views import DECODED, SegmentationView
from repre_jax.data.segmentation_views import decoded as decoded_record
from tests.helpers.label_maps import SIZE, fill, photograph, png, prepare, values
from tests.test_configs import config_of

PICTURE = tfds.features.Image(shape=(None, None, 3))
MAP = tfds.features.Image(shape=(None, None, 1))
SPLITS = [("images/train/{}", "labels/train/{}", 6), ("images/val/{}", "labels/val/{}", 2)]


def opened(root, **settings):
    """(Config, data set) of a folder that is filled where it is not there."""
    if not root.exists():
        fill(root, SPLITS)
    config = config_of("segment")
    config.data.name, config.data.num_classes, config.data.channels = f"folder:{root}", 3, 3
    for key, value in settings.items():
        config.data[key] = value
    return config, builder.open_data(config)


def kept(root, folder, **settings):
    config, found = opened(root, decoded_cache=str(folder), **settings)
    return builder.train_records(config, found)


def stream(records, classes, workers=0, batches=4):
    view = SegmentationView((8, 8), classes)
    found = loader.train_batches(records, view, seed=3, batch_size=3, start_step=0, workers=workers)
    return [next(found) for _ in range(batches)]  # two epochs


def check(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("images", "label_maps", "extents"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def number_of(records, index):
    """Of which record n has photograph(n) and values(n): a folder's order is not that of the names."""
    return int(records.source[index]["file_name"].removesuffix(".png"))


@pytest.fixture
def place(tmp_path):
    """(Folder of images, folder of what is decoded, which is not there yet)."""
    return tmp_path / "photos", tmp_path / "of" / "decoded"


def files(folder):
    return sorted(folder.rglob("*.npy"))


def test_crops_are_the_same_while_they_are_written_and_afterwards(place):
    _, found = opened(place[0])
    expected = stream(found.dataset.train, found.classes)
    for workers in (2, 0, 0):  # who write at the same time, and who read
        records, said = kept(*place)
        check(stream(records, found.classes, workers), expected)
        assert len(files(place[1])) == len(records) == 6
    here = {file.stat().st_size for file in files(place[1])}
    assert here == {128 + 4 * SIZE[0] * SIZE[1]}  # a header, three colours and a class
    assert said.startswith("0.0 MB in ")
    assert f"decoded/photos-{files(place[1])[0].parent.name.rpartition('-')[2]}, of which" in said
    assert {file.suffix for file in place[1].rglob("*.*")} == {".npy"}


def test_what_is_kept_is_not_decoded_again(place):
    records, _ = kept(*place)
    first = records[4][DECODED]
    image, classes = kept(*place)[0][4][DECODED]
    assert isinstance(image.base.base, np.memmap)
    np.testing.assert_array_equal(image, first[0])
    number = number_of(records, 4)
    assert (png(image), classes.tolist()) == (photograph(number), values(number).tolist())


def test_nothing_is_kept_unless_it_is_asked_for(place):
    config, found = opened(place[0])
    assert builder.train_records(config, found) == (found.dataset.train, None)


@pytest.mark.parametrize("size", [0, 60, 128, 500])
def test_half_a_file_is_made_anew(place, size):
    records, _ = kept(*place)
    whole = records[0][DECODED]
    (file,) = files(place[1])
    content = file.read_bytes()
    os.truncate(file, size)
    image, classes = records[0][DECODED]
    np.testing.assert_array_equal(image, whole[0])
    np.testing.assert_array_equal(classes, whole[1])
    assert file.read_bytes() == content


def test_a_file_of_something_else_is_made_anew(place):
    records, _ = kept(*place)
    assert records[1].keys() == {DECODED}
    (file,) = files(place[1])
    content = file.read_bytes()
    for other in (np.zeros((4 * SIZE[0], SIZE[1]), np.float32), np.zeros((7, 5), np.uint8), np.zeros(8, np.uint8)):
        np.save(file, other)
        assert png(records[1][DECODED][0]) == photograph(number_of(records, 1))
        assert file.read_bytes() == content


def test_an_image_or_a_label_map_that_changed_is_decoded_again(place):
    records, _ = kept(*place)
    before, number = records[2][DECODED], number_of(records, 2)
    (place[0] / f"images/train/{number}.png").write_bytes(photograph(99))
    image, classes = records[2][DECODED]
    assert png(image) == photograph(99)
    np.testing.assert_array_equal(classes, before[1])
    (place[0] / f"labels/train/{number}.png").write_bytes(png(values(98)))
    np.testing.assert_array_equal(records[2][DECODED][1], values(98))


def test_other_data_have_another_folder(place):
    folders = set()
    others = ({"train_split": "train[1:]"}, {"first_value": 1}, {"channels": 1}, {"image_key": "image"})
    for settings in ({}, {}, *others):
        records, _ = kept(*place, **settings)
        image, _ = records[0][DECODED]
        assert image.shape == (*SIZE, settings.get("channels", 3))
        folders.add(records.folder)
    assert len(folders) == 5
    assert len(files(place[1])) == 5
    records, _ = kept(*place, train_split="train[1:]")
    assert png(records[0][DECODED][0]) == photograph(number_of(records, 0))


def test_records_of_tfds_are_kept_by_their_numbers(tmp_path):
    features = {"image": PICTURE, "where": MAP}
    directory = prepare(tmp_path / "tfds", features, lambda n: {"image": photograph(n), "where": png(values(n))})
    found = open_dataset("streets", directory, asked=Asked(num_classes=3))
    records, _ = decoded.kept(found.dataset, found.classes, 3, [], str(tmp_path / "decoded"))
    expected = decoded_record(found.dataset.train[2], found.classes, 3)
    for _ in range(2):
        for ours, theirs in zip(records[2][DECODED], expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    (file,) = files(tmp_path / "decoded")
    assert file.name == "00000002.npy"
    assert file.parent.name.startswith("streets-")


def test_a_disk_that_is_too_small_is_refused(place, monkeypatch):
    records, _ = kept(*place)
    assert records[0]
    one = 128 + 4 * SIZE[0] * SIZE[1]
    monkeypatch.setattr(decoded, "free_bytes", lambda _: 5 * one)  # one is there
    kept(*place)
    monkeypatch.setattr(decoded, "free_bytes", lambda _: 4 * one)
    with pytest.raises(UserError, match=r"no room for the 6 training images of folder:.*\n.*0.0 MB are free\n"):
        kept(*place)


def test_a_folder_that_cannot_be_one_is_refused(place):
    place[1].parent.mkdir(parents=True)
    place[1].write_text("")
    with pytest.raises(
        UserError, match=r"decoded, cannot be written: Not a directory\n  change:   --config\.data\.dec"
    ):
        kept(*place)


def test_training_goes_on_when_nothing_can_be_written_any_more(place, capsys):
    records, _ = kept(*place)
    shutil.rmtree(place[1])
    for number in range(6):
        assert png(records[number][DECODED][0]) == photograph(number_of(records, number))
    assert capsys.readouterr().out.count("are not kept any more") == 1
