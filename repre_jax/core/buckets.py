"""Folders in a bucket of Google Cloud Storage, gs://BUCKET/..., where the runs of a TPU usually lie.

Such a path is etils.epath's, as orbax takes it; epath asks gcsfs. core/run_files.py does by it what a bucket has, and
what it has not in another way: a file is written whole from memory, where a disk would be appended to or renamed on.
"""

import contextlib
import io
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from repre_jax.core.errors import UserError

SCHEME = "gs://"
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+([^/]*)")  # 'gs:/bucket', too: what pathlib makes of 'gs://bucket'
# gcsfs's own settings: what it would ask each bucket for first, with rights that a run need not have.
VARIABLE = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"


def is_address(path: str | os.PathLike) -> bool:
    """Whether it begins like gs://bucket, or with another scheme."""
    return ADDRESS.match(os.fspath(path)) is not None


def path(address: str | os.PathLike) -> Path:
    """An epath, which has the methods of a pathlib.Path. Raises UserError for another scheme than gs://, no bucket, and
    where gcsfs is not installed."""
    text = os.fspath(address)
    found = ADDRESS.match(text)
    if found is None or f"{found[1]}://" != SCHEME or not found[2]:
        raise UserError(
            f"{text} cannot be used.\n  expected: a folder, or one in a bucket of Google Cloud Storage: gs://BUCKET/...\n"
            "  change:   the path; another kind of bucket can be mounted, to be used as a folder (FUSE)"
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
def told() -> Iterator[None]:
    """Turns what gcsfs raises, refused or unreachable, into OSError, as of a disk."""
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("gcsfs", "google", "aiohttp", "requests"):
            raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OSError(5, f"the bucket says: {said}") from error


@contextlib.contextmanager
def written_whole(path: Path, mode: str) -> Iterator[IO]:
    """A file in memory, whose content becomes the object's in one go when the block ends, unless it raises; 'a', 'ab':
    behind what the object holds."""
    file: Any = io.BytesIO() if "b" in mode else io.StringIO()
    with told():
        if "a" in mode and path.exists():
            file.write(path.read_bytes() if "b" in mode else path.read_text())
    yield file
    with told():
        if "b" in mode:
            path.write_bytes(file.getvalue())
        else:
            path.write_text(file.getvalue())


def files_below(folder: Path) -> list[str]:
    """As run_files.files_below: each folder is asked for, since epath goes no deeper."""
    found = []
    for each in folder.iterdir() if folder.is_dir() else ():
        found += [f"{each.name}/{below}" for below in files_below(each)] if each.is_dir() else [each.name]
    return sorted(found)


def move(path: Path, to: Path) -> Path:
    """Copies a file or folder, and removes it: a bucket has no other way."""
    if path.is_dir():
        for name in files_below(path):
            (to / name).write_bytes((path / name).read_bytes())
        remove_folder(path)
    else:
        to.write_bytes(path.read_bytes())
        path.unlink()
    return to


def remove_folder(folder: Path) -> None:
    if folder.exists():
        cast(Any, folder).rmtree()


def check_writable(folder: Path) -> None:
    """Raises OSError when nothing can be written there."""
    with told():
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
