"""A TFDS data set in TFRecord, TFDS's default, as one in ArrayRecord, in another folder: records, order and info alike.

Each file becomes a file of the same records. What an interrupted conversion has finished is kept for the next.
"""

import contextlib
import json
import os
import shlex
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from repre_jax.core import config_paths
from repre_jax.core.errors import UserError
from repre_jax.data import locate, prepared, record_files, tfrecord, writing
from repre_jax.system import terminal

THREADS = min(8, os.cpu_count() or 1)
GROUP = "group_size:1"  # as TFDS writes: records are read one by one
SOURCE = "source.txt"  # in a conversion that goes on: of what
ORIGIN = "the folder of a version, such as .../cifar10/3.0.2"
COMMAND = "python -m repre_jax.tools.prepare convert"
ELSEWHERE = "--data-dir=DIR to another folder"


@dataclass(frozen=True)
class Shard:
    """A file of records to be converted, and the file it becomes."""

    origin: Path
    target: Path
    records: int


@dataclass(frozen=True)
class Conversion:
    """A data set to be converted: what lies in `place` becomes `target`, root/name/version, by way of `unfinished`."""

    place: Path
    root: Path
    name: str
    version: str
    shards: tuple[Shard, ...]

    @property
    def target(self) -> Path:
        return self.root / self.name / self.version

    @property
    def unfinished(self) -> Path:
        return unfinished(self.target)

    def size(self) -> int:
        """Bytes of the files of records."""
        return sum(shard.origin.stat().st_size for shard in self.shards)

    def run(self) -> None:
        """Writes it; alone(target) must be held. Raises UserError for damaged files, OSError for a full disk."""
        work, note = self.unfinished, self.unfinished / SOURCE
        if work.exists() and not (note.exists() and note.read_text() == os.fspath(self.place)):
            shutil.rmtree(work)
        work.mkdir(exist_ok=True)
        note.write_text(os.fspath(self.place))
        self._convert()
        self._copy_info(work)
        note.unlink()
        writing.check(work)
        if self.target.is_dir():
            self.target.rmdir()  # refuse_taken has seen that it is empty
        work.rename(self.target)

    def _convert(self) -> None:
        """All files, some at once; whatever ends one of them, Ctrl-C too, ends all."""
        stop = threading.Event()
        total = sum(shard.records for shard in self.shards)
        with ThreadPoolExecutor(THREADS) as pool, terminal.bar(total, "  converted", unit=" records") as bar:
            waiting = [pool.submit(_convert_shard, shard, stop) for shard in self.shards]
            try:
                for shard, done in zip(self.shards, waiting, strict=True):
                    done.result()
                    bar.update(shard.records)
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)

    def _copy_info(self, work: Path) -> None:
        for file in sorted(self.place.iterdir()):
            if file.suffix in (".json", ".txt") or file.name == "LICENSE":
                shutil.copyfile(file, work / file.name)
        info = json.loads((self.place / locate.INFO).read_text())
        info.pop("alternativeFileFormats", None)
        info["fileFormat"] = prepared.FORMAT
        (work / locate.INFO).write_text(json.dumps(info, indent=2))


def plan(place: Path, data_dir: str | None) -> Conversion:
    """Looks at what lies in `place` and writes nothing.

    place:    the folder of a version, or of a data set that has one version.
    data_dir: the folder for converted data sets; None: beside the one that this lies in, with another ending.
    Raises UserError where it is not whole, not TFRecord, or would be written over something.
    """
    place = _version_folder(config_paths.absolute(place).resolve())
    builder = prepared.open_any(place)
    prepared.refuse_empty(builder)
    root, name, version = prepared.home(place)
    known = place == root / name / version
    form = prepared.formats(builder)
    # Opened anew, since that makes a builder name the other files.
    if form[0] != prepared.CONVERTIBLE or prepared.stored_so(prepared.open_any(place)):
        raise UserError(_not_convertible(form, place, root, name, known))
    if data_dir is None and not known:
        raise UserError(
            f"{place} does not lie as TFDS has it, in .../{name}/{version}.\n  change:   --data-dir=DIR, to write there"
        )
    out = config_paths.absolute(data_dir) if data_dir else locate.converted_root(root)
    target = out / name / version
    if target.resolve() == place.resolve():
        raise UserError(f"{target} is what is to be converted.\n  change:   {ELSEWHERE}")
    writing.refuse_inside(out)
    writing.refuse_taken(target, ELSEWHERE)
    return Conversion(place, out, name, version, tuple(_shards(builder, unfinished(target))))


