"""Features of a split in files, so that an interrupted extraction goes on where it was.

features.npy   float32 [records, D], of which the first `rows` are features: unreadable records leave none
labels.npy     int32 [records]
progress.json  what they were made from, how many batches and rows are whole, these rows' checksums, and the numbers
               of the records so far that could not be read
"""

import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jax.sharding import Mesh

from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import Interrupted, UserError
from repre_jax.core.renamed_keys import with_new_names
from repre_jax.evaluation import features
from repre_jax.system import runtime, terminal

SAVE_EVERY = 30.0  # seconds, so much of the work is lost at most
BLOCK = 65_536  # rows that are checked at once
FILES = ("features.npy", "labels.npy")
PROGRESS = "progress.json"
CONTENTS = "set of classes and files"  # a key of what they were made from; earlier versions did not write it
ADDED = ("unreadable",)  # keys of progress.json that they did not write either

Batches = Iterator[tuple[np.ndarray, np.ndarray]]
Readable = Callable[[int], bool]


@dataclass(frozen=True)
class Split:
    """features: float32 [rows, D], labels: int32 [rows], in files, in the order of the split; unreadable: how many
    records have no row; seconds_before: that earlier starts spent on it, as process 0 knows; left_out: the numbers of
    the records without a row, rising, as far as they were written down."""

    features: np.ndarray
    labels: np.ndarray
    unreadable: int
    seconds_before: float
    left_out: Sequence[int] = ()


@dataclass(frozen=True)
class Pass:
    """The records of one pass. numbers: int [records], rising. batch_size: over all processes. width: of a feature.
    readable: whether a record that was left out can be read now; None to leave those out that were. without: the
    numbers of those that are to be left out, None for any; features that lack others are made anew."""

    numbers: np.ndarray
    batch_size: int
    width: int
    readable: Readable | None
    without: Sequence[int] | None = None

    def batches(self, numbers: Sequence[int]) -> np.ndarray:
        """In which batch each of these records is."""
        return np.searchsorted(self.numbers, numbers) // self.batch_size


@dataclass
class _Progress:
    made_from: dict[str, Any]
    batches: int = 0
    rows: int = 0
    checksums: tuple[int, int] = (0, 0)  # CRC-32 of the rows of each file
    seconds: float = 0.0
    unreadable: list[int] = field(default_factory=list)


def stored(
    folder: Path,
    made_from: dict[str, Any],
    encode: Callable,
    batches_from: Callable[[int, Callable[[int], None]], Batches],
    of: Pass,
    mesh: Mesh,
) -> Split:
    """As features.extract, by way of files in `folder`, which all processes share and process 0 writes.

    made_from:    JSON; files that were made from something else, or are damaged, are made anew.
    batches_from: (start, on_unreadable) -> the pass's batches from that number on, as evaluation/batches.eval_batches
                  gives them; raises Interrupted when it should stop.
    encode:       uint8 [B, H, W, C], all rows -> [B, width], in every process.
    Where records that were left out can be read now, the pass goes on from the batch of the first of them.

    Raises Interrupted, with what was extracted on the disk, and UserError when a feature is not
    finite.
    """
    made_from = json.loads(json.dumps(made_from))  # as it is read back
    kept = _Store(folder, _Progress(made_from), of) if runtime.is_main() else None
    start = runtime.largest(kept.progress.batches if kept else 0)
    left_out: list[int] = []  # of this process, since the last batch
    try:
        for images, known in batches_from(start, left_out.append):
            found, labels = features.of_batch(encode, images, known, mesh)
            unreadable = features.all_labels(np.array(left_out, np.int32), len(images), mesh)
            left_out.clear()
            if not np.isfinite(found).all():
                raise UserError(f"The encoder's features of {folder.name} images are not finite numbers.")
            if kept:
                kept.append(found, labels, unreadable[unreadable != features.EMPTY].tolist())
    except Interrupted:
        if kept:
            kept.save()
        raise
    if kept:
        kept.close()
    rows = runtime.largest(kept.progress.rows if kept else 0)  # from here on all processes see what process 0 wrote
    arrays, labels = (run_files.read_array(folder / name)[:rows] for name in FILES)
    return Split(arrays, labels, len(of.numbers) - rows, kept.seconds_before if kept else 0.0, lacking(folder) or [])


def lacking(folder: Path) -> list[int] | None:
    """The numbers of the records that the features in `folder` were made without, rising; None where none are there, or
    that was not written down."""
    found = (run_files.read_json(folder / PROGRESS) or {}).get("unreadable")
    return None if found is None else sorted(found)


