"""Where the files of a data set to be prepared lie: in an archive, or in the folder that it would be extracted to."""

import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from repre_jax.core.errors import UserError


class Store(Protocol):
    """Where files lie: an archive, or the folder that it would be extracted to."""

    def names(self) -> Iterable[str]:
        """Of all files, from the archive's own folder on."""
        ...

    def size(self, name: str) -> int: ...

    def read(self, name: str) -> bytes:
        """Raises OSError."""
        ...


class Archive:
    """A zip, whose files are read by several threads."""

    def __init__(self, place: Path):
        """Raises UserError for what is no whole zip."""
        self._name = place.name
        try:
            self._zip = zipfile.ZipFile(place)
        # Not whole, not readable, or of a later version of the format than zipfile knows, in this order.
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise UserError(
                f"{place} cannot be read: {error}.\n  expected: the archive as it was downloaded; is it whole?"
            ) from None

    def names(self) -> Iterable[str]:
        return self._zip.namelist()

    def size(self, name: str) -> int:
        return self._zip.getinfo(name).file_size

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
            raise OSError(f"{self._name}: {error}") from None


@dataclass(frozen=True)
class Extracted:
    """Files below `folder` in `place`, by their paths from there on; an empty `folder` is `place` itself."""

    place: Path
    folder: str

    def names(self) -> Iterable[str]:
        """Raises UserError for a folder that cannot be entered."""

        def refuse(error: OSError) -> None:
            raise UserError(f"{error.filename} cannot be read: {error.strerror}.\n  change:   its permissions")

        for at, _, files in os.walk(self.place / self.folder, onerror=refuse, followlinks=True):
            below = Path(at).relative_to(self.place)
            yield from ((below / file).as_posix() for file in files)

    def size(self, name: str) -> int:
        return (self.place / name).stat().st_size

    def read(self, name: str) -> bytes:
        return (self.place / name).read_bytes()


def find(folder: Path, archive: str, inside: str) -> Store | None:
    """The archive in `folder`, else what it would be extracted to, `inside`; None where neither is there.

    Raises UserError for an archive that cannot be read.
    """
    if (folder / archive).is_file():
        return Archive(folder / archive)
    return Extracted(folder, inside) if (folder / inside).is_dir() else None
