"""Where `prepare` writes, and what it is told: disks, folders that are taken, two starts at once, arguments."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from repre_jax.core.errors import UserError
from repre_jax.data import imagenet, sources, writing
from repre_jax.tools.preparation import written
from tests.helpers.patience import HANGS
from tests.helpers.preparing import run
from tests.helpers.runs import ROOT
from tests.test_folder import fill


def test_a_disk_that_is_too_small_is_told_beforehand(folders, tmp_path, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert run("imagenet2012", "--from", folders, "--data-dir", tmp_path / "data", "--partial") == 1
    assert "The disk is too small" in capsys.readouterr().err
    size = imagenet.find(folders).size()
    monkeypatch.setattr(written, "IN_MEMORY", size - 1)
    for share, status in ((1.9, 1), (2.2, 0)):  # shuffling through temporary files takes as much again
        roomy = usage._replace(free=int(share * size))
        monkeypatch.setattr(shutil, "disk_usage", lambda path, roomy=roomy: roomy)
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
