"""Writing an embedded data set on its first use: by one process, whoever else waits for it, and in a line or two."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path

import absl.logging
import tensorflow_datasets as tfds

from repre_jax.data import locate, writing
from repre_jax.system import terminal


def prepare(root: Path, name: str, version: str, made_of: str, builder: Callable[[], tfds.core.DatasetBuilder]) -> bool:
    """Writes `name`, such as 'digits' or 'scenes/dense', in `version` below `root` unless it is there already.

    Returns whether it wrote.

    made_of: completes 'Writing ...' for people. builder: called only where something is to be written.
    Raises UserError where something else lies in its place, and OSError where nothing can be written.
    """
    tfds.disable_progress_bar()
    place = root / name / version
    if (place / locate.INFO).exists():
        return False
    writing.refuse_inside(root)
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{name.replace('/', '-')}.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)  # also between hosts, where the file system knows locks
        if (place / locate.INFO).exists():  # another process was faster
            return False
        writing.refuse_taken(place, "--config.data.dir=DIR to another folder")
        with _hushed():
            made = builder()
            terminal.say(f"Writing {made_of} to {place}.")
            writing.remove_interrupted(place)
            writing.write(made)
    return True


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without TFDS's warnings, which would be of a data set that is not there yet."""
    before = absl.logging.get_verbosity()
    absl.logging.set_verbosity(min(before, absl.logging.ERROR))  # the lower, the less is said
    try:
        yield
    finally:
        absl.logging.set_verbosity(before)
