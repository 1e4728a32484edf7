"""Which files below a folder are images, and in words what was passed over and why.

Nothing is left out without a word: whoever trains on a folder is to see at the start that a class is missing.
"""

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from repre_jax.core import passing, run_files

# JPEG has many names: browsers on Windows save .jfif.
JPEGS = (".jpg", ".jpeg", ".jfif", ".jpe", ".jif", ".pjpeg", ".pjp")
SUFFIXES = (*JPEGS, ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".npy")
# How the formats begin, for files without a suffix.
BEGINNINGS = (
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|GIF8[79]a|II\*\x00|MM\x00\*|P[2356]\s|\x93NUMPY|"
    rb"BM....\x00\x00\x00\x00"
)
OUR_PNG = f"tEXtSoftware\0{run_files.DRAWN_BY}".encode()  # stands in its first FIRST bytes
FIRST = 256
NAMED = 5  # kinds of files, at most, in a line
OF_A_RUN = (  # folders that a run keeps beside its config.json
    run_files.CHECKPOINTS,
    run_files.FEATURES,
    run_files.FIGURES,
    run_files.EXPORT,
    run_files.PREDICTIONS,
    run_files.TENSORBOARD,
)


@dataclass
class Listing:
    """What lies below a folder. files: paths of its images below it, folder by folder, each sorted. The rest is what is
    not among them: paths, absolute, of each kind."""

    files: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)  # folders that cannot be entered, or only in part
    runs: list[str] = field(default_factory=list)  # folders that hold a run
    drawn: list[str] = field(default_factory=list)  # figures that this project's tools have drawn
    again: list[str] = field(default_factory=list)  # links to a folder that was listed already
    special: list[str] = field(default_factory=list)  # pipes, sockets, devices
    others: list[str] = field(default_factory=list)  # files of other kinds
    hidden: list[str] = field(default_factory=list)  # hidden images, hidden folders
    broken: list[str] = field(default_factory=list)  # links to nothing; they count as files that cannot be read

    def notes(self) -> list[str]:
        """In one line each, what was passed over and why."""
        kinds = Counter(_suffix(path.rpartition(os.sep)[2]) or "without a suffix" for path in self.others)
        named = ", ".join(f"{count:,} {shown(kind)}" for kind, count in kinds.most_common(NAMED))
        named += ", ..." if len(kinds) > NAMED else ""
        reasons = (
            (self.closed, "folder", "cannot be entered or read by this user", "images in it are missing"),
            (self.runs, "folder", "holds a run", "its pictures are no data"),
            (self.drawn, "file", "was drawn by repre_jax.tools.figures", ""),
            (self.again, "link", "leads to a folder that is listed already", ""),
            (self.special, "entry", "is a pipe, a socket or a device", ""),
            (self.others, "file", "is of no format that is read", named),
            (self.hidden, "entry", "is hidden", ""),
        )
        lines = [line("Passed over", *reason) for reason in reasons if reason[0]]
        if self.broken:
            lines.append(line("Not readable", self.broken, "link", "leads to nothing", ""))
        if odd := [file for file in self.files if shown(file) != file]:
            lines.append(line("Names", odd, "file name", "is not UTF-8", "named with \\x.. in place of such bytes"))
        return lines


def line(what: str, paths: Sequence[str], one: str, why: str, more: str) -> str:
    """'Passed over: 2 folders: cannot be entered by this user: /photos/b, ...'"""
    plural = one.removesuffix("y") + "ies" if one.endswith("y") else one + "s"
    return (
        f"{what}: {len(paths):,} {one if len(paths) == 1 else plural}, which {why if len(paths) == 1 else _plural(why)}"
        f"{f' ({more})' if more else ''}: {shown(paths[0])}{', ...' if len(paths) > 1 else ''}"
    )


def _plural(why: str) -> str:
    verb, _, rest = why.partition(" ")
    return f"{ {'is': 'are', 'was': 'were', 'leads': 'lead', 'holds': 'hold'}.get(verb, verb) } {rest}"


