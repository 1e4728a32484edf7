"""A mark in a workdir that lies in a bucket, which has no locks: who is at work there, and that they still are."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from repre_jax.core import buckets, run_files
from repre_jax.core.errors import UserError
from repre_jax.core.run_files import LOCK
from repre_jax.system import process_names, runtime, terminal

BEAT = 20.0  # seconds after which the holder writes its mark anew
SILENT = 3  # so many beats without a new one, and the holder is dead
SETTLING = 1.0  # seconds after which, of two that took over a dead one's mark at once, the last has the workdir


@contextlib.contextmanager
def marked(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder of a bucket meanwhile. A process that was killed keeps them out for as long as
    it takes to see it dead: no time where its number still says so (system/process_names.py), SILENT beats elsewhere.
    This process ends at once when another has taken over, after it could not write its mark for so long.

    Raises UserError when nothing can be written there, or another process is at work in it.
    """
    mark, token, count = folder / LOCK, uuid.uuid4().hex, 0
    ended = threading.Event()

    def content() -> str:
        return f"{token}\n{_this()}\n{count}\n"

    def beat() -> None:
        nonlocal count
        while not ended.wait(BEAT):
            count += 1
            with contextlib.suppress(OSError):  # the next one may get through
                found = _read(mark)
                if found and not found.startswith(token):
                    runtime.end_process(
                        f"Another process has taken over {folder}, which heard nothing of this one for "
                        f"{SILENT * BEAT:.0f} s.\n"
                        "This one ends and writes nothing more; the other goes on from the last checkpoint."
                    )
                run_files.replace(mark, content())

    try:
        if _is_left_by_a_dead_one(folder):
            run_files.replace(mark, content())
            time.sleep(SETTLING)
        else:
            with contextlib.suppress(FileExistsError):  # another's, or this one's, when the answer to it was lost
                buckets.create(mark, content())
        if not _read(mark).startswith(token):
            raise _at_work(folder)
    except OSError as error:
        why = error.strerror or "there is no such bucket"
        raise UserError(
            f"The workdir {folder} cannot be written: {why}.\n"
            "  change:   --workdir, or make the bucket; where it is refused, `gcloud auth application-default login`"
        ) from None
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            if _read(mark).startswith(token):
                run_files.remove(mark, missing_ok=True)


def is_fresh(folder: Path) -> bool:
    """Whether a living process has marked the folder, as far as can be told at once."""
    try:
        content = _read(folder / LOCK)
        recent = bool(content) and time.time() - run_files.written_at(folder / LOCK) < SILENT * BEAT
        return recent and not _is_dead(content)
    except OSError:
        return False


def _is_left_by_a_dead_one(folder: Path) -> bool:
    """Whether there is a mark, whose holder is dead or was silent while this waited; False where there is none.

    Raises UserError when it gives a sign of life.
    """
    mark = folder / LOCK
    content = _read(mark)
    if not content or _is_dead(content):
        return bool(content)
    wait = f"waiting up to {SILENT * BEAT:.0f} s for a sign of it"
    place, _, pid = _holder(content).rpartition(" ")
    terminal.warn(f"{folder} is marked by another process ({place.partition('/')[0]} {pid}): {wait}.")
    end = time.monotonic() + SILENT * BEAT
    while time.monotonic() < end:
        time.sleep(BEAT / 20)
        now = _read(mark)
        if not now:
            return False
        if now != content:
            raise _at_work(folder)
    return True


def _at_work(folder: Path) -> UserError:
    return UserError(f"Another process is at work in {folder}.\n  change:   wait for it or end it; or --workdir=...")


def _read(mark: Path) -> str:
    """'' where there is none."""
    try:
        return run_files.read_text(mark)
    except FileNotFoundError:
        return ""


def _this() -> str:
    """'PLACE PID', PLACE as process_names says."""
    return f"{process_names.place()} {os.getpid()}"


def _holder(content: str) -> str:
    """As _this."""
    return [*content.splitlines(), "", ""][1]


def _is_dead(content: str) -> bool:
    """Whether it is of a process that would be seen from here and is not there any more."""
    place, _, pid = _holder(content).rpartition(" ")
    if place != process_names.place() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
