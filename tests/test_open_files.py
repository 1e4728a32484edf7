"""Too many open files, as the system says it: the limit is named, and no record is left out for it."""

import contextlib
import errno
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from repre_jax.core import open_files, passing
from repre_jax.core.errors import UserError
from repre_jax.data import crops, deep, folder, listing, loader, order, reading, splits, unreadable, views
from repre_jax.system.command_line import ending

ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def at_most(count):
    """While entered, this process may have so many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Records:
    """Of which none can be opened."""

    def __len__(self):
        return 3

    def __getitem__(self, number):
        with at_most(3):
            return {"image": Path(__file__).read_bytes()}


def test_records_are_not_left_out_for_it():
    view = views.CentreView((4, 4), 1.0)
    with pytest.raises(UserError, match=r"A record cannot be read: this process may have [\d,]+ files open"):
        list(loader.test_batches(Records(), view, batch_size=3))
    view = views.PretrainView(crops.RandomCrops(2, (4, 4), (0.3, 1.0), (0.75, 1.33)))
    with pytest.raises(UserError, match=r"A record cannot be read: this process may have [\d,]+ files open"):
        next(loader.train_batches(Records(), view, seed=0, batch_size=3, start_step=0, workers=0))


def test_a_record_is_not_called_unreadable_for_it():
    """Neither where another one took its place, nor where it counts as one that earlier starts could not read."""
    with pytest.raises(UserError, match=r"record 1 cannot be read: this process may have [\d,]+ files open"):
        unreadable.what_is_wrong(Records(), 1, 3)
    with pytest.raises(UserError, match="files open at once"):
        unreadable.Unreadable(Records(), 3, largest_share=1, say=print, known=[2])
    with pytest.raises(UserError, match="files open at once"):
        order.by_orientation(Records())


def test_a_scan_leaves_out_no_folder_and_no_split_for_it(tmp_path):
    for name in ("train/a/1.jpg", "val/a/2.jpg", "other"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff\xd8\xff")
    whole = folder.scan(tmp_path)
    assert {split: images.files for split, images in whole.splits.items()} == {
        "train": ("a/1.jpg",), "validation": ("a/2.jpg",),
    }  # fmt: skip
    for scan in (folder.scan, listing.list_images, listing.loose_images, splits.splits_of):
        with at_most(3), pytest.raises(UserError, match=r"cannot be read: this process may have 3 files open"):
            scan(tmp_path)


def failing(number):
    """Records that a disk does not give for this reason."""

    class Failing(Records):
        def __getitem__(self, index):
            raise OSError(number, os.strerror(number), "x.jpg")

    return Failing()


PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT, errno.ENOTCONN)


@pytest.mark.parametrize("number", [*PASSING, errno.EIO, errno.ENOENT, errno.EACCES, errno.ESTALE])
def test_whose_fault_an_error_is(number, tmp_path):
    """A bad sector stays where it is; a machine without memory, or without its network, is another one tomorrow."""
    source, view = failing(number), views.CentreView((4, 4), 1.0)
    calls = (
        lambda: unreadable.what_is_wrong(source, 1, 3),
        lambda: loader.test_sample(source, view, 1),
        lambda: reading.Reader(lambda image, split: image, skip=True)._read("train", Named(source), 0),
    )
    if number in PASSING:
        for call in calls:
            with pytest.raises(UserError, match=r" cannot be read: (.|\n)*change: "):
                call()
    else:
        line = f"[Errno {number}] {os.strerror(number)}: 'x.jpg'"
        assert [call() for call in calls] == [f"record 1: {line}", None, f"x.jpg: {line}"]


class Named:
    """The records of another source, with names."""

    def __init__(self, source):
        self.source = source

    def __getitem__(self, index):
        return self.source[index]

    def name(self, index):
        return "x.jpg"


def test_what_a_library_says_of_memory_is_the_machines():
    for error in (MemoryError(), crops.UnreadableImage("OpenCV(4) error: (-4:Insufficient memory) Failed to allocate")):
        with pytest.raises(UserError, match="has no memory left"):
            passing.check(error)
    passing.check(crops.UnreadableImage("4 bytes are no image"))


def test_a_machine_without_memory_is_told_what_the_command_can_change(tmp_path):
    """Reading for `prepare`, which has no workers, and for batches, which has; a real MemoryError of a library."""

    class Full(Records):
        def __getitem__(self, index):
            raise MemoryError

    def convert(image, split):
        raise MemoryError

    none_left = "cannot be read: this machine, or the container's limit, has no memory left.\n  change:   "
    machine, workers = "a machine with more memory, or a larger limit", "--config.data.workers to a smaller number"
    records, view = Full(), views.CentreView((4, 4), 1.0)
    for call, name, change in (
        (lambda: reading.Reader(convert, skip=True)._read("train", Named(OneRecord()), 0), "x.jpg", machine),
        (lambda: deep.look(records, 3, given=False), "A record", machine),
        (lambda: deep.has_deep(records), "A record", machine),
        (lambda: loader.test_sample(records, view, 0), "A record", workers),
        (lambda: unreadable.what_is_wrong(records, 0, 3), "record 0", workers),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value).startswith(f"{name} {none_left}{change}")


class OneRecord:
    """One record that is there."""

    def __getitem__(self, index):
        return {"image": b"II*\0"}


def test_anywhere_else_it_ends_a_command_with_the_limit(capsys):
    with ending("The same command goes on.") as this, at_most(3):
        Path(__file__).read_bytes()
    assert this.status == 1
    said = capsys.readouterr().err
    assert said.startswith("Too many open files: this process may have ")
    assert said.endswith("The same command goes on.\n")


@pytest.mark.parametrize(("count", "few"), [(255, True), (256, False)])
def test_a_low_limit_is_told_before_the_first_step(count, few):
    with at_most(count):
        said = open_files.warning()
    assert (said or "").startswith("Warning: this process may have 255 files open") == few
    assert (said is None) != few


@pytest.mark.parametrize(
    ("error", "used_up"),
    [
        (OSError(errno.EMFILE, "in another language"), True),
        (OSError(errno.ENFILE, "in another language"), True),
        (RuntimeError("INTERNAL: /x: Too many open files [24]"), True),
        (OSError(errno.ENOENT, "No such file"), False),
        (RuntimeError("INTERNAL: /x"), False),
    ],
)
def test_by_number_or_by_a_librarys_words(error, used_up):
    assert open_files.are_used_up(error) is used_up


@pytest.mark.parametrize("hard", [None, 1000])
def test_the_advice_raises_the_limit(hard):
    """Typed in the shell whose limit was low; where that may not be raised, it is not advised, and Docker's flag is."""
    program = "from repre_jax.core import open_files; print(open_files.limit())"
    lower = f"ulimit -Hn {hard}; " if hard else ""
    shell = f"ulimit -Sn 100; {lower}{shlex.join([sys.executable, '-c', program])}"
    said = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.startswith("this process may have 100 files open at once")
    advice = re.search(r"change:   (.*?)(?:,|;)", said)[1]
    if hard:
        assert advice == "docker run --ulimit nofile=4096:4096"
        return
    raised = subprocess.run(
        ["bash", "-c", f"ulimit -Sn 100; {advice} && ulimit -n"], capture_output=True, text=True, check=True
    )
    assert int(raised.stdout) == 4096