def shown(name: str | os.PathLike[str]) -> str:
    """A file's name as text that can be printed and stored: bytes that are not UTF-8 become \\xe9 and the like."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def list_images(folder: Path) -> Listing:
    """The images below a folder, itself one in which a run may lie: then all but the run's own folders.

    Links are followed, to each folder once. Nothing is opened but files without a suffix, whose first bytes say whether
    they are images.
    """
    found = Listing()
    _list(folder, "", found, set())
    return found


def _list(folder: Path, below: str, found: Listing, visited: set[str]) -> None:
    """Adds what lies in folder/below, and below that."""
    place = _joined(os.fspath(folder), below)
    real = os.path.realpath(place)
    if real in visited:
        found.again.append(place)
        return
    visited.add(real)
    try:
        with os.scandir(place) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        passing.check(error, f"{shown(place)} cannot be read")
        found.closed.append(place)
        return
    # Its names may be read, and its files not.
    if not os.access(place, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        found.closed.append(place)
        return
    names = {entry.name for entry in entries}
    if run_files.is_run(names):
        if below:
            found.runs.append(place)
            return
        found.runs += [_joined(place, name) for name in OF_A_RUN if name in names]
        entries = [entry for entry in entries if entry.name not in OF_A_RUN]
    folders = []
    for entry in entries:
        if is_folder(entry):
            folders.append(entry)
        else:
            _add_file(entry, _joined(below, entry.name), found)
    for entry in folders:
        if entry.name.startswith("."):
            found.hidden.append(entry.path)
        else:
            _list(folder, _joined(below, entry.name), found, visited)


def _joined(place: str, name: str) -> str:
    """A path; pathlib takes seconds for a million of them."""
    return f"{place}{os.sep}{name}" if place and name else place or name


def _suffix(name: str) -> str:
    """'.jpg' of 'A.JPG'."""
    bare, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if bare and dot else ""


def is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        passing.check(error, f"{shown(entry.path)} cannot be read")
        return False


def _add_file(entry: os.DirEntry, path: str, found: Listing) -> None:
    suffix = _suffix(entry.name)
    image = suffix in SUFFIXES
    if entry.name.startswith("."):
        if entry.name.lower().endswith(SUFFIXES):
            found.hidden.append(entry.path)
        return
    try:
        regular = entry.is_file() or stat.S_ISREG(entry.stat().st_mode)
    except OSError as error:
        passing.check(error, f"{shown(entry.path)} cannot be read")
        if error.errno in (errno.EACCES, errno.EPERM):
            found.closed.append(entry.path)
        else:  # a link to nothing or to itself
            found.broken.append(entry.path)
            found.files += [path] if image else []  # whoever reads it says so
        return
    if not regular:
        found.special.append(entry.path)
    elif _is_drawn(entry):
        found.drawn.append(entry.path)
    elif image or (not suffix and _begins_as_image(entry.path)):
        found.files.append(path)
    else:
        found.others.append(entry.path)


def loose_images(folder: Path) -> list[str]:
    """Paths of the images that lie directly in the folder, by their names."""
    try:
        with os.scandir(folder) as listed:
            return sorted(
                e.path
                for e in listed
                if _suffix(e.name) in SUFFIXES and e.name[0] != "." and not is_folder(e) and not _is_drawn(e)
            )
    except OSError as error:
        passing.check(error, f"{shown(folder)} cannot be read")
        return []


def _is_drawn(entry: os.DirEntry) -> bool:
    """Whether it is a figure of this project's, by its name and then by what stands in it: of a million files almost
    none is opened."""
    return bool(run_files.DRAWN.fullmatch(entry.name)) and OUR_PNG in _beginning(entry.path, FIRST)


def _beginning(path: str, size: int) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except OSError as error:
        passing.check(error, f"{shown(path)} cannot be read")
        return b""


def _begins_as_image(path: str) -> bool:
    """Whether the bytes at the beginning of a file are those of one of the formats."""
    return re.match(BEGINNINGS, _beginning(path, 16), re.DOTALL) is not None
