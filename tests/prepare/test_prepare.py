"""ImageNet's official archives in miniature, and its class folders, written as TFDS would and opened by TFDS."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import main
from repre_jax.core.errors import UserError
from repre_jax.data import crops, imagenet
from repre_jax.tools.preparation import written
from tests.helpers.miniature import CLASSES, TRAIN, VALIDATION, add, picture
from tests.helpers.preparing import records, run
from tests.helpers.runs import ROOT
from tests.test_folder import fill


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "through files"])
@pytest.mark.parametrize("origin", ["archives", "folders"])
def test_tfds_opens_what_was_prepared(origin, in_memory, request, tmp_path, capsys, monkeypatch):
    """Under its own name, version, features, labels and file names; images to the byte but for PNG and CMYK.

    Shuffled in memory or, as TFDS does beyond 1 GB, through files.
    """
    if not in_memory:
        monkeypatch.setattr(written.shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    origin = request.getfixturevalue(origin)
    assert run("imagenet2012", "--from", origin, "--data-dir", tmp_path / "data", "--partial") == 0
    output = capsys.readouterr().out
    for words in ("train              12 images in", "validation          3 images in", "to be written to", "are free"):
        assert words in output
    train, builder = records(tmp_path / "data" / "imagenet2012" / "5.1.0", "train")
    assert (builder.name, str(builder.version)) == ("imagenet2012", "5.1.0")
    assert builder.info.file_format.value == "array_record"
    features = builder.info.features
    assert set(features) == {"image", "label", "file_name"}
    assert features["label"].names == imagenet.class_names()
    assert features["image"].shape == (None, None, 3)
    assert set(train) == {file for images in TRAIN.values() for file in images}
    for name, images in TRAIN.items():
        for file, data in images.items():
            assert features["label"].int2str(train[file]["label"]) == name
            if file.endswith("_0.JPEG") and name in CLASSES[:2]:
                with Image.open(io.BytesIO(train[file]["image"])) as image:
                    assert (image.format, image.mode) == ("JPEG", "RGB")
                    difference = np.asarray(image).astype(int) - crops.decode(data)
                assert np.abs(difference).mean() < 3
            else:
                assert train[file]["image"] == data
    validation, _ = records(tmp_path / "data" / "imagenet2012" / "5.1.0", "validation")
    assert {file: record["image"] for file, record in validation.items()} == VALIDATION
    labels = (Path(tfds.core.tfds_path("datasets/imagenet2012")) / "validation_labels.txt").read_text().split()
    for file, record in validation.items():
        assert features["label"].int2str(record["label"]) == labels[int(file[15:23]) - 1]


def test_the_papers_command_trains_on_what_was_prepared(archives, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert run("imagenet2012", "--from", archives, "--data-dir", tmp_path / "data", "--partial") == 0
    command = ["main.py", "--config=configs/moco_vit_s.py:tiny,baseline", "--config.data.name=imagenet2012"]
    command += [f"--config.data.dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}"]
    assert main.main([*command, "--config.total_steps=2", "--config.knn.k=2"]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 2


def test_what_is_missing_is_said_before_anything_is_written(archives, tmp_path, capsys):
    (archives / "ILSVRC2012_img_val.tar").unlink()
    assert run("imagenet2012", "--from", archives, "--data-dir", tmp_path / "data") == 1
    error = capsys.readouterr().err
    assert "train: 12 of 1,281,167 images; no image of n01484850, n01491361" in error
    assert "and 989 more" in error
    assert "validation: neither ILSVRC2012_img_val.tar nor a folder val/, validation/" in error
    assert not (tmp_path / "data").exists()
    assert run("imagenet2012", "--from", tmp_path / "none") == 1
    assert "is not a folder" in capsys.readouterr().err


def test_missing_validation_images_are_named(folders, tmp_path, capsys):
    assert run("imagenet2012", "--from", folders, "--data-dir", tmp_path / "data") == 1
    assert "validation: 3 of 50,000 images; missing ILSVRC2012_val_00000003.JPEG, " in capsys.readouterr().err


def test_archives_packed_in_another_way(tmp_path):
    """Names with './' before them, as tar of a folder's '.' has."""
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar", "w") as outer:
        inner_bytes = io.BytesIO()
        with tarfile.open(fileobj=inner_bytes, mode="w") as inner:
            add(inner, f"./{CLASSES[0]}_7.JPEG", picture(1))
        add(outer, f"./{CLASSES[0]}.tar", inner_bytes.getvalue())
        add(outer, f"./._{CLASSES[0]}.tar", b"what macOS adds")
    assert run("imagenet2012", "--from", tmp_path, "--data-dir", tmp_path / "data", "--partial") == 0
    found, builder = records(tmp_path / "data" / "imagenet2012" / "5.1.0", "train")
    assert list(found) == [f"{CLASSES[0]}_7.JPEG"]
    assert set(builder.info.splits) == {"train"}


