"""Features of a split in files, so that an interrupted extraction goes on where it was.

features.npy   float32 [records, D], of which the first `rows` are features: unreadable records leave none
labels.npy     int32 [records]
progress.json  what they were made from, how many batches and rows are whole, and these rows' checksums
"""

import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jax.sharding import Mesh

from repre_jax.core import run_files
from repre_jax.core.errors import Interrupted, UserError
from repre_jax.core.renamed_keys import with_new_names
from repre_jax.evaluation import features
from repre_jax.system import runtime, terminal

SAVE_EVERY = 30.0  # seconds, so much of the work is lost at most
BLOCK = 65_536  # rows that are checked at once
FILES = ("features.npy", "labels.npy")
PROGRESS = "progress.json"

Batches = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Split:
    """features: float32 [rows, D], labels: int32 [rows], in files, in the order of the split; unreadable: records
    without a row; seconds_before: that earlier starts spent on it, as process 0 knows."""

    features: np.ndarray
    labels: np.ndarray
    unreadable: int
    seconds_before: float


@dataclass
class _Progress:
    made_from: dict[str, Any]
    batches: int = 0
    rows: int = 0
    checksums: tuple[int, int] = (0, 0)  # CRC-32 of the rows of each file
    seconds: float = 0.0


def stored(
    folder: Path,
    made_from: dict[str, Any],
    encode: Callable,
    batches_from: Callable[[int], Batches],
    *,
    records: int,
    width: int,
    mesh: Mesh,
) -> Split:
    """As features.extract, by way of files in `folder`, which all processes share and process 0 writes.

    made_from:    JSON; files that were made from something else, or are damaged, are made anew.
    batches_from: the batches from a number on, of `records` records in all; raises Interrupted when it should stop.
    encode:       uint8 [B, H, W, C], all rows -> [B, width], in every process.

    Raises Interrupted, with what was extracted on the disk, and UserError when a feature is not
    finite.
    """
    made_from = json.loads(json.dumps(made_from))  # as it is read back
    kept = _Store(folder, _Progress(made_from), records, width) if runtime.is_main() else None
    start = runtime.largest(kept.progress.batches if kept else 0)
    try:
        for images, known in batches_from(start):
            found, labels = features.of_batch(encode, images, known, mesh)
            if not np.isfinite(found).all():
                raise UserError(f"The encoder's features of {folder.name} images are not finite numbers.")
            if kept:
                kept.append(found, labels)
    except Interrupted:
        if kept:
            kept.save()
        raise
    if kept:
        kept.close()
    rows = runtime.largest(kept.progress.rows if kept else 0)  # from here on all processes see what process 0 wrote
    arrays, labels = (run_files.read_array(folder / name)[:rows] for name in FILES)
    return Split(arrays, labels, records - rows, kept.seconds_before if kept else 0.0)


class _Store:
    """The files while they are written."""

    def __init__(self, folder: Path, fresh: _Progress, records: int, width: int):
        self.folder = folder
        shapes = ((records, width), np.float32), ((records,), np.int32)
        fault, self.progress = _look(folder, fresh, shapes)
        if fault:
            if run_files.exists(folder):
                terminal.say(f"The features in {folder} are made anew: {fault}.")
            run_files.make_folder(folder, parents=True)
            run_files.remove(folder / PROGRESS, missing_ok=True)
            for name, (shape, dtype) in zip(FILES, shapes, strict=True):
                run_files.new_array(folder / name, dtype, shape)
        self._files = [self._open(folder / name) for name in FILES]
        self._begun = self._saved = time.monotonic()
        self.seconds_before = self.progress.seconds

    def _open(self, path: Path) -> BinaryIO:
        """At the next row. Not by memory map: a disk that is full would end the process without a word."""
        array = run_files.read_array(path)
        file = run_files.open_file(path, "r+b")
        file.seek(array.offset + self.progress.rows * array[:1].nbytes)
        return file

    def append(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Features and labels of one more batch."""
        first, second = (np.ascontiguousarray(some) for some in (features, labels))
        for file, array in zip(self._files, (first, second), strict=True):
            file.write(array.data)
        before = self.progress.checksums
        self.progress.checksums = (zlib.crc32(first.data, before[0]), zlib.crc32(second.data, before[1]))
        self.progress.rows += len(first)
        self.progress.batches += 1
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Data first: what progress.json speaks of is there."""
        for file in self._files:
            run_files.to_disk(file)
        self._saved = time.monotonic()
        self.progress.seconds = self.seconds_before + self._saved - self._begun
        run_files.write_json(self.folder / PROGRESS, asdict(self.progress))

    def close(self) -> None:
        self.save()
        for file in self._files:
            file.close()


def _look(folder: Path, fresh: _Progress, shapes: tuple) -> tuple[str | None, _Progress]:
    """Why the files cannot be used, and what to go on from."""
    written = run_files.read_json(folder / PROGRESS, tuple(asdict(fresh)))
    if written is None:
        return "nothing there is whole", fresh
    before = _Progress(**written | {"made_from": with_new_names(written["made_from"])})
    others = {
        key for key in fresh.made_from | before.made_from if fresh.made_from.get(key) != before.made_from.get(key)
    }
    if others:
        return f"they are of another {', '.join(sorted(others))}", fresh
    try:
        arrays = [run_files.read_array(folder / name) for name in FILES]
        whole = [(array.shape, array.dtype) for array in arrays] == list(shapes)
        whole = whole and tuple(_checksum(array[: before.rows]) for array in arrays) == tuple(before.checksums)
    except (OSError, ValueError, EOFError):
        whole = False
    return (None, before) if whole else ("they are damaged", fresh)


def _checksum(rows: np.ndarray) -> int:
    checksum = 0
    for start in range(0, len(rows), BLOCK):
        checksum = zlib.crc32(np.ascontiguousarray(rows[start : start + BLOCK]).data, checksum)
    return checksum
