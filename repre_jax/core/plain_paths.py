"""Paths for libraries that read one of another kind as a pattern: a link among the temporary files leads there.

A process that is killed leaves its link behind. The next one that makes one removes it: each link's folder has a file
that is locked as long as its process lives, which holds in containers and across hosts, where numbers of processes do
not tell.
"""

import contextlib
import errno
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from repre_jax.core import locks

UNFIT = frozenset("[]*?{}\\")  # what some libraries read in a path as a pattern, or as another separator
TEMPORARY = ("/tmp", "/var/tmp")  # folders that are tried after the one that Python names
PREFIX, LOCK, LINK = "repre_jax-", "lock", "to"


def plainly_named(folder: Path) -> tuple[Path, Callable[[], None]]:
    """A path that leads to `folder` and that any library takes as it stands, and what to call when it is not needed any
    more: the folder's own path where it has none of UNFIT and is UTF-8, else that of a link.

    The link lies in a folder of its own among the temporary files. Raises OSError where it cannot be made.
    """
    if _fit(str(folder)):
        return folder, lambda: None
    places = (tempfile.gettempdir(), *TEMPORARY)
    usable = [place for place in places if _fit(place) and os.access(place, os.W_OK | os.X_OK)]
    if not usable:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), ", ".join(places))
    _remove_those_of_dead_processes(Path(usable[0]))
    place, lock = _own_folder(usable[0])
    (place / LINK).symlink_to(folder, target_is_directory=True)
    return place / LINK, functools.partial(_remove, place, lock)


def _fit(path: str) -> bool:
    return not UNFIT & set(path) and not any("\ud800" <= letter <= "\udfff" for letter in path)


def _own_folder(within: str) -> tuple[Path, IO]:
    """A new folder, and its locked file."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=within))
        lock = (place / LOCK).open("w")
        with contextlib.suppress(OSError):  # a file system without locks: then nobody else locks it either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not locks.is_removed(lock):  # else somebody took it for a dead process's, before it was locked
            return place, lock
        lock.close()


def _remove(place: Path, lock: IO) -> None:
    shutil.rmtree(place, ignore_errors=True)  # which follows no link
    lock.close()


def _remove_those_of_dead_processes(within: Path) -> None:
    for place in within.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, removed meanwhile, or one that is locked
            lock = (place / LOCK).open()
            with lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
