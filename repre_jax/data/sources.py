"""Finds a prepared TFDS data set and gives random access to its records, without TensorFlow."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from repre_jax.core.errors import UserError
from repre_jax.data import digits

DEMO = "python main.py --config configs/moco_vit_s.py:digits --workdir runs/demo"


@dataclass(frozen=True)
class DataSet:
    """Two splits with random access; a record is {'image': encoded bytes, 'label': int, ...}."""

    name: str
    version: str
    directory: str
    train: Sequence[Mapping]
    test: Sequence[Mapping]
    classes: int

    def identity(self) -> dict[str, str | int]:
        """What a continued run compares: name, version and sizes, not the place on disk."""
        return {
            "name": self.name,
            "version": self.version,
            "train_records": len(self.train),
            "test_records": len(self.test),
        }


def open_dataset(
    name: str, data_dir: str | None = None, train_split: str = "train", test_split: str | None = None
) -> DataSet:
    """Opens the TFDS data set `name` ('digits', 'imagenet2012', 'imagenet_resized/64x64', 'cifar10:3.0.2' ...).

    data_dir: the folder that holds data sets; None means $TFDS_DATA_DIR, else TFDS's own default.
    splits:   in TFDS's syntax, such as 'train' or 'train[:10%]'; test_split None means 'validation' where there is
              one (ImageNet's 'test' has no labels), else 'test'.

    'digits' is prepared on first use; any other must have been prepared as ArrayRecord.
    Raises UserError when it is missing, is stored in another format, or lacks the split or an image and a label.
    """
    if not name:
        raise UserError("data.name is empty.\n  expected: the name of a TFDS data set, or digits")
    default = tfds.core.constants.DATA_DIR or "~/tensorflow_datasets"  # TFDS takes an empty variable for a path
    root = epath.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or default).expanduser().absolute()
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
    _check_features(builder, name)
    decoders = {"image": tfds.decode.SkipDecoding()}
    test_split = test_split or ("validation" if "validation" in builder.info.splits else "test")
    parts = {}
    for key, split in (("train_split", train_split), ("test_split", test_split)):
        try:
            parts[key] = builder.as_data_source(split=split, decoders=decoders)
        except (KeyError, ValueError) as error:
            raise UserError(
                f"Data set {name} has no split {split!r} ({_first_line(error)}).\n"
                f"  expected: one of {', '.join(sorted(builder.info.splits))}, or a part such as 'train[:90%]'\n"
                f"  change:   --config.data.{key}=..."
            ) from None
    return DataSet(
        name=name,
        version=str(builder.version),
        directory=os.fspath(builder.data_dir),
        train=parts["train_split"],
        test=parts["test_split"],
        classes=builder.info.features["label"].num_classes,
    )


def _find(name: str, root: epath.Path) -> tfds.core.DatasetBuilder:
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


def _how_to_prepare(name: str, root: epath.Path) -> str:
    fetch = (
        "  fetch:    ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from https://image-net.org (free, with an\n"
        "            account; 138 GB and 6.3 GB) into a folder DIR\n"
        if name == "imagenet2012"
        else ""
    )
    manual = " --manual_dir=DIR" if name == "imagenet2012" else ""
    return (
        f"Data set {name} was not found: no prepared version in {root / name}.\n"
        f"{fetch}"
        f"  prepare:  pip install tensorflow   (preparing needs it, training does not; best in another environment)\n"
        f"            tfds build {name} --file_format=array_record --data_dir={root}{manual}\n"
        f"  change:   --config.data.dir=... or the variable TFDS_DATA_DIR, if it lies elsewhere\n"
        f"  meanwhile, without any download:  {DEMO}"
    )


def _check_format(builder: tfds.core.DatasetBuilder, name: str) -> None:
    file_format = getattr(builder.info.file_format, "value", "an unknown format")
    if file_format != "array_record":
        raise UserError(
            f"Data set {name} in {builder.data_dir} is stored as {file_format}.\n"
            "  expected: array_record, which allows random access\n"
            f"  prepare:  tfds build {name} --file_format=array_record, into another --data_dir"
        )


def _check_features(builder: tfds.core.DatasetBuilder, name: str) -> None:
    features = dict(builder.info.features)
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise UserError(
            f"Data set {name} has the features {', '.join(features)}.\n"
            "  expected: one called 'image' and a class called 'label'"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