def unfinished(target: Path) -> Path:
    """Where a conversion to `target` is written until it is whole."""
    return target.with_name(f"incomplete.converted_{target.name}")


def refuse_unfinished(target: Path, root: Path, change: str) -> None:
    """Raises UserError where a conversion to `target`, below `root`, has begun: what it has written is not thrown away.

    change: what else to do than to go on with it, or to delete it.
    """
    work = unfinished(target)
    if not work.exists():
        return
    note = work / SOURCE
    source = Path(note.read_text()) if note.exists() else None
    raise UserError(
        f"{work} is what an interrupted conversion has written so far.\n"
        + (f"  go on:    {locate.convert_command(source, root)}\n" if source else "")
        + f"  change:   delete that folder, or {change}"
    )


def _version_folder(place: Path) -> Path:
    if not place.is_dir():
        raise UserError(f"{place} is not a folder.\n  expected: {ORIGIN}\n  change:   {COMMAND} DIR")
    if (place / locate.INFO).exists() or tfds.core.Version.is_valid(place.name):
        return place
    found = locate.versions(place)
    if len(found) == 1:
        return found[0]
    given = ", ".join(folder.name for folder in found) if found else f"no {locate.INFO} in it"
    meant = f"{COMMAND} {shlex.quote(os.fspath(found[0]))}, for the newest" if found else f"{COMMAND} DIR"
    raise UserError(
        f"{place} is not the folder of one version.\n  expected: {ORIGIN}\n  given:    {given}\n  change:   {meant}"
    )


def _not_convertible(form: list[str], place: Path, root: Path, name: str, known: bool) -> str:
    if prepared.FORMAT in form:
        if not known:  # a run reads it under the names that its folders have
            name, root = place.parent.name, place.parents[1]
        used = f"{locate.flag('data.name', name)} {locate.flag('data.dir', root)}"
        if not tfds.core.Version.is_valid(place.name):
            used = (
                "move it into a folder called as its version, such as 1.0.0, and that into one called as the data set"
            )
        return f"{place} is stored as {prepared.FORMAT} already.\n  change:   {used}"
    out = locate.converted_root(root if known else place.parent)
    return (
        f"{place} is stored as {form[0]}.\n"
        f"  expected: {prepared.CONVERTIBLE}\n"
        f"{locate.by_tfds(name, out)}"
        f"  change:   {locate.flag('data.name', name)} {locate.flag('data.dir', out)}"
    )


def _shards(builder: tfds.core.DatasetBuilder, folder: Path) -> Iterator[Shard]:
    """Raises UserError where a file is missing. A file without records, which need not be there, is left out."""
    missing = []
    for split in builder.info.splits.values():
        named = split.filename_template.replace(filetype_suffix=prepared.FORMAT)
        targets = sorted(named.sharded_filepaths(split.num_shards))
        for origin, target, records in zip(split.filepaths, targets, split.shard_lengths, strict=True):
            if not records:
                continue
            if not Path(origin).is_file():
                missing.append(origin.name)
            yield Shard(Path(origin), folder / target.name, records)
    if missing:
        which = "is" if len(missing) == 1 else "are"
        raise UserError(
            f"{record_files.counted(len(missing))} of records {which} missing in {builder.data_dir}: {missing[0]}"
            f"{', ...' if len(missing) > 1 else ''}\n"
            "  change:   copy or prepare this data set again"
        )


def _convert_shard(shard: Shard, stop: threading.Event) -> None:
    """Writes under another name until it is whole. Stops in the middle, without a word, once `stop` is set."""
    if _is_done(shard):
        return
    part = shard.target.with_name(f"{shard.target.name}.part")
    writer = array_record_module.ArrayRecordWriter(os.fspath(part), GROUP)
    found = 0
    try:
        for record in tfrecord.records(shard.origin):
            if stop.is_set():
                return
            writer.write(record)
            found += 1
    finally:
        writer.close()
    if found != shard.records:
        raise tfrecord.DamagedFile(f"{shard.origin} has {found:,} of {shard.records:,} records")
    part.rename(shard.target)


def _is_done(shard: Shard) -> bool:
    """Whether an earlier start has written it, from the file as it is now."""
    with contextlib.suppress(OSError, *record_files.BROKEN):
        newer = shard.target.stat().st_mtime >= shard.origin.stat().st_mtime
        return newer and record_files.records_in(os.fspath(shard.target)) == shard.records
    return False
