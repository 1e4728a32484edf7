"""The files of a run: what they are called, and the only door to them.

  config.json         the config, as the last start completed it
  data.json           the data set of the last start: its identity, classes, and what is known of its files or shards
  starts.jsonl        a line a start: from which step, with which versions, devices, command ...
  metrics.jsonl       a line a logging step: 'step' and what was measured there
  result.json         of a finished run; result.before.json of one that goes on; report.html, the page of both
  checkpoints/        of training (core/checkpoint.py, core/manifest.py); features/ of evaluations (evaluation/store.py)
  detections.json     of a finished detection, what it finds in the test images; detections_boxes.json its boxes
  figures/, export/, predictions/   what the tools write
  tensorboard/, wandb.json, .lock

No other module opens, lists, renames or removes a file of a run (tests/test_run_files_only.py), so that runs can lie in
a bucket: there core/buckets.py does what is different. Only orbax, tensorboardX and W&B, which are handed a path, open
files below it themselves.

On disks paths are pathlib's. Not etils.epath's, which those of buckets are: its stat() fails for a file whose owner has
no name, as in many containers, and rounds times to seconds, which the page's choice of the newest figure would feel.
Errors are the system's, OSError, for the callers to explain.
"""

import contextlib
import json
import math
import os
import re
import secrets
import shutil
import statistics
import tempfile
from collections.abc import Collection, Iterator, Sequence
from io import BufferedRandom, BufferedReader, BufferedWriter, TextIOWrapper
from pathlib import Path
from typing import IO, Any, Literal, cast, overload

import numpy as np

from repre_jax.core import buckets
from repre_jax.core.errors import UserError
from repre_jax.core.renamed_keys import with_new_names

CONFIG, DATA, STARTS, METRICS = "config.json", "data.json", "starts.jsonl", "metrics.jsonl"
RESULT, RESULT_BEFORE = "result.json", "result.before.json"
PAGE, WANDB, LOCK = "report.html", "wandb.json", ".lock"
CHECKPOINTS, FEATURES, FIGURES, EXPORT, TENSORBOARD = "checkpoints", "features", "figures", "export", "tensorboard"
PREDICTIONS = "predictions"
DETECTIONS, DETECTIONS_OF_BOXES = "detections.json", "detections_boxes.json"
# Names of pictures that the tools draw, and what stands in each of them; data/listing.py passes them over.
KINDS = (
    "attention|augmentations|confusion|data|detection|neighbours|precision|pyramid|reconstructions|segmentation|tsne"
)
DRAWN = re.compile(rf"({KINDS})(-and-.+)?\.png", re.DOTALL)
DRAWN_BY = "repre_jax"
DRAFT = ".draft"  # how the name of a file ends that is being written


def has_checkpoints(run: Path) -> bool:
    """Whether training has begun there: what makes a folder a run."""
    return is_folder(run / CHECKPOINTS)


def is_run(names: Collection[str]) -> bool:
    """Whether a folder that holds files and folders of these names is that of a run or an evaluation."""
    return CONFIG in names and any(name in names for name in (STARTS, METRICS, RESULT, CHECKPOINTS))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces a JSON file."""
    replace(path, json_text(content))


def json_text(content: dict[str, Any]) -> str:
    """As a JSON file holds it."""
    return json.dumps(content, indent=2) + "\n"


def read_json(path: Path, keys: Sequence[str] = ()) -> dict[str, Any] | None:
    """A JSON object with these keys, None when the file is not there, not whole or something else."""
    try:
        content = json.loads(read_text(path))
    except buckets.BucketError:
        raise
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and all(key in content for key in keys) else None


def read_config(run: Path, keys: Sequence[str] = ()) -> dict[str, Any] | None:
    """A run's config.json, its keys under their present names; None when it is not there, not whole or lacks `keys`."""
    content = read_json(run / CONFIG)
    config = None if content is None else with_new_names(content)
    return config if config is not None and all(key in config for key in keys) else None


