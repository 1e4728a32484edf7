"""A folder of images of one's own, written as a data set of TFDS and opened by TFDS."""

import os
import shlex

import numpy as np
import pytest

from configs import moco_vit_s
from repre_jax.builders import methods
from repre_jax.core.errors import UserError
from repre_jax.data import crops, sources, subset
from repre_jax.system import command_line
from tests.helpers.preparing import records, run
from tests.helpers.runs import ROOT
from tests.test_folder import fill


@pytest.mark.parametrize(("channels", "suffix"), [(3, ".jpg"), (1, ".png"), (3, ".npy"), (5, ".npy")])
def test_a_folder_becomes_a_data_set_with_its_statistics(channels, suffix, tmp_path, capsys, monkeypatch):
    names = [f"train/{'ab'[i % 2]}/{i}{suffix}" for i in range(9)] + [f"val/b/{i}{suffix}" for i in range(3)]
    root = fill(tmp_path / "images", names, channels)
    arguments = ("folder", "--from", root, "--name", "mine", "--data-dir", tmp_path, "--channels", channels)
    assert run(*arguments) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].split("train on it:")[1])
    monkeypatch.chdir(ROOT)
    trained_on, _ = command_line.parse(command[1:])
    assert (trained_on.data.name, trained_on.data.channels) == ("mine", channels)
    assert sources.open_dataset(trained_on.data.name, trained_on.data.dir).train
    dataset = sources.open_dataset("mine", str(tmp_path))
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (9, 3, 2)
    files = {record["file_name"].decode(): record for record in dataset.train}
    straight = sources.open_dataset(f"folder:{root}").train
    pixels = []
    for record in straight:
        ours = files[record["file_name"]]
        assert ours["label"] == record["label"]
        image = crops.decode(record["image"], channels)
        np.testing.assert_array_equal(crops.decode(ours["image"], channels), image)
        pixels.append(image.reshape(-1, channels) / 255)
    pixels = np.concatenate(pixels)
    np.testing.assert_allclose(dataset.mean, pixels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(dataset.std, pixels.std(axis=0), atol=1e-6)
    config = moco_vit_s.get_config("tiny")
    config.update_from_flattened_dict({"data.channels": channels, "data.mean": None, "data.std": None})
    assert methods.normalisation(config, dataset) == (dataset.mean, dataset.std)
    config.data.mean = (0.25,) * channels
    assert methods.normalisation(config, dataset) == (config.data.mean, dataset.std)


def test_a_split_without_labels_beside_those_with(tmp_path, capsys):
    """As competitions have it: train and val in class folders, test flat. Each split has labels, or none, by itself."""
    root = fill(tmp_path / "images", ["train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "test/4.jpg"])
    assert run("folder", "--from", root, "--name=mine", "--data-dir", tmp_path) == 0
    dataset = sources.open_dataset("mine", str(tmp_path))
    assert (dataset.classes, dataset.test[0]["label"]) == (2, 0)
    assert sources.open_dataset("mine", str(tmp_path), "train", "test").test[0]["label"] == -1
    told = capsys.readouterr().out
    for line in ("train               2 images, 2 classes", "validation          1 images, 2 classes",
                 "test                1 images, no labels"):  # fmt: skip
        assert f"  {line}\n" in told
    found = {
        split: sources.open_dataset("mine", str(tmp_path), split).train for split in ("train", "validation", "test")
    }
    assert {split: subset.labelled(records) for split, records in found.items()} == {
        "train": True, "validation": True, "test": False
    }  # fmt: skip
    assert [sorted(subset.labels_of(records).tolist()) for records in found.values()] == [[0, 1], [0], [-1]]


def test_other_channels_need_a_mean(tmp_path):
    fill(tmp_path / "images", ["a.npy", "b.npy"], channels=5)
    config = moco_vit_s.get_config("tiny")
    config.update_from_flattened_dict({"data.channels": 5, "data.mean": None, "data.std": None})
    with pytest.raises(UserError, match=r"data.mean is not set, and folder:.* has 5 channels and was not measured"):
        methods.normalisation(config, sources.open_dataset(f"folder:{tmp_path / 'images'}"))
    config.data.channels = 3
    assert methods.normalisation(config, None) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_name_that_would_be_no_name_is_refused(tmp_path, capsys):
    fill(tmp_path / "images", ["a.jpg"])
    for name, words in (("My Photos", "small letters"), ("", "small letters"), ("3d", "small letters"),
                        ("digits", "another data set's"), ("cifar10", "another data set's")):  # fmt: skip
        assert run("folder", "--from", tmp_path / "images", f"--name={name}", "--data-dir", tmp_path) == 1
        assert words in capsys.readouterr().err


def test_names_that_are_not_utf_8_are_stored_escaped_and_named(tmp_path, capsys):
    """Also a class's; the one that cannot be read is named in the same way."""
    odd = os.fsdecode(b"caf\xe9")
    fill(tmp_path / "images", [f"{odd}/1.jpg", f"{odd}/{odd}.jpg", "tea/1.jpg"])
    (tmp_path / "images" / odd / f"2{odd}.jpg").write_bytes(b"no image")
    command = ("folder", "--from", tmp_path / "images", "--name=mine", "--data-dir", tmp_path)
    assert run(*command) == 1
    assert "caf\\xe9/2caf\\xe9.jpg: 8 bytes are no image" in capsys.readouterr().err
    assert run(*command, "--skip-unreadable") == 0
    output = capsys.readouterr().out
    assert "Names: 3 file names, which are not UTF-8 (" in output
    assert "left out    caf\\xe9/2caf\\xe9.jpg" in output
    found, builder = records(tmp_path / "mine" / "1.0.0", "train")
    assert set(found) == {"caf\\xe9/1.jpg", "caf\\xe9/caf\\xe9.jpg", "tea/1.jpg"}
    assert builder.info.features["label"].names == ["caf\\xe9", "tea"]
    assert [found[name]["label"] for name in sorted(found)] == [0, 0, 1]
