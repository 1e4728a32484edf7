"""Folders in a bucket of Google Cloud Storage, gs://BUCKET/..., where the runs of a TPU usually lie.

Such a path is etils.epath's, as orbax takes it; epath asks gcsfs. core/run_files.py does by it what a bucket has, and
what it has not in another way: a file is written whole from memory, where a disk would be appended to or renamed on.
What is there is asked of gcsfs itself: to epath a bucket that refuses, or cannot be reached, is an empty one, and a run
would begin anew where its checkpoints are.
"""

import contextlib
import errno
import fnmatch
import functools
import io
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, cast

from repre_jax.core.errors import UserError

SCHEME = "gs://"
ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+([^/]*)")  # 'gs:/bucket', too: what pathlib makes of 'gs://bucket'
# Which gcsfs, and orbax through it, takes for a pattern when it removes: 'lr=[01]' would remove the files of 'lr=0'.
PATTERN = re.compile(r"[*?\[\]]")
# gcsfs's own settings: what it would ask each bucket for first, with rights that a run need not have.
VARIABLE = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"
LIBRARIES = ("gcsfs", "google", "aiohttp", "requests")  # whose exceptions gcsfs raises
# What tensorstore, which reads arrays, says of a bucket that it cannot ask.
UNANSWERED = ("UNAVAILABLE", "PERMISSION_DENIED", "UNAUTHENTICATED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
ANSWERS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


class BucketError(UserError, OSError):
    """A bucket has refused, or could not be reached: nothing is known of what is in it. To whoever handles OSError it
    is one, EIO, as of a disk that fails; where nobody does, its text is for the user."""

    def __init__(self, path: Path, said: str):
        super().__init__(errno.EIO, f"the bucket says: {said}", str(path))

    def __str__(self) -> str:
        return (
            f"{self.filename} cannot be used: {self.strerror}\n"
            "  change:   the connection or the rights; for those of this machine's user "
            "`gcloud auth application-default login`"
        )


def is_address(path: str | os.PathLike) -> bool:
    """Whether it begins like gs://bucket, or with another scheme."""
    return ADDRESS.match(os.fspath(path)) is not None


def path(address: str | os.PathLike) -> Path:
    """An epath, which has the methods of a pathlib.Path. Raises UserError for another scheme than gs://, no bucket, a
    name with one of * ? [ ], and where gcsfs is not installed."""
    text = os.fspath(address)
    found = ADDRESS.match(text)
    if found is None or f"{found[1]}://" != SCHEME or not found[2]:
        raise UserError(
            f"{text} cannot be used.\n  expected: a folder, or one in a bucket of Google Cloud Storage: gs://BUCKET/...\n"
            "  change:   the path; another kind of bucket can be mounted, to be used as a folder (FUSE)"
        )
    if PATTERN.search(text):
        raise UserError(
            f"{text} cannot be used: in a bucket * ? [ ] stand for other names, whose files would be removed.\n"
            "  expected: a path without these\n  change:   the path, to lr=0.1 instead of lr=[0.1]"
        )
    _prepare(text)
    from etils import epath  # here: orbax brings it, and doctor works where packages are missing

    return cast(Path, epath.Path(SCHEME + text[found.start(2) :]))


def _prepare(address: str) -> None:
    """Sets gcsfs up. What it has listed once must not be what it says later: other processes write, too."""
    os.environ.setdefault(VARIABLE, "false")
    try:
        import fsspec
        import gcsfs  # noqa: F401
    except ImportError:
        raise UserError(
            f"{address} needs gcsfs, which is not installed.\n  change:   pip install 'repre-jax[gcs]', in a clone "
            "pip install -r requirements-gcs.txt"
        ) from None
    for name in ("gs", "gcs"):
        fsspec.config.conf.setdefault(name, {}).update(use_listings_cache=False)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it says what it raises, or tries again


def holds(path: Path) -> bool:
    """Whether a path is of a bucket."""
    return not isinstance(path, Path)


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turns what gcsfs raises of a bucket that refuses or cannot be reached into BucketError; that a file is not there
    stays FileNotFoundError. What is raised of a path on a disk stays as it is."""
    try:
        yield
    except (*ANSWERS, UserError):
        raise
    except Exception as error:
        of_library = type(error).__module__.partition(".")[0] in LIBRARIES
        of_bucket = of_library or isinstance(error, OSError) or str(error).startswith("Bad Request")
        if not (holds(path) and of_bucket):
            raise
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise BucketError(path, ": ".join(lines[:2]) or type(error).__name__) from error


def check_answered(path: Path, error: Exception) -> None:
    """Raises BucketError when this is what tensorstore says of a bucket that refuses or cannot be reached."""
    if holds(path) and any(code in str(error) for code in UNANSWERED):
        raise BucketError(path, str(error).splitlines()[0]) from error


@functools.cache
def _system() -> Any:
    """gcsfs's, the one that epath has."""
    import fsspec

    return fsspec.filesystem("gcs", finalize_on_close=True)


def kind(path: Path) -> Literal["file", "directory"] | None:
    """What it is, None where nothing is. A folder is what has something below it."""
    with told(path):
        try:
            return _system().info(str(path))["type"]
        except FileNotFoundError:
            return None


@contextlib.contextmanager
def written_whole(path: Path, mode: str) -> Iterator[IO]:
    """A file in memory, whose content becomes the object's in one go when the block ends, unless it raises; 'a', 'ab':
    behind what the object holds."""
    file: Any = io.BytesIO() if "b" in mode else io.StringIO()
    with told(path):
        if "a" in mode and kind(path):
            file.write(path.read_bytes() if "b" in mode else path.read_text())
    yield file
    with told(path):
        if "b" in mode:
            path.write_bytes(file.getvalue())
        else:
            path.write_text(file.getvalue())


def create(path: Path, text: str) -> None:
    """Writes a file that is not there yet. Of several that do so at once one gets through; to the others it raises
    FileExistsError."""
    with told(path):
        _system().pipe_file(str(path), text.encode(), mode="create")


def files_below(folder: Path) -> list[str]:
    """As run_files.files_below."""
    start = str(folder).removeprefix(SCHEME) + "/"
    with told(folder):
        try:
            names = _system().find(str(folder))
        except FileNotFoundError:  # no such bucket
            names = []
    return sorted(name.removeprefix(start) for name in names if name.startswith(start))


def matching(folder: Path, pattern: str) -> list[Path]:
    """As run_files.matching."""
    *above, pattern = pattern.split("/")
    folder = folder.joinpath(*above)
    with told(folder):
        try:
            entries = _system().ls(str(folder), detail=False)
        except FileNotFoundError:
            entries = []
    start = str(folder).removeprefix(SCHEME) + "/"
    names = (entry.removeprefix(start) for entry in entries if entry.startswith(start))
    return sorted(folder / name for name in names if name and fnmatch.fnmatchcase(name, pattern))


def move(path: Path, to: Path) -> Path:
    """Copies a file or folder, and removes it: a bucket has no other way."""
    with told(path):
        if kind(path) == "directory":
            for name in files_below(path):
                (to / name).write_bytes((path / name).read_bytes())
            remove_folder(path)
        else:
            to.write_bytes(path.read_bytes())
            path.unlink()
    return to


def remove_folder(folder: Path) -> None:
    with told(folder):
        if kind(folder):
            cast(Any, folder).rmtree()


def check_writable(folder: Path) -> None:
    """Raises OSError when nothing can be written there."""
    with told(folder):
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
