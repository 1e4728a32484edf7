"""Where a data set that TFDS prepared is looked for: folders, configurations, versions, and what is said where it is
not there."""

import shutil

import pytest

from repre_jax.data import sources
from repre_jax.tools.checkup import storage
from tests.helpers.prepared import Pets, change, change_info, files_of, is_whole, opened, prepare, refused


class Resized(Pets, skip_registration=True):
    name = "resized"


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