class _Store:
    """The files while they are written."""

    def __init__(self, folder: Path, fresh: _Progress, of: Pass):
        self.folder = folder
        shapes = ((len(of.numbers), of.width), np.float32), ((len(of.numbers),), np.int32)
        fault, self.progress = _look(folder, fresh, shapes, of)
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
        if not fault:
            self.save()  # where records have been mended there are fewer whole rows than before

    def _open(self, path: Path) -> BinaryIO:
        """At the next row. Not by memory map: a disk that is full would end the process without a word."""
        array = run_files.read_array(path)
        file = run_files.open_file(path, "r+b")
        file.seek(array.offset + self.progress.rows * array[:1].nbytes)
        return file

    def append(self, features: np.ndarray, labels: np.ndarray, unreadable: list[int]) -> None:
        """Features and labels of one more batch, and the numbers of the records that it lacks."""
        first, second = (np.ascontiguousarray(some) for some in (features, labels))
        for file, array in zip(self._files, (first, second), strict=True):
            file.write(array.data)
        before = self.progress.checksums
        self.progress.checksums = (zlib.crc32(first.data, before[0]), zlib.crc32(second.data, before[1]))
        self.progress.rows += len(first)
        self.progress.unreadable += unreadable
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


def _look(folder: Path, fresh: _Progress, shapes: tuple, of: Pass) -> tuple[str | None, _Progress]:
    """Why the files cannot be used, and what to go on from."""
    written = run_files.read_json(folder / PROGRESS, tuple(key for key in asdict(fresh) if key not in ADDED))
    if written is None:
        return "nothing there is whole", fresh
    before = _Progress(**written | {"made_from": with_new_names(written["made_from"])})
    others = {
        key for key in fresh.made_from | before.made_from if fresh.made_from.get(key) != before.made_from.get(key)
    }
    if "data set" in others and _same_place(before.made_from.get("data set"), fresh.made_from.get("data set")):
        others.remove("data set")
    if CONTENTS not in before.made_from and CONTENTS in others:
        others.remove(CONTENTS)
        known = "of the data set only name, version and size; earlier versions wrote down no more"
        terminal.say(f"Note: what the features in {folder} were made from is compared, {known}.")
    if others:
        return f"they are of another {', '.join(sorted(others))}", fresh
    try:
        arrays = [run_files.read_array(folder / name) for name in FILES]
        whole = [(array.shape, array.dtype) for array in arrays] == list(shapes)
        whole = whole and tuple(_checksum(array[: before.rows]) for array in arrays) == tuple(before.checksums)
    except (OSError, ValueError, EOFError):
        whole = False
    if not whole:
        return "they are damaged", fresh
    if of.without is not None:
        wanted = np.asarray(of.without, int)[of.batches(of.without) < before.batches].tolist()
        if sorted(before.unreadable) != sorted(wanted):
            return "they lack other records than those that they lacked when something was trained on them", fresh
    if of.readable is None:
        return None, before
    if len(before.unreadable) != min(before.batches * of.batch_size, len(of.numbers)) - before.rows:
        return "which records were left out was not written down, and they may be readable now", fresh
    return None, _without_mended(folder, before, arrays, of, of.readable)


def _same_place(before: Any, now: Any) -> bool:
    """Whether two data sets, each [name, ...], differ in no more than how the path in the name is written."""
    if not (isinstance(before, list) and isinstance(now, list)):
        return False
    return before[1:] == now[1:] and config_paths.same("data.name", before[0], now[0])


def _without_mended(
    folder: Path, before: _Progress, arrays: Sequence[np.ndarray], of: Pass, readable: Readable
) -> _Progress:
    """The progress up to the first batch with a record that was left out and can be read now."""
    mended = [number for number in before.unreadable if readable(number)]
    if not mended:
        return before
    first = int(of.batches(mended).min())
    terminal.say(
        f"Records that were left out of the features in {folder} and are readable now: {len(mended):,}. "
        f"The features from record {int(of.numbers[first * of.batch_size]):,} on are made anew."
    )
    numbers = np.array(before.unreadable)
    unreadable = numbers[of.batches(before.unreadable) < first].tolist()
    rows = first * of.batch_size - len(unreadable)
    first_sum, second_sum = (_checksum(array[:rows]) for array in arrays)
    return replace(before, batches=first, rows=rows, checksums=(first_sum, second_sum), unreadable=unreadable)


def _checksum(rows: np.ndarray) -> int:
    checksum = 0
    for start in range(0, len(rows), BLOCK):
        checksum = zlib.crc32(np.ascontiguousarray(rows[start : start + BLOCK]).data, checksum)
    return checksum
