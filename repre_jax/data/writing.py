"""Writing a version of a TFDS data set: one process at a time, never over what is there, and looked at afterwards."""

import contextlib
import fcntl
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from repre_jax.core import locks
from repre_jax.core.errors import UserError
from repre_jax.data import locate, prepared
from repre_jax.system import terminal


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Holds a lock beside `place` that dies with the process. Raises UserError where another process has it."""
    lock = place.with_name(f".{place.name}.lock")
    while True:
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                what = f"Another process is writing {place} at this moment."
                raise UserError(f"{what}\n  change:   wait until it has ended, or end it") from None
            if locks.is_removed(file):  # whoever had it removed it in between, and others may have the next
                continue
            try:
                yield
            finally:
                lock.unlink()
            return


@contextlib.contextmanager
def at(place: Path) -> Iterator[None]:
    """While entered, this process alone writes `place`, whose parent folder is made.

    Raises UserError when another process is writing there, or the system does not let this one.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with alone(place):
            yield
    except (OSError, RuntimeError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        free = gigabytes(shutil.disk_usage(place.parent).free) if place.parent.exists() else "nothing"
        raise UserError(
            f"{place} could not be written: {first}\n"
            f"  given:    {free} free\n"
            "  change:   --data-dir=DIR to another place"
        ) from None


def check_disk(place: Path, written: int, needed: int) -> None:
    """Says how much is to be written to `place`, needed on the way, and free, in bytes.

    Raises UserError where too little is.
    """
    free = free_bytes(place.parent)
    terminal.say(
        f"  disk        {gigabytes(written)} to be written to {place}; {gigabytes(needed)} are needed on the way,\n"
        f"              {gigabytes(free)} are free"
    )
    if needed > free:
        raise UserError(
            f"The disk is too small: {gigabytes(needed)} are needed.\n  change:   --data-dir=DIR on another"
        )


def free_bytes(folder: Path) -> int:
    """On the disk of a folder."""
    return shutil.disk_usage(folder).free


def gigabytes(size: int) -> str:
    """A number of bytes as it is shown."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def refuse_inside(root: Path) -> None:
    """Raises UserError where `root`, which is to hold data sets, lies in one of them."""
    for place in (root, *list(root.parents)[:3]):  # its version, configuration and name
        if (place / locate.INFO).exists() or locate.versions(place):
            raise UserError(
                f"{root} lies in {place}, which is a data set's own folder.\n"
                "  expected: a folder that holds data sets\n"
                "  change:   --data-dir=DIR, of main.py --config.data.dir=DIR, or the variable TFDS_DATA_DIR"
            )


def refuse_taken(place: Path, change: str) -> None:
    """Raises UserError where something lies in `place`, which TFDS would take for the data set whatever it is.

    change: what else to do than to delete it. An empty folder is nothing.
    """
    if place.is_dir():
        names = sorted(path.name for path in place.iterdir())
        if locate.INFO in names:
            raise UserError(f"{place} is there already.\n  change:   delete it first, or {change}")
        if names:
            raise UserError(f"{locate.unfinished(place)}, or {change}")
    elif place.exists() or place.is_symlink():
        raise UserError(f"{place} is there already, and is no folder.\n  change:   delete it first, or {change}")


def remove_interrupted(place: Path) -> None:
    """Removes what TFDS leaves beside `place` when it is killed, and says so; whoever calls writes there alone."""
    for left in place.parent.glob(f"incomplete.??????_{place.name}"):  # a conversion's is called otherwise, and goes on
        terminal.say(f"  Removing what an interrupted start left: {left}")
        shutil.rmtree(left)


def write(builder: tfds.core.DatasetBuilder) -> None:
    """Lets TFDS write a data set whose place nobody has taken, and looks at what it wrote.

    Raises UserError where that is not whole: TFDS reuses whatever folder it finds, in silence.
    """
    place = Path(builder.data_dir)
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()
    # TFDS speaks of a download, and makes a folder for it.
    with tempfile.TemporaryDirectory() as downloads, contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_dir=downloads)
    check(place)


def check(place: Path) -> None:
    """Raises UserError unless every file of the version in `place` opens, and has the records that its info names."""
    builder = prepared.open_any(place)
    wrong = prepared.faults(builder)
    if wrong or not any(split.num_examples for split in builder.info.splits.values()):
        lines = "".join(f"\n  {line}" for line in wrong or ["it has no records"])
        raise UserError(f"{place} was written, and is not whole:{lines}\n  change:   delete it, and try again")
