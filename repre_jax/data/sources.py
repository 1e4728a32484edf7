"""Finds a prepared TFDS data set, or a folder of images, and gives random access to its records, without TensorFlow."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import crops, digits, folder, identity
from repre_jax.system import shipped

DEMO = "--config configs/moco_vit_s.py:digits --workdir runs/demo"
FOLDER = "folder:"


@dataclass(frozen=True)
class DataSet:
    """Splits with random access; a record is {'image': encoded bytes or an array, 'label': int if there are any, ...}.

    test: None where there is no such split. test_split: its name, in TFDS's syntax.
    classes: their number, None without labels. class_names: what they are called; numbers, where nobody knows more.
    mean, std: per channel, of pixels in 0..1, if they were measured when the data set was prepared.
    lacking: which classes of a split, that has others of train's, train lacks, as a sentence's beginning: a reason why
             there are no labels. None where there is no such split.
    contents: 'train', and 'test' if there is one -> what is known of its files or shards (data/identity.py).
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
    lacking: str | None = None
    contents: Mapping[str, identity.Parts] = field(default_factory=dict)

    def split(self, name: str) -> Records:
        """The records of 'train' or 'test'. Raises UserError where there is no such split."""
        records = {"train": self.train, "test": self.test}[name]
        if records is None:
            raise UserError(f"Data set {self.name} has no {name} split.\n  change:   --config.data.{name}_split=...")
        return records

    def identity(self) -> dict[str, str | int | None]:
        """What a continued run compares: name, version, sizes and digests of the contents, not the place on disk."""
        return {
            "name": self.name,
            "version": self.version,
            "train_records": len(self.train),
            "test_records": len(self.test) if self.test is not None else 0,
            **identity.digests(self.classes, self.class_names, self.contents),
        }


def open_dataset(
    name: str, data_dir: str | None = None, train_split: str = "train", test_split: str | None = None
) -> DataSet:
    """Opens the TFDS data set `name` ('digits', 'imagenet2012', 'imagenet_resized/64x64', 'cifar10:3.0.2' ...), or,
    as 'folder:PATH', a folder of images (data/folder.py).

    data_dir: the folder that holds data sets; None means $TFDS_DATA_DIR, else TFDS's own default.
    splits:   in TFDS's syntax, such as 'train' or 'train[:10%]'; test_split None means 'validation' where there is
              one (ImageNet's 'test' has no labels), else 'test', else none.

    'digits' is prepared on first use; any other must have been prepared as ArrayRecord.
    Raises UserError when it is missing, is stored in another format, or lacks the split or an image.
    """
    crops.set_up_process()
    if not name:
        raise UserError("data.name is empty.\n  expected: the name of a TFDS data set, folder:PATH, or digits")
    if name.startswith(FOLDER):
        return _open_folder(name, train_split, test_split)
    root = data_root(data_dir)
    if name == "digits":
        try:
            digits.prepare(os.fspath(root))
        except OSError as error:
            raise UserError(
                f"The digits could not be written to {root}: {error}.\n"
                "  change:   --config.data.dir=DIR or the variable TFDS_DATA_DIR, to a folder that you can write to"
            ) from None
    builder = _find(name, root)
    _check_format(builder, name)
    features = dict(builder.info.features)
    _check_features(features, name)
    decoders = {"image": tfds.decode.SkipDecoding()} if isinstance(features["image"], tfds.features.Image) else None
    label = features.get("label")
    label = label if isinstance(label, tfds.features.ClassLabel) else None
    parts = _open_splits(
        name,
        set(builder.info.splits),
        {"train": train_split, "test": test_split},
        lambda split: builder.as_data_source(split=split, decoders=decoders),
    )
    specs = {"train": train_split, "test": parts["test_split"]}
    return DataSet(
        name=name,
        version=str(builder.version),
        directory=os.fspath(builder.data_dir),
        classes=label.num_classes if label else None,
        class_names=tuple(label.names) if label and label.num_classes else None,
        contents=identity.of_shards(builder, specs),
        **parts,
        **_statistics(Path(builder.data_dir)),
    )


def data_root(data_dir: str | None) -> Path:
    """The folder that holds data sets, absolute."""
    default = tfds.core.constants.DATA_DIR or "~/tensorflow_datasets"  # TFDS takes an empty variable for a path
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or default).expanduser().absolute()


def _open_folder(name: str, train_split: str, test_split: str | None) -> DataSet:
    root = Path(name.removeprefix(FOLDER)).expanduser().absolute()
    found = folder.scan(root)

    def open_split(spec: str) -> folder.ImageFolder:
        split = spec.partition("[")[0]
        return found.splits[split].part(spec, split)

    parts = _open_splits(name, set(found.splits), {"train": train_split, "test": test_split}, open_split)
    labelled = all(part is None or part.labels for part in (parts["train"], parts["test"]))
    specs = {"train": train_split, "test": parts["test_split"]}
    return DataSet(
        name=name,
        version="as it lies there",
        directory=os.fspath(root),
        classes=len(found.classes) if found.classes and labelled else None,
        class_names=found.classes if found.classes and labelled else None,
        lacking=_lacking(found, list(specs.values())),
        contents=identity.of_folder(found, specs),
        **parts,
    )