def read_data(run: Path) -> dict[str, Any]:
    """A run's data.json, what its last start saw of the data set; {} when it is not there or not whole."""
    return read_json(run / DATA) or {}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replaces a file of JSON lines."""
    replace(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def replace(path: Path, text: str) -> None:
    """Replaces a text file."""
    with replacing(path, "w") as file:
        file.write(text)


@contextlib.contextmanager
def replacing(path: Path, mode: str) -> Iterator[IO]:
    """A file to write, which takes the place of `path` when the block ends: in one go, and on the disk by then. So a
    reader, or whoever comes after a crash, never sees half a file; after an error the one before is there."""
    if buckets.holds(path):
        with buckets.written_whole(path, mode) as file:
            yield file
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}{DRAFT}")  # a tool may write what its run is writing, too
    try:
        with draft.open(mode) as file:
            yield file
            to_disk(file)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def to_disk(file: IO) -> None:
    """What was written to it so far, out of all buffers, of a file on a disk."""
    file.flush()
    os.fsync(file.fileno())


@overload
def open_file(path: Path, mode: Literal["rb"]) -> BufferedReader: ...
@overload
def open_file(path: Path, mode: Literal["wb"]) -> BufferedWriter: ...
@overload
def open_file(path: Path, mode: Literal["r+b"]) -> BufferedRandom: ...
@overload
def open_file(path: Path, mode: Literal["r", "a"]) -> TextIOWrapper: ...
def open_file(path: Path, mode: str) -> IO:
    """As open() does; in a bucket to be read, or to be written whole. A file that is written whole goes by
    replacing(), a line behind others by append()."""
    return path.open(mode)


def append(path: Path, text: str) -> None:
    """Writes it behind what is there."""
    with buckets.written_whole(path, "a") if buckets.holds(path) else path.open("a") as file:
        file.write(text)


def read_text(path: Path, errors: str = "strict") -> str:
    return read_bytes(path).decode(errors=errors) if buckets.holds(path) else path.read_text(errors=errors)


def read_bytes(path: Path) -> bytes:
    with buckets.told(path):
        return path.read_bytes()


def new_array(path: Path, dtype: np.typing.DTypeLike, shape: tuple[int, ...]) -> None:
    """An .npy file of that shape; what is not written yet takes no room on most disks. Raises UserError in a bucket."""
    if buckets.holds(path):
        raise UserError(
            f"Features cannot be kept in a bucket: {path} would have to be written in place.\n"
            "  change:   --workdir to a folder; init_from may lie in a bucket"
        )
    np.lib.format.open_memmap(path, "w+", dtype, shape)


def read_array(path: Path) -> np.memmap:
    """An .npy file as an array that is read when it is looked at. Raises ValueError or EOFError when it is damaged."""
    return np.load(path, mmap_mode="r")


def exists(path: Path) -> bool:
    return buckets.kind(path) is not None if buckets.holds(path) else path.exists()


def is_file(path: Path) -> bool:
    return buckets.kind(path) == "file" if buckets.holds(path) else path.is_file()


def is_folder(path: Path) -> bool:
    """In a bucket: whether something lies below."""
    return buckets.kind(path) == "directory" if buckets.holds(path) else path.is_dir()


def bytes_of(path: Path) -> int:
    """How long a file is."""
    with buckets.told(path):
        return cast(Any, path.stat()).length if buckets.holds(path) else path.stat().st_size


def written_at(path: Path) -> float:
    """When a file was written: seconds, as time.time() counts."""
    with buckets.told(path):
        return cast(Any, path.stat()).mtime if buckets.holds(path) else path.stat().st_mtime


def matching(folder: Path, pattern: str) -> list[Path]:
    """What lies in a folder under such names, '*' for all, sorted; [] where there is no folder."""
    return buckets.matching(folder, pattern) if buckets.holds(folder) else sorted(folder.glob(pattern))


def files_below(folder: Path) -> list[str]:
    """All files in it and its folders, by their paths from it, sorted."""
    if buckets.holds(folder):
        return buckets.files_below(folder)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def make_folder(folder: Path, parents: bool = False) -> None:
    """Makes it where it is not there. parents: those above it too. A bucket has no folders but by what is in them."""
    if not buckets.holds(folder):
        folder.mkdir(parents=parents, exist_ok=True)


def check_writable(folder: Path) -> None:
    """Raises OSError when no file can be made in the folder."""
    if buckets.holds(folder):
        buckets.check_writable(folder)
        return
    with tempfile.TemporaryFile(dir=folder):
        pass


@contextlib.contextmanager
def made(folder: Path) -> Iterator[None]:
    """While entered, `folder` is there: it and those above it are made where they are not, and removed where nothing is
    in them in the end, however that comes."""
    new = [] if buckets.holds(folder) else [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        make_folder(folder, parents=True)
        yield
    finally:
        for each in new:
            with contextlib.suppress(OSError):  # it was not made yet, or something is in it
                each.rmdir()


@contextlib.contextmanager
def drafts(folder: Path) -> Iterator[Path]:
    """An empty folder within `folder`, of which nobody else knows; removed in the end with all that is in it."""
    within = folder / f"{DRAFT}{secrets.token_hex(4)}"
    try:
        make_folder(within)
        yield within
    finally:
        remove_folder(within, ignore_errors=True)


def move(path: Path, to: Path) -> Path:
    """Gives a file or folder another name, in the place of a file that has it; returns that."""
    return buckets.move(path, to) if buckets.holds(path) else path.replace(to)


def remove(path: Path, missing_ok: bool = False) -> None:
    with buckets.told(path):
        path.unlink(missing_ok=missing_ok)


def remove_folder(folder: Path, ignore_errors: bool = False) -> None:
    """With all that is in it."""
    if buckets.holds(folder):
        with contextlib.suppress(*([OSError] if ignore_errors else [])):
            buckets.remove_folder(folder)
        return
    shutil.rmtree(folder, ignore_errors=ignore_errors)


def remove_empty(folder: Path) -> None:
    """Raises OSError when something is in it."""
    if not buckets.holds(folder):
        folder.rmdir()


class MetricsFile:
    """metrics.jsonl of one run; each line holds 'step' and what was measured there."""

    def __init__(self, path: Path, continue_from: int, write: bool = True):
        """Lines beyond the step that the run goes on from are dropped, all of them for a new run (step 0).

        write: False in all processes of a run but one.
        """
        self.path, self._writes = path, write
        kept = [row for row in read_metrics(path) if continue_from and row["step"] <= continue_from]
        self.last: dict[str, Any] = kept[-1] if kept else {}
        self._rewrite(kept)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Appends a line, or completes the last one if it is of the same step.

        None, and what JSON has no number for (NaN, infinity), become null.
        """
        finite = {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}
        again = self.last.get("step") == step
        self.last = finite | self.last if again else {"step": step, **finite}
        if again:
            self._rewrite([*read_metrics(self.path)[:-1], self.last])
        elif self._writes:
            append(self.path, json.dumps(self.last, allow_nan=False) + "\n")

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        if self._writes:
            write_rows(self.path, rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines of a metrics.jsonl, [] when there is none. It ends before a line cut short by a crash."""
    rows = []
    for line in read_text(path, "replace").splitlines() if exists(path) else []:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or "step" not in row:
            break
        rows.append(row)
    return rows


def median(path: Path, name: str) -> float | None:
    """Median of a metric over all logged steps; None when it was never measured."""
    values = [row[name] for row in read_metrics(path) if row.get(name) is not None]
    return statistics.median(values) if values else None


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries -> one, with keys such as 'optim.lr'."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
