"""Finds a prepared TFDS data set, or a folder of images, and gives random access to its records, without TensorFlow."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from repre_jax.core import config_paths
from repre_jax.core.config_paths import FOLDER
from repre_jax.core.errors import UserError, meant
from repre_jax.core.types import Records
from repre_jax.data import crops, deep, first_use, folder, identity, prepared, record_files, split_syntax
from repre_jax.data.label_classes import Classes
from repre_jax.system import terminal


@dataclass(frozen=True)
class DataSet:
    """Splits with random access; a record is {'image': encoded bytes or an array, 'label': int if there are any, ...}.

    test: None where there is no such split. test_split: its name, in TFDS's syntax.
    classes: their number, None without labels. class_names: what they are called; numbers, where nobody knows more.
    mean, std: per channel, of pixels in 0..1, if they were measured when the data set was prepared.
    value_range: of images of more than 8 bits, as it was asked for or measured; see data/deep.py.
    measured_range: as it was measured when the data set was prepared, whatever was asked for.
    objects: what the kinds of a record's objects are called, by the number that their annotations give; {} unknown.
    lacking: which classes of a split, that has others of train's, train lacks, as a sentence's beginning: a reason why
             there are no labels. None where there is no such split.
    contents: 'train', and 'test' if there is one -> what is known of its files or shards (data/identity.py).
    label_classes: of label maps: the same classes with their colours and stored values.
    """

    name: str
    version: str
    directory: str
    train: Records
    test: Records | None
    classes: int | None
    test_split: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None
    value_range: deep.Ranges | None = None
    measured_range: deep.Ranges | None = None
    objects: Mapping[int, str] = field(default_factory=dict)
    lacking: str | None = None
    contents: Mapping[str, identity.Parts] = field(default_factory=dict)
    label_classes: Classes | None = None

    def split(self, name: str) -> Records:
        """The records of 'train' or 'test'. Raises UserError where there is no such split."""
        records = {"train": self.train, "test": self.test}[name]
        if records is None:
            raise UserError(f"Data set {self.name} has no {name} split.\n  change:   --config.data.{name}_split=...")
        return records

    def identity(self) -> dict[str, str | int | list[list[float]] | None]:
        """What a continued run compares: name, version, sizes, digests of the contents and what of 16 bits is seen, not
        the place on disk; as JSON gives it back."""
        return {
            "name": self.name,
            "version": self.version,
            "train_records": len(self.train),
            "test_records": len(self.test) if self.test is not None else 0,
            **identity.digests(self.classes, self.class_names, self.contents),
            "value_range": None if self.value_range is None else [list(pair) for pair in self.value_range],
        }


def open_dataset(
    name: str,
    data_dir: str | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    value_range: deep.Ranges | None = None,
) -> DataSet:
    """Opens the TFDS data set `name` ('digits', 'scenes/objects', 'imagenet2012', 'imagenet_resized/64x64',
    'cifar10:3.0.2' ...), or, as 'folder:PATH', a folder of images (data/folder.py).

    data_dir: the folder that holds data sets; None means $TFDS_DATA_DIR, else TFDS's own default.
    splits:   in TFDS's syntax, such as 'train' or 'train[:10%]'; test_split None means 'validation' where there is
              one (ImageNet's 'test' has no labels), else 'test', else none.
    value_range: of images of more than 8 bits; None: as `prepare` measured it, else the upper 8 of 16 bits are kept.

    'digits' and 'scenes/...' are prepared on first use; any other must have been prepared as ArrayRecord.
    Raises UserError when it is missing, not whole, stored in another format, or lacks the split or an image.
    """
    crops.set_up_process()
    if not name:
        raise UserError(
            "data.name is empty.\n"
            "  expected: the name of a TFDS data set, folder:PATH, digits, or scenes/objects, /dense or /unlabelled\n"
            "  change:   --config.data.name=digits, or another one"
        )
    if name.startswith(FOLDER):
        return _open_folder(name, train_split, test_split, value_range)
    root = data_root(data_dir)
    embedded = first_use.prepare(name, root)

    def read(place: Path) -> DataSet:
        return _open_version(place, name, train_split, test_split, value_range)

    dataset = prepared.newest_readable(name, root, read)
    if dataset.classes and not embedded and not (Path(dataset.directory) / prepared.LABELS).exists():
        terminal.say(
            f"Note: {name} has no {prepared.LABELS}, so that its classes are called 0 to {dataset.classes - 1}."
        )
    return dataset


def _open_version(
    place: Path, name: str, train_split: str, test_split: str | None, value_range: deep.Ranges | None
) -> DataSet:
    measured = prepared.statistics(place)
    of_all = measured.pop("value_range", None)
    ranges = value_range or of_all
    builder = prepared.open_version(place, name, ranged=ranges is not None)
    label = prepared.class_label(builder)
    parts = open_splits(
        name,
        {split.name: split.num_examples for split in builder.info.splits.values()},
        {"train": train_split, "test": test_split},
        lambda split: deep.ranged(prepared.open_split(builder, split, name), ranges),
    )
    specs = {"train": train_split, "test": parts["test_split"]}
    return DataSet(
        name=name,
        version=str(builder.version),
        directory=os.fspath(builder.data_dir),
        classes=label.num_classes if label else None,
        class_names=tuple(label.names) if label and label.num_classes else None,
        objects=prepared.kinds_of_objects(builder),
        value_range=ranges,
        measured_range=of_all,
        contents=identity.of_shards(builder, specs),
        **parts,
        **measured,
    )


def share_records(first: str, second: str) -> bool:
    """Whether two specs of splits, in TFDS's syntax, name a split of which one takes all: 'train+test' and 'test[:9]'.

    Two parts of one split are compared by nobody here: they may well be disjoint.
    """
    parts = [dict(piece.strip().partition("[")[::2] for piece in spec.split("+")) for spec in (first, second)]
    if "all" in parts[0] or "all" in parts[1]:
        return True
    return any(not parts[0][name] or not parts[1][name] for name in parts[0].keys() & parts[1].keys())


def data_root(data_dir: str | None) -> Path:
    """The folder that holds data sets, absolute. Raises UserError where that is nobody's home, or in a bucket."""
    named = data_dir or os.environ.get("TFDS_DATA_DIR")
    if named:
        return config_paths.local(named)
    try:
        # TFDS takes an empty variable for a path
        return config_paths.absolute(tfds.core.constants.DATA_DIR or "~/tensorflow_datasets")
    except UserError:
        raise UserError(
            "Data sets lie in the home folder where nobody says otherwise, and nobody knows that of this user.\n"
            "  change:   the variable TFDS_DATA_DIR to a folder; or --config.data.dir=DIR, of the tools --data-dir=DIR"
        ) from None


def _beside(path: Path) -> list[str]:
    """Names of the folders beside it; none where their folder is not there or cannot be entered."""
    with contextlib.suppress(OSError):
        return [other.name for other in path.parent.iterdir() if other.is_dir()]
    return []


def _open_folder(name: str, train_split: str, test_split: str | None, value_range: deep.Ranges | None) -> DataSet:
    config_paths.refuse_nothing("data.name", name)
    root = config_paths.absolute(name.removeprefix(FOLDER))
    if not root.exists():
        raise UserError(
            f"{root}, the folder of images, is not there.{meant(root.name, _beside(root))}\n"
            "  expected: a folder; the path that a run has stored is where its images lay when it began\n"
            "  change:   --config.data.name=folder:PATH, to where they lie now"
        )
    found = folder.scan(root)
    for note in found.notes:
        terminal.warn(f"  {note}")

    def open_split(spec: str) -> folder.ImageFolder:
        return dataclasses.replace(split_syntax.take(found.splits, spec), value_range=deep.carried(value_range))

    parts = open_splits(
        name,
        {split: len(images) for split, images in found.splits.items()},
        {"train": train_split, "test": test_split},
        open_split,
    )
    labelled = all(part is None or part.labels for part in (parts["train"], parts["test"]))
    specs = {"train": train_split, "test": parts["test_split"]}
    return DataSet(
        name=name,
        version="as it lies there",
        directory=os.fspath(root),
        classes=len(found.classes) if found.classes and labelled else None,
        class_names=found.classes if found.classes and labelled else None,
        value_range=value_range,
        lacking=_lacking(found, list(specs.values())),
        contents=identity.of_folder(found, specs),
        **parts,
    )


def _lacking(found: folder.Folder, specs: Sequence[str | None]) -> str | None:
    for split in (split for spec in specs if spec for split in split_syntax.named(found.splits, spec)):
        if names := [name or "(in no folder)" for name in found.unknown.get(split, ())]:
            return f"{split} has classes that train lacks: {identity.listed(names)}"
    return None


def open_splits(
    name: str, known: Mapping[str, int], wanted: dict[str, str | None], open_split: Callable[[str], Any]
) -> dict[str, Any]:
    """'train' and 'test', the latter found by itself when it is None, and None when there is none; 'test_split'.

    known: the number of records of each split.
    """
    usual = [split for split in ("validation", "test") if split in known]
    wanted = wanted | {"test": wanted["test"] or (usual[0] if usual else None)}
    parts: dict[str, Any] = dict.fromkeys(wanted)
    some = ", ".join(sorted(split for split, records in known.items() if records))
    for key, split in wanted.items():
        if split is None:
            continue
        expected = (
            f"  expected: one of {some}, or a part such as 'train[:90%]'\n  change:   --config.data.{key}_split=..."
        )
        try:
            parts[key] = open_split(split)
        except (KeyError, ValueError, AssertionError) as error:
            raise UserError(
                f"Data set {name} has no split {split!r} ({record_files.first_line(error)}).\n{expected}"
            ) from None
        if not len(parts[key]):
            raise UserError(f"Split {split!r} of data set {name} is empty.\n{expected}")
    return parts | {"test_split": wanted["test"]}
