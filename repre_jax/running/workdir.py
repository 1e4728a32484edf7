"""The folder of a run, for one run at a time."""

import contextlib
import fcntl
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from repre_jax.core import buckets, locks, run_files
from repre_jax.core.errors import UserError
from repre_jax.core.run_files import LOCK
from repre_jax.running import bucket_mark


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other runs out of it meanwhile; a process that was killed keeps nobody out.

    A folder that is still empty at the end is removed again.
    Raises UserError when it cannot be made or written, or another process is at work in it.
    """
    if buckets.holds(folder):
        with bucket_mark.marked(folder):
            yield
        return
    made = [path for path in (folder, *folder.parents) if not run_files.exists(path)]
    with _locked_file(folder) as lock:
        lock.truncate(0)
        lock.write(uuid.uuid4().hex)  # tells this folder from another of the same name on another host
        lock.flush()
        try:
            yield
        finally:
            if run_files.matching(folder, "*") == [folder / LOCK]:
                run_files.remove(folder / LOCK)
                with contextlib.suppress(OSError):  # another run has put something there meanwhile
                    for path in made:
                        run_files.remove_empty(path)


def is_locked(folder: Path) -> bool:
    """Whether a process is at work in it; False where nothing can tell, as on a file system without locks."""
    if buckets.holds(folder):
        return bucket_mark.is_fresh(folder)
    try:
        with run_files.open_file(folder / LOCK, "r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def lock_token(folder: Path) -> str:
    """What the process that has locked the folder wrote into it, '' where there is nothing."""
    try:
        return run_files.read_text(folder / LOCK).partition("\n")[0]
    except OSError:
        return ""


def _locked_file(folder: Path) -> IO:
    """Raises as `locked`."""
    while True:
        try:
            run_files.make_folder(folder, parents=True)
            run_files.check_writable(folder)
            lock = run_files.open_file(folder / LOCK, "a")
        except OSError as error:
            raise UserError(
                f"The workdir {folder} cannot be written: {error.strerror}.\n  change:   --workdir=..."
            ) from None
        try:
            _lock(lock, folder)
            if not locks.is_removed(lock):  # else its holder left an empty folder, and has removed both
                return lock
        except UserError:
            lock.close()
            raise
        lock.close()


def _lock(file: IO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"Another process is at work in {folder}.\n  change:   wait for it or end it; or --workdir=..."
        ) from None
    except OSError:
        pass  # a file system without locks
