"""The folder of compiled programs on the disk: where it is, how much it holds, and what is removed when it is too much.

JAX can bound it itself, but needs a package for that and locks the folder at every read. Only the standard library is
imported: tools/doctor.py needs this where nothing else is installed.
"""

import contextlib
import os
from pathlib import Path

LIMIT = 5_000_000_000  # bytes; a program of ours takes 0.1 to 50 MB
LEFT = 0.8  # share of the limit that is left when something is removed, so that this is not done at every start


def base() -> Path:
    """$XDG_CACHE_HOME/repre_jax or ~/.cache/repre_jax. Raises RuntimeError where nobody knows the user's home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "repre_jax"


def size(folder: Path) -> int:
    """Bytes of the programs for all kinds of processors."""
    return sum(bytes_of for _, bytes_of, _ in _files(folder))


def bound(folder: Path, limit: int = LIMIT) -> int:
    """Removes the programs that were used longest ago, where all of them take more than `limit` bytes; returns the
    bytes removed. A process that reads one of them meanwhile keeps what it has opened."""
    files = _files(folder)
    total = before = sum(bytes_of for _, bytes_of, _ in files)
    if total <= limit:
        return 0
    for _, bytes_of, path in sorted(files):
        if total <= LEFT * limit:
            break
        with contextlib.suppress(OSError):  # another start removes, too, or it is not ours
            path.unlink()
            total -= bytes_of
    return before - total


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """(last use, bytes, path) of each program; of a file system that does not note reads, when it was written."""
    found = []
    for path in folder.glob("xla-*/*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    return found