def test_an_archive_of_class_folders_is_told_from_the_official_one(tmp_path, capsys):
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar", "w") as outer:
        add(outer, f"train/{CLASSES[0]}/{CLASSES[0]}_7.JPEG", picture(1))
    assert run("imagenet2012", "--from", tmp_path, "--data-dir", tmp_path / "data", "--partial") == 1
    assert "holds 'train/n01440764/n01440764_7.JPEG'" in (error := capsys.readouterr().err)
    assert "one archive a class" in error


def test_two_images_of_one_name_are_named(folders, tmp_path, capsys):
    name = next(iter(TRAIN[CLASSES[0]]))
    (folders / "train" / CLASSES[1] / name).write_bytes(picture(1))
    assert run("imagenet2012", "--from", folders, "--data-dir", tmp_path / "data", "--partial") == 1
    assert f"two images of one name: {name}" in capsys.readouterr().err


def test_files_of_which_none_is_an_image(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"no")
    (tmp_path / "images" / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    command = ("folder", "--from", tmp_path / "images", "--name=mine", "--data-dir", tmp_path / "data")
    for more in ((), ("--skip-unreadable",)):
        assert run(*command, *more) == 1
        assert "None of the 2 files of train is a readable image" in capsys.readouterr().err
    fill(tmp_path / "images", ["c.jpg", "d.jpg", "val/e.jpg", "val/f.jpg"])
    (tmp_path / "images" / "train").mkdir()
    for name in "abcd":
        (tmp_path / "images" / f"{name}.jpg").rename(tmp_path / "images" / "train" / f"{name}.jpg")
    assert run(*command) == 1
    error = capsys.readouterr().err
    assert "2 files are not readable" in error
    assert "b.jpg: [Errno 2]" in error
    assert run(*command, "--skip-unreadable") == 0


def test_an_archive_cut_short_is_named(archives, tmp_path, capsys):
    train = archives / "ILSVRC2012_img_train.tar"
    train.write_bytes(train.read_bytes()[:30_000])
    assert run("imagenet2012", "--from", archives, "--data-dir", tmp_path / "data", "--partial") == 1
    assert "ILSVRC2012_img_train.tar cannot be read" in capsys.readouterr().err


def test_a_class_that_imagenet_has_not_is_named(folders, tmp_path, capsys):
    (folders / "train" / CLASSES[0]).rename(folders / "train" / "kittens")
    assert run("imagenet2012", "--from", folders, "--data-dir", tmp_path / "data", "--partial") == 1
    assert "classes that ImageNet has not: kittens" in capsys.readouterr().err


def test_unreadable_files_are_named_and_nothing_is_half_written(folders, tmp_path, capsys):
    bad = folders / "train" / CLASSES[2] / f"{CLASSES[2]}_3.JPEG"
    bad.write_bytes(bad.read_bytes()[:300])
    command = ("imagenet2012", "--from", folders, "--data-dir", tmp_path / "data", "--partial")
    assert run(*command) == 1
    error = capsys.readouterr().err
    assert error.startswith("1 file is no readable image; nothing was written.\n")
    assert bad.name in error
    assert not list((tmp_path / "data" / "imagenet2012").iterdir())
    assert run(*command, "--skip-unreadable") == 0
    assert f"left out    {bad.name}" in capsys.readouterr().out
    assert len(records(tmp_path / "data" / "imagenet2012" / "5.1.0", "train")[0]) == 11
    assert run(*command) == 1
    assert "is there already" in capsys.readouterr().err


def test_imagenets_classes_that_cannot_be_entered_and_pipes(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # whose parents are closed to others, too
    tmp_path.chmod(0o755)
    os.mkfifo(f"extracted/train/{CLASSES[0]}/x.JPEG")
    whole = imagenet.find(Path("extracted"))
    assert len(whole.entries["train"]) == sum(map(len, TRAIN.values())), "a pipe is no image"
    place = Path("extracted/train") / CLASSES[1]
    place.chmod(0)
    me = os.geteuid()
    os.seteuid(me or 54321)
    try:
        with pytest.raises(UserError, match=f"{CLASSES[1]} cannot be read: Permission denied"):
            imagenet.find(Path("extracted"))
    finally:
        os.seteuid(me)
        place.chmod(0o755)
