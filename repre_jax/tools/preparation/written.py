"""What all data sets have in common that `prepare` writes: one process, enough disk, no TensorFlow, and what to type
next."""

import os
import shlex
import types
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import shuffle

from repre_jax.core.errors import UserError
from repre_jax.data import conversion, reading, writing
from repre_jax.data.coco import builder as coco
from repre_jax.system import shipped

IN_MEMORY = 1000 << 20  # bytes that TFDS shuffles in memory; more goes through temporary files
ELSEWHERE = conversion.ELSEWHERE
SPARE = 0.05  # of what is written: keys and the records' frame


def refuse_taken(root: Path, name: str, version: str, change: str = ELSEWHERE) -> None:
    """Raises UserError where data set `name` cannot be written below `root`: within another data set, or where there is
    something already, or half of it. change: what else to do than to delete it."""
    place = root / name / version
    writing.refuse_inside(root)
    writing.refuse_taken(place, change)
    conversion.refuse_unfinished(place, root, change)


def own_name(given: str | None) -> str:
    """The name of a data set of one's own. Raises UserError for one that TFDS would not take, or that is taken."""
    name = given or ""
    if not name.isidentifier() or not name.islower():
        raise UserError(f"--name is {name!r}.\n  expected: small letters, digits and _, as in --name=my_photos")
    taken = ("digits", "scenes", coco.NAME, *tfds.list_builders(with_community_datasets=False))
    if name in taken:
        raise UserError(f"--name is {name!r}, which is another data set's.\n  change:   --name=my_{name}")
    return name


def place(root: Path) -> dict[str, Any]:
    """A builder's settings that put it below `root`, the folder that holds data sets."""
    return {"data_dir": os.fspath(root), "file_format": "array_record"}


def write(builder: tfds.core.DatasetBuilder, size: int, reader: reading.Reader) -> None:
    """Lets TFDS write a data set of so many bytes, alone, and says what `reader` left out.

    Raises UserError where it cannot be written.
    """
    at = Path(builder.data_dir)
    with writing.at(at):
        _write_alone(builder, at, size)
    for line in reader.unreadable:
        print(f"  left out    {line}")


def _write_alone(builder: tfds.core.DatasetBuilder, place: Path, size: int) -> None:
    conversion.refuse_unfinished(place, Path(builder.data_dir_root), ELSEWHERE)  # of another process, meanwhile
    writing.remove_interrupted(place)
    written = int(size * (1 + SPARE))
    writing.check_disk(place, written, written + (written if size > IN_MEMORY else 0))
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()  # the reader has its own
    _shuffle_without_tensorflow()
    writing.write(builder)


def _shuffle_without_tensorflow() -> None:
    """TFDS (4.9, shuffle.py) shuffles what is larger than IN_MEMORY through a thousand files, which it opens by
    TensorFlow's functions; here by Python's own."""
    files = types.SimpleNamespace(GFile=open, exists=os.path.exists, remove=os.remove)
    shuffle.tf = types.SimpleNamespace(
        io=types.SimpleNamespace(gfile=files), errors=types.SimpleNamespace(ResourceExhaustedError=())
    )


def command(root: Path, config: str = "configs/moco_vit_s.py", **settings: Any) -> str:
    """The command that trains on what was written."""
    keys = {"data.dir": root, **settings}
    flags = [f"--config.{key}={value}" for key, value in keys.items()]
    return shlex.join([*shipped.program().split(), "--config", config, *flags])
