"""Whether /dev/shm has room for the batches that workers hand over; a disk's folder stands in for it."""

import os

import pytest

from repre_jax.core.errors import UserError
from repre_jax.data import shared_memory


@pytest.fixture
def free(tmp_path):
    found = os.statvfs(tmp_path)
    return found.f_bavail * found.f_frsize


def test_too_small_for_a_batch_of_each_worker_is_refused(tmp_path, free):
    with pytest.raises(UserError, match=rf"(?s)free in {tmp_path}; 4 workers.*--shm-size=\d+g.*workers=0, for threads"):
        shared_memory.check(free // 4, 4, tmp_path)
    shared_memory.check(9 * free, 0, tmp_path)  # threads


def test_too_small_for_all_that_is_read_ahead_is_told(tmp_path, free, capsys):
    """30 batches fit: of 8 workers up to 34 are there at once, of 7 up to 30."""
    shared_memory.check(int(free / 30.5), 8, tmp_path)
    said = capsys.readouterr().out
    assert said.startswith("Warning: ")
    assert "--config.data.workers=7" in said.split("change:")[1]


def test_room_enough_is_no_word(tmp_path, free, capsys):
    shared_memory.check(free // 40, 8, tmp_path)
    assert capsys.readouterr().out == ""


def test_the_advice_is_enough(tmp_path, free):
    with pytest.raises(UserError) as refused:
        shared_memory.check(free, 1, tmp_path)
    gigabytes = int(str(refused.value).split("--shm-size=")[1].split("g")[0])
    assert free * 6 <= gigabytes * 2**30 < free * 6 + 2**30


def test_no_shared_memory_at_all(tmp_path):
    with pytest.raises(UserError, match=r"(?s)gone: No such file.*--config.data.workers=0"):
        shared_memory.check(1, 1, tmp_path / "gone")


def test_what_cannot_be_written_to(tmp_path):
    """A file stands in for it, since whoever runs the tests may write to any folder."""
    (tmp_path / "shm").touch()
    with pytest.raises(UserError, match=r"(?s)shm cannot be written to; .*--config.data.workers=0"):
        shared_memory.check(1, 1, tmp_path / "shm")


@pytest.mark.parametrize(("count", "text"), [(3 << 10, "3 KiB"), (3 << 19, "1.5 MiB"), (3 << 30, "3,072.0 MiB")])
def test_sizes(count, text):
    assert shared_memory.size(count) == text
