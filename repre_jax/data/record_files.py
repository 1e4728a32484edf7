"""The files that hold a TFDS split's records: whether each is whole, and which one a damaged record lies in."""

import bisect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from array_record.python import array_record_module
from google.protobuf.message import DecodeError

from repre_jax.data import crops

THREADS = 16  # opening waits for the disk; 1,024 files take a quarter of a second
# What ArrayRecord and TFDS raise on what is no record; a message of theirs ends up in ours.
BROKEN = (RuntimeError, ValueError, LookupError, DecodeError)


class DamagedRecord(crops.UnreadableImage):
    """A record that its file no longer gives, or gives as something else than the features say."""


@dataclass(frozen=True)
class RecordFiles:
    """Random access to a split's records, as TFDS's `source` has it.

    files: name and number of records taken of each, in order.
    Reading raises DamagedRecord, which names the file.
    """

    source: Any
    files: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping:
        try:
            return self.source[index]
        except BROKEN as error:
            what = f"{self._file(index)}, record {index} of the split: {first_line(error)}"
            raise DamagedRecord(f"{what}\n  change:   copy this file again, or prepare the data set again") from None

    def __iter__(self) -> Iterator[Mapping]:
        return (self[index] for index in range(len(self)))

    def _file(self, index: int) -> str:
        ends = list(itertools.accumulate(taken for _, taken in self.files))
        place = bisect.bisect_right(ends, index)
        return self.files[place][0] if place < len(ends) else "no file"


def faults(instructions: Sequence[Any]) -> list[str]:
    """What is wrong with the files that these FileInstructions of TFDS name, one line each; opens all, reads no record.

    A file that was cut short has no record at all: ArrayRecord's index stands at its end.
    """
    wanted = {each.filename: each.examples_in_shard for each in instructions}
    with ThreadPoolExecutor(THREADS) as pool:
        return [line for line in pool.map(_fault, wanted, wanted.values()) if line]


def records_in(path: str) -> int:
    """How many records a whole ArrayRecord file has; 0 for anything else. Raises what BROKEN has."""
    reader = array_record_module.ArrayRecordReader(path)
    try:
        return reader.num_records()
    finally:
        if reader.ok():
            reader.close()


def _fault(path: str, records: int) -> str | None:
    file = Path(path)
    try:
        if not file.is_file():
            return f"{file.name} is missing"
        if not (size := file.stat().st_size):
            return f"{file.name} is empty"
        found = records_in(path)
    except OSError as error:
        return f"{file.name} cannot be opened: {error.strerror}"
    except BROKEN as error:
        return f"{file.name} cannot be opened: {first_line(error)}"
    if found == records:
        return None
    why = "it is cut short, or damaged" if not found else "it is another data set's, or another version's"
    return f"{file.name} ({size:,} bytes) has {found:,} of {records:,} records: {why}"


def counted(files: int) -> str:
    """So many files, in words."""
    return "1 file" if files == 1 else f"{files:,} files"


def first_line(error: Exception) -> str:
    """Of its text, without a full stop; the name of its type where there is none."""
    text = str(error).strip()
    return re.sub(r"(?<!\.)\.$", "", text.splitlines()[0]) if text else type(error).__name__
