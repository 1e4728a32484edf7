"""Prepared data sets, free disk, and what the host gives to a run."""

import json
import os
import platform
import re
import resource
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from repre_jax.core import buckets
from repre_jax.system import kept_programs
from repre_jax.tools.checkup import Problem, Section, gigabytes

FREE = 10e9  # bytes of disk; one checkpoint of ViT-B with MoCo v3 and RePre takes 2.3 GB, and the newest two are kept
SHARED = 1e9  # bytes of /dev/shm; Docker gives 64 MB
READ, CONVERTIBLE = "array_record", "tfrecord"  # formats
NOT_READ = {  # whether it is convertible -> what is said of another format
    True: "which is not read here; main.py says how to convert it",
    False: f"which is neither read nor converted here; main.py says how to have {READ} of it",
}
VERSION = r"\d+\.\d+\.\d+"
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"  # TFDS's own
SPARE_FILES = 100  # open files beside a data set's


class DataSet(NamedTuple):
    """A prepared TFDS data set, from its dataset_info.json; shards: a split -> the number of records of each file."""

    name: str
    format: str
    shards: dict[str, list[int]]
    missing: int  # files
    fault: tuple[str, str] | None  # what else is wrong with it, and what to do


def data_sets(root: Path) -> tuple[list[DataSet], list[Problem]]:
    """The data sets prepared below `root`, and those whose dataset_info.json is missing or not readable."""
    found, problems = [], []
    for folder in sorted([*root.glob("*/*"), *root.glob("*/*/*")]):
        if re.fullmatch(VERSION, folder.name) and _is_half(folder):
            what = f"{folder} has no dataset_info.json: it is half a copy."
            problems.append(Problem(what, "copy it again, or delete this folder and prepare the data set again"))
    for file in sorted([*root.glob("*/*/dataset_info.json"), *root.glob("*/*/*/dataset_info.json")]):
        folder = file.parent
        if not re.fullmatch(VERSION, folder.name):
            continue
        try:
            info = json.loads(file.read_text())
            shards = {split["name"]: [int(n) for n in split.get("shardLengths", ())] for split in info["splits"]}
            stored = [info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", ())]
            form = READ if READ in stored else stored[0]
            missing = sum(_missing(folder, split, form) for split in info["splits"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(Problem(f"{file} cannot be read: {error}", f"delete {folder} and prepare it again"))
        else:
            name = os.fspath(folder.parent.relative_to(root))
            fault = None if missing else _fault(folder, f"{name}:{folder.name}")
            found.append(DataSet(f"{name} {folder.name}", form, shards, missing, fault))
    return found, problems


def _fault(place: Path, name: str) -> tuple[str, str] | None:
    """Why a run could not begin with the version in `place`, as one line, and what to do; None where it could.

    Of another format only what TFDS's own files beside the records tell.
    """
    from repre_jax.data import label_features, prepared  # not before tools/doctor.py has seen that it can be imported

    again = "copy or prepare this data set again"
    try:
        builder = prepared.open_any(place)
        if READ not in prepared.formats(builder):
            prepared.refuse_empty(builder)
            return None
        image = label_features.image_of(dict(builder.info.features), name)
        builder = prepared.open_version(place, name, image=image)
        prepared.statistics(place)
    except prepared.NotReadable as error:
        return str(error).splitlines()[0], " ".join(str(error).rpartition("change:")[2].split())
    if wrong := prepared.faults(builder)[: prepared.SHOWN]:
        return "; ".join(wrong), again
    if empty := [split.name for split in builder.info.splits.values() if not split.num_examples]:
        return f"no records in {', '.join(empty)}", f"{again}, or --config.data.train_split and test_split to others"
    return None


def _is_half(folder: Path) -> bool:
    """Whether something lies there, but no dataset_info.json."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return False
    return bool(names) and "dataset_info.json" not in names


def _missing(folder: Path, split: dict, form: str) -> int:
    """How many of the split's files that hold records are not there, if they have their usual names."""
    if split.get("filepathTemplate", TEMPLATE) != TEMPLATE:
        return 0
    wanted = sum(int(records) > 0 for records in split.get("shardLengths", ()))
    return max(0, wanted - len(list(folder.glob(f"*-{split['name']}.{form}-*"))))


def data(root: Path, origin: str, open_files: int) -> Section:
    """The folder of data sets and what is prepared there. Nothing need be written there if there is something to read.

    open_files: how many a process here may have open at most; a run raises its own limit.
    """
    found, problems = data_sets(root)
    rows = [("folder", f"{root}, from {origin}")]
    for each in found:
        sizes = ", ".join(f"{sum(counts):,} {split}" for split, counts in each.shards.items())
        readable = each.format == READ
        unread = "" if readable else f", {NOT_READ[each.format == CONVERTIBLE]}"
        rows.append((each.name, f"{sizes}; {each.format}{unread}"))
        if each.missing:
            files = sum(map(len, each.shards.values()))
            what = f"{each.missing:,} of the {files:,} files of {each.name} are missing in {root}."
            problems.append(Problem(what, "copy or prepare this data set again"))
        if each.fault:
            problems.append(Problem(f"{each.name} in {root}: {each.fault[0]}", each.fault[1]))
        most = max(map(len, each.shards.values()), default=0)
        if readable and most + SPARE_FILES > open_files >= 0:
            what = f"A split of {each.name} has {most:,} files, and each stays open once it was read from; this shell"
            enough = max(4096, most + SPARE_FILES)
            fix = f"ulimit -Hn {enough}, or docker run --ulimit nofile={enough}"
            problems.append(Problem(f"{what} allows {open_files:,} open files.", fix))
    if not found:
        rows.append(("prepared", "nothing; the first run on the digits prepares them"))
    space = disk(root, "TFDS_DATA_DIR, or main.py's --config.data.dir, to another folder")
    readable = any(each.format == READ and not each.missing and not each.fault for each in found)
    return Section([*rows, *space.rows], problems + ([] if readable else space.problems))


def disk(folder: Path, change: str) -> Section:
    """Free space where `folder` is or would be made, tried by a temporary file."""
    place = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
        free = shutil.disk_usage(place).free
    except OSError as error:
        what = f"{folder} cannot be written: {error.strerror}"
        return Section([("disk", what)], [Problem(f"{what}.", change)])
    rows = [("disk", f"{gigabytes(free)} free in {folder}{'' if place == folder else ', which is not there yet'}")]
    few = [Problem(f"Only {gigabytes(free)} are free in {folder}; {gigabytes(FREE)} are advised.", change)]
    return Section(rows, few if free < FREE else [])


def bucket(folder: Path) -> Section:
    """Whether a file can be written there."""
    try:
        buckets.check_writable(folder)
    except OSError as error:
        what = f"{folder} cannot be written: {error.strerror or 'there is no such bucket'}"
        return Section([("bucket", what)], [Problem(f"{what}.", "make it, or `gcloud auth application-default login`")])
    return Section([("bucket", f"{folder} can be written")], [])


def compiled() -> Section:
    """How much the compiled programs of earlier starts take."""
    try:
        folder = kept_programs.base()
    except RuntimeError:  # nobody knows the user's home
        return Section([("kept", "none: there is no home directory")], [])
    limit = f"at most {gigabytes(kept_programs.LIMIT)} are kept"
    return Section([("kept", f"{gigabytes(kept_programs.size(folder))} in {folder}; {limit}")], [])


def host(shared: int | None) -> Section:
    """shared: bytes of /dev/shm, through which Grain's workers hand over batches; None where there is none."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    soft, hard = ("unlimited" if n < 0 else f"{n:,}" for n in resource.getrlimit(resource.RLIMIT_NOFILE))
    rows = [
        ("platform", platform.platform()),
        ("cores", f"{cores} of {os.cpu_count()} for this process"),
        ("memory of the machine", gigabytes(memory)),
        ("/dev/shm", "none" if shared is None else gigabytes(shared)),
        ("open files", f"{soft} (ulimit -n), at most {hard}"),
    ]
    if shared is None or shared >= SHARED:
        return Section(rows, [])
    what = f"/dev/shm has {gigabytes(shared)}; workers hand over batches through it (--config.data.workers)."
    return Section(rows, [Problem(what, "docker run --shm-size=8g, or --config.data.workers=0")])
