"""Images and label maps that are decoded once: kept in a folder, and mapped into memory from then on.

Decoding PNGs of Cityscapes' size is three quarters of what the host does for a crop (docs/segmentation.md). Whoever
decodes a record first writes a file of it, in one go, so that no more than whole files are seen, by as many workers,
hosts and runs as share the folder; they read the same bytes whichever of them was there first.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import identity, label_checks, segmentation_views
from repre_jax.data.label_classes import Classes
from repre_jax.data.label_folder import PairedFolder
from repre_jax.data.segmentation_views import DECODED
from repre_jax.data.sources import DataSet
from repre_jax.data.writing import free_bytes, gigabytes
from repre_jax.system import terminal

FORMAT = "1"  # of the files: uint8 [(channels + 1) * h, w], of which the first channels * h rows are the image's bytes
OTHERS = re.compile(r"[^\w.]+", re.ASCII)  # than what stands in a folder's name
LONGEST = 40  # letters of a data set's name in it
FILE = "{:08d}.npy"  # by a record's number in its split


@dataclass(frozen=True)
class Decoded:
    """Random access to records as segmentation_views.decoded takes them: those that are in the folder as they were
    decoded, others from `source`, which are then written there.

    stamp: of a record: text that is another one once its files have changed. A folder that is full is said once, and
    then nothing more is written: training goes on from the source.
    """

    source: Records
    folder: Path
    classes: Classes
    channels: int
    stamp: Callable[[int], str] | None = None
    _full: list[str] = field(default_factory=list, compare=False)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping:
        file = self.folder / FILE.format(index)
        if self.stamp is not None:
            file = file.with_stem(f"{file.stem}-{identity.digest([self.stamp(index)])}")
        if (kept := _read(file, self.channels)) is not None:
            return {DECODED: kept}
        found = segmentation_views.decoded(self.source[index], self.classes, self.channels)
        if not self._full:
            self._write(file, *found)
        return {DECODED: found}

    def _write(self, path: Path, image: np.ndarray, classes: np.ndarray) -> None:
        height, width = classes.shape
        whole = np.concatenate([image.reshape(-1, width), classes])
        assert len(whole) == (self.channels + 1) * height
        try:
            with run_files.replacing(path, "wb") as file:
                np.save(file, whole)
        except OSError as error:
            self._full.append(str(error))
            terminal.warn(f"Warning: decoded images are not kept any more: {error}. They are decoded each time.")


def _read(file: Path, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(Image, class of each pixel) as they were written; None where there is no file, or no whole one."""
    try:
        whole = np.asarray(run_files.read_array(file))
    except (OSError, ValueError, EOFError):
        return None
    height, rest = divmod(len(whole), channels + 1) if whole.ndim == 2 and whole.dtype == np.uint8 else (0, 0)
    if not height or rest:
        return None
    return whole[: channels * height].reshape(height, -1, channels), whole[channels * height :]


def kept(dataset: DataSet, classes: Classes, channels: int, asked: Sequence[str], folder: str) -> tuple[Decoded, str]:
    """The training records of a data set, decoded once into `folder`, and what is to be said of it: how much it takes.

    asked: whatever else decides on what is read of the data set: its split and features. For other data, classes or
    channels there is another folder within. Raises UserError where it cannot be written, or the disk has
    no room for all of them.
    """
    source = dataset.train
    parts = [FORMAT, str(channels), *asked, classes.table.hex(), repr(sorted(classes.coded.items()))]
    parts += [f"{key} {value}" for key, value in dataset.identity().items() if not key.startswith("test_")]
    own = dataset.name.rpartition("/")[2] if dataset.name.startswith(config_paths.FOLDER) else dataset.name
    place = config_paths.absolute(folder) / f"{OTHERS.sub('-', own)[:LONGEST]}-{identity.digest(parts)}"
    try:
        run_files.make_folder(place, parents=True)
        run_files.check_writable(place)
        there = sum(run_files.bytes_of(file) for file in run_files.matching(place, "*.npy"))
    except OSError as error:
        raise UserError(
            f"data.decoded_cache, {folder}, cannot be written: {error.strerror}\n"
            "  change:   --config.data.decoded_cache=DIR, another folder; or leave it out"
        ) from None
    needed, free = len(source) * (channels + 1) * label_checks.mean_pixels(source), free_bytes(place)
    said = f"{gigabytes(needed)} in {place}, of which {gigabytes(there)} are there; {gigabytes(free)} are free"
    if needed - there > free:
        raise UserError(
            f"The disk has no room for the {len(source):,} training images of {dataset.name} as they are decoded.\n"
            f"  given:    {said}\n"
            "  change:   --config.data.decoded_cache=DIR on another disk; or leave it out: then they are\n"
            "            decoded each time"
        )
    stamp = source.stamp if isinstance(source, PairedFolder) else None
    return Decoded(source, place, classes, channels, stamp), said
