"""Data sets that TFDS prepared, whole, in part or damaged: what is read, and what is said of the rest."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from repre_jax.core.errors import UserError
from repre_jax.data import conversion, crops, loader, record_files, subset, views
from repre_jax.tools.checkup import storage
from tests.helpers.prepared import Pets, change, change_info, files_of, is_whole, opened, picture, prepare, refused


def test_records_are_those_that_tfds_reads(root, place):
    dataset = opened(root)
    is_whole(dataset)
    theirs = tfds.builder_from_directory(place).as_data_source("train[3:9]+test[:2]", decoders=prepared_decoders())
    ours = opened(root, train_split="train[3:9]+test[:2]").train
    assert [(a["image"], a["label"]) for a in ours] == [(b["image"], b["label"]) for b in theirs]
    assert pickle.loads(pickle.dumps(ours))[7]["image"] == picture(101), "as workers get it"


def prepared_decoders():
    return {"image": tfds.decode.SkipDecoding()}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.unlink(), "is missing"),
        (lambda file: file.write_bytes(b""), "is empty"),
        (lambda file: os.truncate(file, 30_000), "(30,000 bytes) has 0 of 7 records: it is cut short"),
        (lambda file: os.truncate(file, file.stat().st_size - 1), "has 0 of 7 records"),
        (lambda file: file.write_bytes(b"no record" * 9000), "has 0 of 7 records"),
        (lambda file: shutil.copy(file.with_name(file.name.replace("train", "test")), file), "has 2 of 7 records"),
        (lambda file: file.unlink() or file.mkdir(), "is missing"),
    ],
    ids=["missing", "empty", "cut", "cut by a byte", "other bytes", "another split's", "a folder"],
)
def test_a_file_of_records_that_is_not_whole_is_named(root, place, damage, words):
    """At the start, by doctor too; a split that does not need the file is read."""
    first = files_of(place)[0]
    assert record_files.records_in(str(first)) == 7
    damage(first)
    message = refused(root)
    assert message.startswith(f"1 file of records in {place} cannot be read:\n  {first.name}")
    assert words in message
    assert f"delete {place} and prepare the data set again" in message
    problems = storage.data(root, "--data-dir", 1024).problems
    assert len(problems) == 1
    assert first.name in problems[0].what or "1 of the 6 files" in problems[0].what
    assert len(opened(root, train_split="train[10:]").train) == 10


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("\nNot generated yet.\nMore."), "Not generated yet"),
        (ValueError("wait ..."), "wait ..."),
        (KeyError(), "KeyError"),
    ],
)
def test_what_a_library_says_ends_in_one_full_stop(error, words):
    """That of the message in which it stands."""
    assert record_files.first_line(error) == words


def test_many_files_that_are_missing_are_counted(root, place):
    for file in (*files_of(place), *files_of(place, "test")):
        file.unlink()
    message = refused(root)
    assert message.startswith("3 files of records")
    assert "pets-train.array_record-00002-of-00003 is missing" in message


def test_a_record_that_is_damaged_inside_its_file_is_replaced_and_named(root, place):
    """By the next that the order names in training, and left out in a test pass; read straight, it is an error."""
    file = files_of(place)[2]
    data = bytearray(file.read_bytes())
    data[15_000:15_064] = bytes(64)
    file.write_bytes(data)
    train = opened(root).train
    bad = []
    for number in range(20):
        try:
            assert train[number]["image"] == picture(number)
        except record_files.DamagedRecord as error:
            bad.append(number)
            assert str(error).startswith(f"{file.name}, record {number} of the split: Corrupted")
    assert len(bad) == 1
    assert 13 <= bad[0] < 20
    view = views.PretrainView(crops.RandomCrops(count=2, size=(12, 20), scale=(0.3, 1.0), ratio=(0.75, 1.33)))
    said = []
    batches = loader.train_batches(
        train, view, seed=3, batch_size=20, start_step=0, workers=0, on_unreadable=said.append
    )
    assert next(batches).images.shape == (20, 2, 12, 20, 3)
    assert said == bad
    passed = loader.test_batches(train, views.CentreView((8, 8), 1.0), batch_size=20)
    assert [count for _, count in passed] == [19]
    with pytest.raises(UserError, match=rf"{file.name}(.|\n)*change:   copy this file again"):
        subset.labels_of(train)
    assert subset.labelled(train)
    assert subset.labelled(subset.Subset(train, np.array([bad[0], 0]))), "by the first that can be read"


INFO_DAMAGE = {
    "missing": (lambda file: file.unlink(), "is missing"),
    "empty": (lambda file: file.write_text(""), "is empty"),
    "half": (lambda file: file.write_text(file.read_text()[:150]), "is damaged, or half a file"),
    "no text": (lambda file: file.write_bytes(bytes(range(256))), "is damaged, or half a file"),
    "another's": (lambda file: file.write_text("[1, 2]"), "is not TFDS's"),
    "without keys": (lambda file: file.write_text("{}"), "cannot be opened by TFDS"),
}


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("damage", INFO_DAMAGE)
def test_an_info_file_that_is_not_whole_is_named(root, place, name, damage):
    apply, words = INFO_DAMAGE[damage]
    apply(place / name)
    message = refused(root)
    assert message.startswith(f"{place}")
    assert "old TFDS version" not in message
    if (name, damage) == ("dataset_info.json", "missing"):
        assert "has no dataset_info.json: it is half a copy" in message
    else:
        assert words in message
        assert f"delete {place} and prepare the data set again" in message


@pytest.mark.parametrize("text", ["", "{", '{"mean": ["a"]}', "[]", '{"mean": 1}'])
def test_statistics_that_are_not_whole_are_named(root, place, text):
    (place / "metadata.json").write_text(text)
    assert refused(root).startswith(f"{place / 'metadata.json'}")
    (place / "metadata.json").write_text('{"mean": [0.5, 0.25, 1], "other": 3}')
    assert (opened(root).mean, opened(root).std) == ((0.5, 0.25, 1.0), None)


@pytest.mark.parametrize(("text", "names"), [("cat\n", 1), ("", 0), ("\n \n", 0), ("cat\ndog\ncow\n", 3)])
def test_class_names_that_are_cut_short(root, place, text, names):
    """Doctor says it, too."""
    (place / "label.labels.txt").write_text(text)
    what = f"{place / 'label.labels.txt'} has {names} of 2 names"
    assert refused(root).startswith(what)
    (problem,) = storage.data(root, "--data-dir", 1024).problems
    assert what in problem.what
    assert problem.fix.startswith("copy it again, or delete")


def test_numbers_stand_for_the_names_of_classes_with_a_word(root, place, capsys):
    """Where there is no file of names, as for MNIST."""
    is_whole(opened(root))
    assert "Note" not in capsys.readouterr().out
    (place / "label.labels.txt").unlink()
    assert opened(root).class_names == ("0", "1")
    assert "Note: pets has no label.labels.txt, so that its classes are called 0 to 1.\n" in capsys.readouterr().out
    assert storage.data(root, "--data-dir", 1024).problems == []


def with_records(place, **counts):
    """Has dataset_info.json name these splits only, each with files of so many records."""
    splits = json.loads((place / "dataset_info.json").read_text())["splits"]
    change_info(place, splits=[s | {"shardLengths": counts[s["name"]]} for s in splits if s["name"] in counts])


def test_a_split_without_records_is_told_from_one_that_is_not_there(root, place):
    """The other one is read; doctor says which it is."""
    with_records(place, train=[7, 6, 7], test=[0])
    expected = "  expected: one of train, or a part such as 'train[:90%]'\n  change:   --config.data.test_split=..."
    assert refused(root) == f"Split 'test' of data set pets is empty.\n{expected}"
    assert refused(root, test_split="tset").startswith("Data set pets has no split 'tset' (")
    assert [len(part) for part in (lambda d: (d.train, d.test))(opened(root, test_split="train[18:]"))] == [20, 2]
    (problem,) = storage.data(root, "--data-dir", 1024).problems
    assert problem.what == f"pets 1.0.0 in {root}: no records in test"


@pytest.mark.parametrize("counts", [{}, {"train": [], "test": [0]}], ids=["no splits", "empty ones"])
def test_a_version_without_any_record_is_damaged(root, place, counts):
    """Whatever its format: to convert it would give as much. An older version is named."""
    with_records(place, **counts)
    what = f"{place / 'dataset_info.json'} names no split that has records"
    assert refused(root).startswith(what)
    (problem,) = storage.data(root, "--data-dir", 1024).problems
    assert what in problem.what
    change_info(place, fileFormat="tfrecord")
    assert refused(root).startswith(what)
    (problem,) = storage.data(root, "--data-dir", 1024).problems
    assert what in problem.what
    with pytest.raises(UserError, match="names no split that has records"):
        conversion.plan(place, None)
    prepare(root, version="0.9.0")
    assert refused(root).splitlines()[-1].startswith("  or:       --config.data.name=pets:0.9.0")


class Sixteen(Pets, skip_registration=True):
    name = "sixteen"
    IMAGE = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16)


class Arrays(Pets, skip_registration=True):
    name = "arrays"
    IMAGE = tfds.features.Tensor(shape=(4, 4, 3), dtype=np.float32)

    def encoded(self, number):
        return np.full((4, 4, 3), number, np.float32)


def test_images_of_floats_are_refused(tmp_path, root, place):
    """TFDS stores an Image of float32 as a PNG of its four bytes a pixel."""
    prepare(tmp_path, Arrays)
    features = place / "features.json"
    features.write_text(features.read_text().replace('"dtype": "uint8"', '"dtype": "float32"').replace('"3"', '"1"'))
    for folder, name in ((tmp_path, "arrays"), (root, "pets")):
        message = refused(folder, name)
        assert "float32, whose range is not known" in message
        arrays = name == "arrays"
        assert f"Data set {name} has images {'that are arrays ' if arrays else ''}of float32" in message
        assert ("--config.data.value_range=" if arrays else "expected: images of uint8, or uint16") in message
        problem = next(each for each in storage.data(folder, "--data-dir", 1024).problems if name in each.what)
        assert "of float32" in problem.what


@pytest.mark.parametrize("numbers", ["float32", "int16", "uint16"])
def test_arrays_of_other_numbers_are_read_by_a_range(tmp_path, numbers):
    """An Image of them stays refused: its bytes are no numbers."""

    class Numbers(Arrays, skip_registration=True):
        name = "arrays"
        IMAGE = tfds.features.Tensor(shape=(4, 4, 3), dtype=np.dtype(numbers))

        def encoded(self, number):
            return np.full((4, 4, 3), number, numbers)

    prepare(tmp_path, Numbers)
    assert set(change(refused(tmp_path, "arrays"))) == {"value_range"}
    train = opened(tmp_path, "arrays", value_range=((0, 64),)).train
    for number in (3, 19):
        record = train[number]
        levels = crops.decode(record["image"], 3, record["value_range"])
        expected = number * 256 // (64 if numbers == "float32" else 65)
        np.testing.assert_array_equal(levels, np.full((4, 4, 3), expected))


def test_images_of_floats_stay_refused_with_a_range(root, place):
    features = place / "features.json"
    features.write_text(features.read_text().replace('"dtype": "uint8"', '"dtype": "float32"').replace('"3"', '"1"'))
    assert "images of float32, whose range is not known" in refused(root, value_range=((0, 1),))


def test_images_of_sixteen_bits_are_read(tmp_path):
    prepare(tmp_path, Sixteen)
    assert len(opened(tmp_path, "sixteen").train) == 20


def test_array_record_beside_tfrecord_is_read(root, place):
    """As TFDS reads it, where `tfds convert_format` has converted in place."""
    for file in (*files_of(place), *files_of(place, "test")):
        file.with_name(file.name.replace("array_record", "tfrecord")).write_bytes(b"not looked into")
    change_info(place, fileFormat="tfrecord", alternativeFileFormats=["array_record"])
    is_whole(opened(root))
    assert storage.data(root, "--data-dir", 1024).problems == []
    files_of(place)[0].unlink()
    message = refused(root)
    assert "pets-train.array_record-00000-of-00003 is missing" in message
    assert "delete" not in message, "the TFRecord files may be whole"
