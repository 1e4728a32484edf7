"""Shards of images in parquet, as Hugging Face's hub distributes ImageNet: 'train-00000-of-00294.parquet'.

A row is {'image': {'bytes', 'path'}, 'label'}. A reader gets one only by reading its whole row group, usually 100
images: in their order that costs little, in a random one most of the time (benchmarks/parquet_access.py), so that such
shards are converted before they are trained from.
"""

import functools
import itertools
import json
import re
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from repre_jax.core.errors import UserError

NAME = re.compile(r"(?P<split>\w+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.parquet")
KEPT = 4  # enough for threads that read a few images ahead of one another
SHOWN = 8  # shards or columns in a message


class Row(NamedTuple):
    """What a row says of its image, apart from the bytes; file_name None where it has none."""

    file_name: str | None
    label: int


@dataclass(frozen=True)
class Shard:
    """One file that was opened. groups: rows of each of its row groups; bytes: of the file.

    class_names: what its Hugging Face metadata call the labels, () without them.
    """

    path: Path
    groups: tuple[int, ...]
    bytes: int
    class_names: tuple[str, ...]

    def rows(self) -> list[Row]:
        """Names and labels, without the images. Raises UserError where they cannot be read."""
        pq = _pyarrow_parquet()
        try:
            with pq.ParquetFile(self.path) as file:
                table = file.read(columns=["image.path", "label"])
            paths = table["image"].combine_chunks().field("path").to_pylist()
            labels = table["label"].to_pylist()
        except (OSError, ValueError) as error:
            raise _damaged(self.path, error) from None
        if None in labels:
            raise UserError(f"{self.path} has rows without a label, such as row {labels.index(None)}.")
        return [Row(path and Path(path).name, label) for path, label in zip(paths, labels, strict=True)]


@dataclass(frozen=True)
class Images:
    """Access to the images of shards by their number: {'image': encoded bytes}. Made for rows in their order.

    kept: row groups that are held for rows to come. Safe for threads.
    Raises UserError where a row group cannot be read, and ValueError for a row without bytes.
    """

    shards: tuple[Shard, ...]
    kept: int = KEPT
    _groups: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __len__(self) -> int:
        return self._starts[-1]

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [0, *itertools.accumulate(sum(shard.groups) for shard in self.shards)]

    def shard(self, index: int) -> Shard:
        """The one that holds the image."""
        return self.shards[bisect_right(self._starts, index) - 1]

    def __getitem__(self, index: int) -> dict[str, bytes]:
        number = bisect_right(self._starts, index) - 1
        ends = list(itertools.accumulate(self.shards[number].groups))
        row = index - self._starts[number]
        group = bisect_right(ends, row)
        column = self._group(number, group)
        encoded = column[row - (ends[group - 1] if group else 0)].as_py()
        if not encoded:
            raise ValueError("the row has no bytes; such shards name files that lie elsewhere")
        return {"image": encoded}

    def _group(self, number: int, group: int) -> Any:
        """The bytes of a row group's images, from those that are held, or read; one thread at a time."""
        with self._lock:
            held = self._groups.pop((number, group), None)
            if held is None:
                shard = self.shards[number]
                try:
                    with _pyarrow_parquet().ParquetFile(shard.path) as file:
                        table = file.read_row_group(group, columns=["image.bytes"], use_threads=False)
                    held = table["image"].combine_chunks().field("bytes")
                except (OSError, ValueError) as error:
                    raise _damaged(shard.path, error) from None
            self._groups[number, group] = held  # the newest last
            while len(self._groups) > self.kept:
                del self._groups[next(iter(self._groups))]
            return held


def files(folder: Path, splits: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The shards of a split, by any of its names, in `folder` or its folder data/, in their order, and the names of
    those that their numbers say are missing; ([], []) without any.

    Raises UserError where those of two copies lie side by side.
    """
    for place in (folder, folder / "data"):
        found = [path for split in splits for path in sorted(place.glob(f"{split}-*-of-*.parquet"))]
        if not found:
            continue
        matches = [match for path in found if (match := NAME.fullmatch(path.name))]
        counts = {(match["split"], int(match["count"])) for match in matches}
        if len(counts) != 1 or len(matches) != len(found):
            names = ", ".join(path.name for path in found[:SHOWN])
            raise UserError(
                f"{place} has shards of more than one copy, or of other names: {names}.\n"
                "  expected: one numbering, as in train-00000-of-00294.parquet"
            )
        ((split, count),) = counts
        there = {int(match["number"]) for match in matches}
        absent = [f"{split}-{number:05}-of-{count:05}.parquet" for number in range(count) if number not in there]
        return found, absent
    return [], []


def opened(path: Path) -> Shard:
    """Reads a shard's footer. Raises UserError for one that is not whole, or has not the columns of images."""
    pq = _pyarrow_parquet()
    try:
        found = pq.read_metadata(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    columns = [found.schema.column(number).path for number in range(found.num_columns)]
    kinds = {found.schema.column(n).path: found.schema.column(n).physical_type for n in range(found.num_columns)}
    wanted = {"image.bytes": ("BYTE_ARRAY",), "image.path": ("BYTE_ARRAY",), "label": ("INT64", "INT32")}
    if any(kinds.get(name) not in kind for name, kind in wanted.items()):
        shown = ", ".join(f"{name} ({kinds[name].lower()})" for name in columns[:SHOWN]) or "none"
        raise UserError(
            f"{path} has not the columns of images with labels.\n"
            f"  given:    {shown}\n"
            "  expected: image (bytes and path) and label (a whole number), as in the hub's imagenet-1k"
        )
    groups = tuple(found.row_group(number).num_rows for number in range(found.num_row_groups))
    return Shard(path, groups, path.stat().st_size, _class_names(found.metadata or {}))


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    """Of `label`, as the library datasets writes them beside the schema."""
    try:
        label = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]
        return tuple(label["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _damaged(path: Path, error: Exception) -> UserError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return UserError(
        f"{path} ({_size(path)}) is no whole parquet file: {said[0].rstrip('.')}.\n  fetch:    this file again"
    )


def _size(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes" if path.exists() else "missing"


def _pyarrow_parquet() -> Any:
    """pyarrow.parquet, imported when shards are read: it takes a moment, and nothing else wants it."""
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise UserError(
            "Reading parquet needs pyarrow, which is not installed.\n"
            "  change:   pip install -r requirements-hub.txt, or pip install 'repre_jax[hub]'"
        ) from None
    return pyarrow.parquet


def named(shards: Sequence[Shard]) -> Iterator[tuple[Shard, Row]]:
    """Every row with its shard, in order."""
    for shard in shards:
        for row in shard.rows():
            yield shard, row
