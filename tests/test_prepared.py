"""Data sets that TFDS prepared, whole, in part, damaged or elsewhere: what is read, and what is said of the rest."""

import json
import os
import pickle
import shlex
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from repre_jax.core.errors import UserError
from repre_jax.data import conversion, crops, loader, record_files, sources, subset, views
from repre_jax.tools.checkup import storage
from tests.helpers.prepared import Pets, change_info, picture, prepare


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of data sets that holds pets 1.0.0; to be copied, not changed."""
    root = tmp_path_factory.mktemp("whole")
    prepare(root)
    return root


@pytest.fixture
def root(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "tfds")


@pytest.fixture
def place(root):
    return root / "pets" / "1.0.0"


def opened(root, name="pets", **splits):
    return sources.open_dataset(name, str(root), **splits)


def refused(root, name="pets", **splits):
    with pytest.raises(UserError) as error:
        opened(root, name, **splits)
    return str(error.value)


def change(message):
    """The flags that a message advises, by key; as a shell would take them apart."""
    line = next(line for line in message.splitlines() if line.startswith("  change:"))
    flags = [word for word in shlex.split(line.removeprefix("  change:")) if word.startswith("--config.")]
    return dict(flag.removeprefix("--config.data.").split("=", 1) for flag in flags)


def is_whole(dataset):
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (20, 6, 2)
    assert [record["image"] for record in dataset.train] == [picture(number) for number in range(20)]
    assert [int(record["label"]) for record in dataset.test] == [0, 1, 0, 1, 0, 1]


def test_records_are_those_that_tfds_reads(root, place):
    dataset = opened(root)
    is_whole(dataset)
    theirs = tfds.builder_from_directory(place).as_data_source("train[3:9]+test[:2]", decoders=prepared_decoders())
    ours = opened(root, train_split="train[3:9]+test[:2]").train
    assert [(a["image"], a["label"]) for a in ours] == [(b["image"], b["label"]) for b in theirs]
    assert pickle.loads(pickle.dumps(ours))[7]["image"] == picture(101), "as workers get it"


def prepared_decoders():
    return {"image": tfds.decode.SkipDecoding()}


def files_of(place, split="train"):
    return sorted(place.glob(f"pets-{split}.array_record-*"))


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


class Resized(Pets, skip_registration=True):
    name = "resized"


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


@pytest.mark.parametrize("inside", ["pets/1.0.0", "pets", "..", "../..", "pets/1.0.0/.."])
def test_a_data_directory_that_is_too_deep_or_too_high(root, inside):
    """What the message advises is what reads the data set."""
    given = root / inside
    if inside == "../..":
        assert "Data set pets was not found" in refused(given)
        return
    message = refused(given)
    assert f"It lies in {root / 'pets'}.\n" in message
    is_whole(sources.open_dataset("pets", change(message)["dir"]))


def test_a_folder_whose_name_wants_quotes(root):
    odd = root.rename(root.with_name("my data's"))
    assert change(refused(odd / "pets" / "1.0.0")) == {"dir": str(odd)}


@pytest.mark.parametrize("inside", ["", "resized", "resized/64x64", "resized/64x64/2.0.1"])
def test_a_configuration_that_is_not_named(tmp_path, inside):
    prepare(tmp_path, Resized, "2.0.1", "64x64")
    message = refused(tmp_path / inside, "resized")
    assert "one of resized/64x64\n" in message
    advised = change(message)
    assert advised == {"name": "resized/64x64"} | ({"dir": str(tmp_path)} if inside else {})
    is_whole(sources.open_dataset(advised["name"], advised.get("dir", str(tmp_path))))
    assert change(refused(tmp_path / "resized" / "64x64", "resized/64x64"))["dir"] == str(tmp_path)


def test_a_version_that_is_named_as_a_folder(root, place):
    assert change(refused(root, "pets/1.0.0")) == {"name": "pets:1.0.0", "dir": str(root)}
    is_whole(opened(root, "pets:1.0.0"))
    assert change(refused(root, str(place))) == {"name": "pets:1.0.0", "dir": str(root)}
    bare = root / "bare"
    shutil.copytree(place, bare)
    assert f"{bare} holds a data set without the folder of its version" in refused(root, "bare")
    assert "its files in .../pets/1.0.0" in refused(root, "bare")


def test_versions_and_their_wildcards(root):
    prepare(root, version="1.2.0")
    prepare(root, version="2.0.0")
    for wanted, version in (
        (":1.*.*", "1.2.0"),
        ("", "2.0.0"),
        (":1.0.*", "1.0.0"),
        (":*.*.*", "2.0.0"),
        (":1.2.0", "1.2.0"),
    ):
        assert opened(root, f"pets{wanted}").version == version
    for wanted in ("3.0.0", "3.*.*", "1.0", "newest"):
        message = refused(root, f"pets:{wanted}")
        assert f"Data set pets is not there in version {wanted}" in message
        assert "one of 1.0.0, 1.2.0, 2.0.0" in message
    for wanted, advised, version in (
        ("1", "pets:1.*.*", "1.2.0"),
        ("1.0", "pets:1.0.*", "1.0.0"),
        ("7", "pets", "2.0.0"),
    ):
        assert change(refused(root, f"pets:{wanted}").replace(", for the newest of them", ""))["name"] == advised
        assert opened(root, advised).version == version


@pytest.mark.parametrize("damage", ["format", "file", "info"])
def test_an_older_version_that_can_be_read_is_named(root, damage):
    newest = prepare(root, version="1.1.0")
    if damage == "format":
        change_info(newest, fileFormat="tfrecord")
    elif damage == "file":
        files_of(newest)[1].unlink()
    else:
        (newest / "features.json").write_text("")
    last = refused(root).splitlines()[-1]
    assert last.startswith("  or:       --config.data.name=pets:1.0.0")
    is_whole(opened(root, "pets:1.0.0"))
    assert "  or:" not in refused(root, "pets:1.1.0")
    (root / "pets" / "1.0.0" / "dataset_info.json").write_text("{")
    assert "  or:" not in refused(root)


def test_what_an_older_version_lacks_is_said_where_it_is_the_one_that_is_read(root, place, capsys):
    (place / "label.labels.txt").unlink()
    newest = prepare(root, version="1.1.0")
    (newest / "features.json").write_text("")
    assert "  or:       --config.data.name=pets:1.0.0" in refused(root)
    assert "Note: " not in capsys.readouterr().out
    assert opened(root, "pets:1.0.0").class_names == ("0", "1")
    note = "Note: pets:1.0.0 has no label.labels.txt, so that its classes are called 0 to 1.\n"
    assert note in capsys.readouterr().out


def test_a_mistyped_split_has_nothing_to_do_with_versions(root):
    prepare(root, version="1.1.0")
    assert "  or:" not in refused(root, train_split="trian")


def test_half_a_folder_is_named(root, place):
    (place / "dataset_info.json").unlink()
    message = refused(root)
    assert message.startswith(f"{place} has no dataset_info.json")
    assert "given:    features.json and 7 more" in message
    assert refused(root, "pets:1.0.0") == message
    (problem,) = storage.data(root, "--data-dir", 1024).problems
    assert problem.what.startswith(f"{place} has no dataset_info.json")
    shutil.rmtree(place)
    place.mkdir()
    assert "was not found" in refused(root)


def test_what_is_there_instead_is_listed(root):
    assert f"given:    {root} holds pets\n" in refused(root, "pest")
    assert "tfds.builder" in refused(root, "pest")


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


def test_digits_where_something_else_lies(tmp_path, capsys):
    """An empty folder is filled; anything else is named, and neither read nor written over."""
    place = tmp_path / "digits" / "1.0.0"
    place.mkdir(parents=True)
    digits = opened(tmp_path, "digits")
    assert (len(digits.train), digits.class_names) == (1437, tuple("0123456789"))
    assert "Note" not in capsys.readouterr().out, "the names of digits are their numbers"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".digits.lock", "digits"], "no downloads"
    (place / "dataset_info.json").unlink()
    message = refused(tmp_path, "digits")
    assert message.startswith(f"{place} has no dataset_info.json")
    assert "delete this folder" in message
    (place / "dataset_info.json").write_text("")
    assert refused(tmp_path, "digits").startswith(f"{place / 'dataset_info.json'} is empty")
    shutil.rmtree(place)
    assert len(opened(tmp_path, "digits").train) == 1437