def _lacking(found: folder.Folder, specs: Sequence[str | None]) -> str | None:
    for split in (spec.partition("[")[0] for spec in specs if spec):
        if names := [name or "(in no folder)" for name in found.unknown.get(split, ())]:
            return f"{split} has classes that train lacks: {identity.listed(names)}"
    return None


def _open_splits(
    name: str, known: set[str], wanted: dict[str, str | None], open_split: Callable[[str], Any]
) -> dict[str, Any]:
    """'train' and 'test', the latter found by itself when it is None, and None when there is none; 'test_split'."""
    usual = [split for split in ("validation", "test") if split in known]
    wanted = wanted | {"test": wanted["test"] or (usual[0] if usual else None)}
    parts: dict[str, Any] = dict.fromkeys(wanted)
    for key, split in wanted.items():
        if split is None:
            continue
        try:
            parts[key] = open_split(split)
        except (KeyError, ValueError, AssertionError) as error:
            raise UserError(
                f"Data set {name} has no split {split!r} ({_first_line(error)}).\n"
                f"  expected: one of {', '.join(sorted(known))}, or a part such as 'train[:90%]'\n"
                f"  change:   --config.data.{key}_split=..."
            ) from None
        if not len(parts[key]):
            raise UserError(f"Split {split!r} of data set {name} is empty.\n  change:   --config.data.{key}_split=...")
    return parts | {"test_split": wanted["test"]}


def _statistics(directory: Path) -> dict[str, Any]:
    file = directory / identity.METADATA
    found = json.loads(file.read_text()) if file.exists() else {}
    return {key: tuple(found[key]) for key in ("mean", "std") if key in found}


def _find(name: str, root: Path) -> tfds.core.DatasetBuilder:
    """The newest prepared version below root/name. `builder_from_directory` also opens copies made elsewhere."""
    name, _, wanted = name.partition(":")
    folders = sorted((root / name).glob("*/dataset_info.json")) if (root / name).is_dir() else []
    versions = {tfds.core.Version(file.parent.name): file.parent for file in folders if _is_version(file.parent.name)}
    if wanted and versions:
        found = ", ".join(str(version) for version in sorted(versions))
        versions = {version: folder for version, folder in versions.items() if str(version) == wanted}
        if not versions:
            raise UserError(
                f"Data set {name} is not there in version {wanted}: {root / name}.\n"
                f"  expected: one of {found}\n  change:   --config.data.name={name}, for the newest"
            )
    if not versions:
        raise UserError(_how_to_prepare(name, root))
    logging.set_verbosity(logging.ERROR)  # TFDS logs each opening as a warning-like line
    return tfds.builder_from_directory(versions[max(versions)])


def _is_version(text: str) -> bool:
    return tfds.core.Version.is_valid(text)


def _how_to_prepare(name: str, root: Path) -> str:
    if name == "imagenet2012":
        prepare = (
            "  fetch:    ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from https://image-net.org (free, but\n"
            "            with an account; 138 GB and 6.3 GB) into a folder DIR\n"
            f"  prepare:  python -m repre_jax.tools.prepare imagenet2012 --from=DIR --data-dir={root}\n"
        )
    else:
        prepare = (
            "  prepare:  pip install tensorflow   (preparing needs it, training does not)\n"
            f"            tfds build {name} --file_format=array_record --data_dir={root}\n"
            "  or:       --config.data.name=folder:PATH, for a folder of images as it is\n"
        )
    return (
        f"Data set {name} was not found: no prepared version in {root / name}.\n"
        f"{prepare}"
        f"  change:   --config.data.dir=... or the variable TFDS_DATA_DIR, if it lies elsewhere\n"
        f"  meanwhile, without any download:  {shipped.program()} {DEMO}"
    )


def _check_format(builder: tfds.core.DatasetBuilder, name: str) -> None:
    file_format = getattr(builder.info.file_format, "value", "an unknown format")
    if file_format != "array_record":
        root = Path(builder.data_dir).parents[len(Path(name.partition(":")[0]).parts)]
        place = Path(builder.data_dir).relative_to(root)
        raise UserError(
            f"Data set {name} in {builder.data_dir} is stored as {file_format}.\n"
            "  expected: array_record, which allows random access\n"
            "  convert:  pip install tensorflow   (converting needs it, training does not)\n"
            f"            tfds convert_format --out_file_format=array_record \\\n"
            f"                --dataset_version_dir={builder.data_dir} --out_dir={root}-array_record/{place}\n"
            f"  change:   --config.data.dir={root}-array_record"
        )


def _check_features(features: Mapping[str, tfds.features.FeatureConnector], name: str) -> None:
    image = features.get("image")
    array = isinstance(image, tfds.features.Tensor) and len(image.shape) == 3
    if not isinstance(image, tfds.features.Image) and not array:
        raise UserError(
            f"Data set {name} has the features {', '.join(features)}.\n"
            "  expected: one called 'image', an Image or a Tensor of three axes; 'label', if there is one, a ClassLabel"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
