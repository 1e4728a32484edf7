"""ImageNet's official archives in miniature, and its class folders, written as TFDS would and opened by TFDS."""

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import main
from repre_jax.core.errors import UserError
from repre_jax.data import crops, imagenet, sources, writing
from repre_jax.tools import prepare
from tests.helpers.patience import HANGS
from tests.helpers.preparing import records, run
from tests.test_folder import fill

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("n01440764", "n01443537", "n15075141")


def picture(number, kind="JPEG", mode="RGB"):
    pixels = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((60 + number, 50)).convert(mode).save(stream, kind)
    return stream.getvalue()


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


TRAIN = {name: {f"{name}_{i}.JPEG": picture(i) for i in range(4)} for name in CLASSES}
TRAIN[CLASSES[0]][f"{CLASSES[0]}_0.JPEG"] = picture(7, "PNG")  # as n02105855_2933.JPEG is
TRAIN[CLASSES[1]][f"{CLASSES[1]}_0.JPEG"] = picture(8, mode="CMYK")
VALIDATION = {f"ILSVRC2012_val_{number:08}.JPEG": picture(number) for number in (1, 2, 50_000)}


@pytest.fixture
def archives(tmp_path):
    """Both official archives: train's holds one archive a class, validation's lies flat, not in the names' order."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for name, images in TRAIN.items():
            inner_bytes = io.BytesIO()
            with tarfile.open(fileobj=inner_bytes, mode="w") as inner:
                for file, data in images.items():
                    add(inner, file, data)
            add(outer, f"{name}.tar", inner_bytes.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as flat:
        for file, data in reversed(VALIDATION.items()):
            add(flat, file, data)
    return folder


@pytest.fixture
def folders(tmp_path):
    """The same, extracted."""
    root = tmp_path / "extracted"
    for name, images in TRAIN.items():
        (root / "train" / name).mkdir(parents=True)
        for file, data in images.items():
            (root / "train" / name / file).write_bytes(data)
    (root / "val").mkdir()
    for file, data in VALIDATION.items():
        (root / "val" / file).write_bytes(data)
    return root


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "through files"])
@pytest.mark.parametrize("origin", ["archives", "folders"])
def test_tfds_opens_what_was_prepared(origin, in_memory, request, tmp_path, capsys, monkeypatch):
    """Under its own name, version, features, labels and file names; images to the byte but for PNG and CMYK.

    Shuffled in memory or, as TFDS does beyond 1 GB, through files.
    """
    if not in_memory:
        monkeypatch.setattr(prepare.shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
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
    command = ["main.py", "--config=configs/moco_vit_s.py:tiny", "--config.data.name=imagenet2012"]
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


def test_a_disk_that_is_too_small_is_told_beforehand(folders, tmp_path, capsys, monkeypatch):
    usage = prepare.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: usage)
    assert run("imagenet2012", "--from", folders, "--data-dir", tmp_path / "data", "--partial") == 1
    assert "The disk is too small" in capsys.readouterr().err
    size = imagenet.find(folders).size()
    monkeypatch.setattr(prepare, "IN_MEMORY", size - 1)
    for share, status in ((1.9, 1), (2.2, 0)):  # shuffling through temporary files takes as much again
        roomy = usage._replace(free=int(share * size))
        monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path, roomy=roomy: roomy)
        assert run("imagenet2012", "--from", folders, "--data-dir", tmp_path / "data", "--partial") == status


def test_a_place_that_cannot_be_written_is_named(folders, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("imagenet2012", "--from", folders, "--data-dir", tmp_path / "file", "--partial") == 1
    assert "could not be written" in capsys.readouterr().err


LEFT = {
    "nothing": (lambda place: None, None),
    "a file of records": (lambda place: (place / "x.array_record-00000-of-00001").write_bytes(b"1"), "x.array_record"),
    "hidden files": (lambda place: (place / ".DS_Store").write_bytes(b"1"), ".DS_Store"),
    "a broken info file": (lambda place: (place / "dataset_info.json").write_text("{"), "is there already"),
    "a file": (lambda place: (place.rmdir(), place.write_text("")), "is no folder"),
    "a link to nothing": (lambda place: (place.rmdir(), place.symlink_to("gone")), "is no folder"),
}


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize(
    ("what", "name", "version"), [("imagenet2012", "imagenet2012", "5.1.0"), ("folder", "pets", "1.0.0")]
)
def test_where_something_lies_already(what, name, version, left, folders, tmp_path, capsys):
    """TFDS takes any folder there for the data set. An empty one is filled; all else is named, and stays as it is; the
    advice has --name only where there is one."""
    place = tmp_path / "data" / name / version
    place.mkdir(parents=True)
    apply, words = LEFT[left]
    apply(place)
    before = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    own = ["--partial"] if what == "imagenet2012" else [f"--name={name}"]
    status = run(what, "--from", folders, "--data-dir", tmp_path / "data", *own)
    output, error = capsys.readouterr()
    if words is None:
        assert status == 0
        dataset = sources.open_dataset(name, str(tmp_path / "data"))
        assert (len(dataset.train), len(dataset.test)) == (12, 3)
        assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [name], "no folder of downloads"
        return
    assert status == 1
    assert "Written" not in output
    assert error.startswith(str(place))
    assert words in error
    assert ("--name" in error) == (what == "folder")
    assert (sorted(path.name for path in place.iterdir()) if place.is_dir() else []) == before


def test_a_prepared_copy_that_cannot_be_written_to_is_there_already(folders, tmp_path, capsys):
    """Not a lock that cannot be made: as on shared data. Root may write anywhere, so a file is in its way."""
    command = ("imagenet2012", "--from", folders, "--data-dir", tmp_path / "data", "--partial")
    assert run(*command) == 0
    (tmp_path / "data" / "imagenet2012" / ".5.1.0.lock").mkdir()
    assert run(*command) == 1
    error = capsys.readouterr().err
    assert "imagenet2012/5.1.0 is there already" in error
    assert "lock" not in error


def test_what_was_written_is_looked_at_before_that_is_said(folders, tmp_path, capsys, monkeypatch):
    """As when TFDS reuses what another program has put there in the meantime."""

    def reuses(builder, **_):
        Path(builder.data_dir).mkdir(parents=True)

    monkeypatch.setattr(tfds.core.GeneratorBasedBuilder, "download_and_prepare", reuses)
    assert run("imagenet2012", "--from", folders, "--data-dir", tmp_path / "data", "--partial") == 1
    output, error = capsys.readouterr()
    assert "dataset_info.json is missing" in error
    assert "Written" not in output


def test_two_at_once_do_not_disturb_each_other(folders, tmp_path, capsys):
    place = tmp_path / "data" / "imagenet2012" / "5.1.0"
    place.parent.mkdir(parents=True)
    command = ("imagenet2012", "--from", folders, "--data-dir", tmp_path / "data", "--partial")
    with writing.alone(place):
        assert run(*command) == 1
        assert "Another process is writing" in capsys.readouterr().err
    assert run(*command) == 0


def test_a_lock_that_was_removed_while_it_was_waited_for_is_nobodys(tmp_path, monkeypatch):
    """Two that opened it before its holder removed it: one has the file that is gone, and another the next one, which
    both take for the lock."""
    place, lock = tmp_path / "1.0.0", tmp_path / ".1.0.0.lock"
    flock, held = fcntl.flock, []

    def late(file, how):
        if not held:  # between opening and locking: the holder ends, and another takes the place
            lock.unlink()
            held.append(lock.open("w"))
            flock(held[0], how)
        flock(file, how)

    with monkeypatch.context() as between:
        between.setattr(fcntl, "flock", late)
        with pytest.raises(UserError, match="Another process is writing"), writing.alone(place):
            pytest.fail("two write at once")
    assert os.path.samestat(os.fstat(held[0].fileno()), lock.stat()), "the other's stays"
    held[0].close()
    with writing.alone(place), pytest.raises(UserError, match="Another process"), writing.alone(place):
        pytest.fail("two write at once")
    assert not lock.exists()


def test_an_argument_too_many_is_refused(folders, tmp_path, capsys):
    """Not passed over: it names a folder that nothing would read."""
    for command, words in (
        (("folder", folders, "--from", tmp_path), "unexpected argument"),
        (("imagenet2012", "--from", folders, folders), "where the images lie is --from=DIR"),
        (("convert", folders, "--from", tmp_path), "convert has no --from"),
    ):
        with pytest.raises(SystemExit):
            run(*command, "--name=mine", "--data-dir", tmp_path / "data")
        assert words in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_no_folder_is_not_the_current_one(folders, tmp_path, capsys, monkeypatch):
    """As an unset variable leaves it."""
    monkeypatch.chdir(folders)
    for command, change in ((("folder", "--from="), "--from=DIR"), (("convert", ""), "convert DIR")):
        assert run(*command, "--name=mine", "--data-dir", tmp_path / "data") == 1
        assert capsys.readouterr().err == f"A folder is missing: ''.\n  change:   {change}\n"
    assert not (tmp_path / "data").exists()


def test_a_home_folder_is_followed_where_no_shell_does(tmp_path, capsys, monkeypatch):
    """As in --from=~/pictures in some shells, and in whatever starts programs without one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "pictures", ["a/1.jpg", "b/2.jpg"])
    assert run("folder", "--from=~/pictures", "--name=mine", "--data-dir=~/data") == 0
    dataset = sources.open_dataset("mine", str(tmp_path / "data"))
    assert (len(dataset.train), dataset.class_names) == (2, ("a", "b"))
    assert run("folder", "--from=~nobody7/x", "--name=more") == 1
    assert "there is no user 'nobody7'" in capsys.readouterr().err


def test_a_killed_start_leaves_nothing_that_the_next_would_take(tmp_path):
    """kill -9 in the middle of writing: the name is not there; the next start removes what is left and writes all."""
    fill(tmp_path / "images", [f"{i:04}.jpg" for i in range(3000)])
    command = [sys.executable, "-m", "repre_jax.tools.prepare", "folder", "--from", tmp_path / "images", "--name=mine"]
    command += ["--data-dir", tmp_path / "data"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    place = tmp_path / "data" / "mine"
    deadline = time.monotonic() + HANGS
    while not list(place.glob("incomplete.*")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert list(place.glob("incomplete.*"))
    assert not (place / "1.0.0").exists()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Removing what an interrupted start left" in done.stdout
    assert [path.name for path in place.iterdir()] == ["1.0.0"]
    assert len(sources.open_dataset("mine", str(tmp_path / "data")).train) == 3000


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
