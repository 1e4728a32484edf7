"""Opens one prepared version of a TFDS data set, and says by name what of it cannot be read."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from repre_jax.core.errors import UserError
from repre_jax.data import locate, record_files
from repre_jax.data.record_files import RecordFiles

METADATA = "metadata.json"  # TFDS's; `prepare folder` keeps the pixels' mean and std in it
FORMAT, CONVERTIBLE = "array_record", "tfrecord"
LABELS = "label.labels.txt"  # TFDS's: names of the classes, where they have some
SHOWN = 5  # files in a message
DTYPES = (np.uint8, np.uint16)  # of an Image; TFDS stores floats as their bytes, which would pass for colours


class NotReadable(UserError):
    """A version of a data set that is there, but not whole, or not in a form that is read here."""


def newest_readable(name: str, root: Path, read: Callable[[Path], Any], *, objects: bool = False) -> Any:
    """What `read` makes of the newest version of `name` below `root`. objects: see locate.version_folders.

    Raises its NotReadable, with the newest version that can be read instead, if there is one.
    """
    newest, *older = locate.version_folders(name, root, objects=objects)
    try:
        return read(newest)
    except NotReadable as error:
        for folder in older:
            try:
                read(folder)
            except UserError:
                continue
            named = locate.flag("data.name", f"{name.partition(':')[0]}:{folder.name}")
            raise NotReadable(f"{error}\n  or:       {named}, an older version, which can be read") from None
        raise


def open_version(place: Path, name: str, ranged: bool = False, image: str = "image") -> tfds.core.DatasetBuilder:
    """The builder of the version in `place`, whose images and labels are in a form that is read here.

    name: what the data set is called in messages. ranged: whether a range of values is given, by which arrays of any
    numbers can be read. image: the feature of the images. Raises NotReadable.
    """
    builder = open_any(place)
    refuse_empty(builder)
    if FORMAT not in formats(builder):
        raise NotReadable(_other_format(builder, place, name))
    _read_array_record(builder)
    _check_features(dict(builder.info.features), name, ranged, image)
    file, classes = place / LABELS, class_label(builder)
    if classes and classes.num_classes and file.exists():
        names = sum(bool(line.strip()) for line in _read_text(file).split("\n"))
        if names != classes.num_classes:
            raise NotReadable(_damaged(place, f"{file} has {names:,} of {classes.num_classes:,} names"))
    return builder


def class_label(builder: tfds.core.DatasetBuilder) -> tfds.features.ClassLabel | None:
    """The feature of the labels, where there is one."""
    label = dict(builder.info.features).get("label")
    return label if isinstance(label, tfds.features.ClassLabel) else None


def kinds_of_objects(builder: tfds.core.DatasetBuilder) -> dict[int, str]:
    """Names of the objects' kinds, by the number that annotations give: of the feature objects/label, as TFDS's own
    detection data sets have it, or the categories of metadata.json, as scenes/dense has them; {} of other data sets."""
    objects = dict(builder.info.features).get("objects")
    label = dict(objects.feature).get("label") if isinstance(objects, tfds.features.Sequence) else None
    if isinstance(label, tfds.features.ClassLabel):
        return dict(enumerate(label.names))
    try:
        return {int(each["id"]): str(each["name"]) for each in builder.info.metadata["categories"]}
    except (KeyError, TypeError, ValueError):
        return {}


def refuse_empty(builder: tfds.core.DatasetBuilder) -> None:
    """Raises NotReadable for a version that has no split with a record."""
    if not any(split.num_examples for split in builder.info.splits.values()):
        place = Path(builder.data_dir)
        raise NotReadable(_damaged(place, f"{place / locate.INFO} names no split that has records"))


def open_any(place: Path) -> tfds.core.DatasetBuilder:
    """The same for any format and features. Raises NotReadable where a file that tells of them is not whole."""
    for name in (locate.INFO, locate.FEATURES):
        if not isinstance(_read_json(place / name), dict):
            raise NotReadable(_damaged(place, f"{place / name} is not TFDS's"))
    logging.set_verbosity(logging.ERROR)  # TFDS logs each opening as a warning-like line
    try:
        builder = tfds.builder_from_directory(place)
        dict(builder.info.features)
    except Exception as error:  # whatever TFDS raises where a key is missing or has another type
        text = f"{place} cannot be opened by TFDS: {record_files.first_line(error)}"
        raise NotReadable(_damaged(place, text)) from None
    return builder


def formats(builder: tfds.core.DatasetBuilder) -> list[str]:
    """In which formats a version's records are stored, its main one first."""
    main = getattr(builder.info.file_format, "value", "an unknown format")
    return [main, *(each.value for each in builder.info.alternative_file_formats)]


def _read_array_record(builder: tfds.core.DatasetBuilder) -> None:
    """Makes it name the ArrayRecord files that `tfds convert_format` has put beside others."""
    if formats(builder)[0] != FORMAT:
        builder.info.set_file_format(FORMAT, override=True, override_if_initialized=True)


def open_split(
    builder: tfds.core.DatasetBuilder, split: str, name: str, encoded: Iterable[str] = ("image",)
) -> RecordFiles:
    """The records of `split`, in TFDS's syntax, images as encoded bytes; each file was opened once, to see it is whole.

    name: what the data set is called by whoever opens it. encoded: features that are left as bytes, if they are images.
    A split without records gives none.
    Raises NotReadable, and what TFDS raises for a split that is not there.
    """
    instructions = builder.info.splits[split].file_instructions
    if not instructions:  # TFDS makes no source of no files
        return RecordFiles((), ())
    if wrong := record_files.faults(instructions):
        place = Path(builder.data_dir)
        lines = "".join(f"\n  {line}" for line in wrong[:SHOWN])
        more = f"\n  and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        what = f"{record_files.counted(len(wrong))} of records in {place} cannot be read:{lines}{more}"
        if _read_json(place / locate.INFO).get("fileFormat") == CONVERTIBLE:  # which lie beside these, and may be whole
            raise NotReadable(f"{what}\n{_by_converting(place, name)}")
        raise NotReadable(_damaged(place, what, end=""))
    features = dict(builder.info.features)
    skipped = {key: tfds.decode.SkipDecoding() for key in encoded if isinstance(features[key], tfds.features.Image)}
    taken = tuple((Path(each.filename).name, each.take) for each in instructions)
    return RecordFiles(builder.as_data_source(split=split, decoders=skipped or None), taken)


def statistics(place: Path) -> dict[str, Any]:
    """'mean' and 'std', a tuple of floats per channel, and 'value_range' (data/deep.py), as far as `prepare folder` has
    measured them. Raises NotReadable."""
    file = place / METADATA
    found = _read_json(file) if file.exists() else {}
    try:
        known: dict[str, Any] = {key: tuple(map(float, found[key])) for key in ("mean", "std") if found.get(key)}
        if found.get("value_range"):
            known["value_range"] = tuple((float(low), float(high)) for low, high in found["value_range"])
        return known
    except (TypeError, ValueError, AttributeError):
        raise NotReadable(_damaged(place, f"{file} has no numbers for mean, std and value_range")) from None


def faults(builder: tfds.core.DatasetBuilder) -> list[str]:
    """What is wrong with the files of records of all splits, one line each."""
    return record_files.faults([each for split in builder.info.splits.values() for each in split.file_instructions])


def stored_so(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether its records can be read one by one: all of them lie there as ArrayRecord, alone or beside others."""
    if FORMAT not in formats(builder):
        return False
    _read_array_record(builder)
    return not faults(builder)


def home(place: Path) -> tuple[Path, str, str]:
    """As locate.home. Raises NotReadable where dataset_info.json does not tell."""
    try:
        return locate.home(place)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        what = f"{place / locate.INFO} does not tell the name and the version of the data set"
        raise NotReadable(_damaged(place, what)) from None


def _read_json(file: Path) -> Any:
    text = _read_text(file)
    if not text.strip():
        raise NotReadable(_damaged(file.parent, f"{file} is empty"))
    try:
        return json.loads(text)
    except ValueError as error:
        raise NotReadable(_damaged(file.parent, f"{file} is damaged, or half a file: {error}")) from None


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        what = f"{file} is missing"
    except OSError as error:
        what = f"{file} cannot be read: {error.strerror}"
    except ValueError as error:  # what is no text
        what = f"{file} is damaged, or half a file: {error}"
    raise NotReadable(_damaged(file.parent, what))


def _damaged(place: Path, what: str, end: str = ".") -> str:
    return f"{what}{end}\n  change:   copy it again, or delete {place} and prepare the data set again"


def _other_format(builder: tfds.core.DatasetBuilder, place: Path, name: str) -> str:
    """The message on records that cannot be read one by one."""
    text = (
        f"Data set {name} in {place} is stored as {formats(builder)[0]}.\n"
        f"  expected: {FORMAT}, which allows random access\n"
    )
    return text + _by_converting(place, name, formats(builder)[0] == CONVERTIBLE)


def _by_converting(place: Path, name: str, convertible: bool = True) -> str:
    """The lines of a message on having the records as ArrayRecord in another folder, and on reading them there.

    There they lie under TFDS's own name and version, whatever their folders are called here.
    """
    plain, _, wanted = name.partition(":")
    _, own, version = home(place)
    out = locate.converted_root(place.parents[len(Path(plain).parts)])
    asked = f"{own}:{version}" if wanted else own
    flags = [locate.flag("data.dir", out)]
    if own != plain or (wanted and not locate.matches(version, wanted)):
        flags.insert(0, locate.flag("data.name", asked))
    if not convertible:
        lines = locate.by_tfds(asked, out)
    elif (out / own / version / locate.INFO).exists():  # it was converted before
        lines = ""
    else:
        lines = f"  convert:  {locate.convert_command(place, out)}\n"
    return f"{lines}  change:   {' '.join(flags)}"


def _check_features(features: Mapping[str, tfds.features.FeatureConnector], name: str, ranged: bool, key: str) -> None:
    image = features.get(key)
    array = isinstance(image, tfds.features.Tensor) and len(image.shape) == 3
    if image is None or not (isinstance(image, tfds.features.Image) or array):
        raise NotReadable(
            f"Data set {name} has the features {', '.join(features)}.\n"
            "  expected: one called 'image', an Image or a Tensor of three axes; 'label', if there, a ClassLabel\n"
            "  change:   --config.data.name to a data set of images, or to folder:PATH, a folder of them"
        )
    dtype = np.dtype(image.np_dtype)
    if array and dtype != np.uint8 and not (ranged and np.issubdtype(dtype, np.number)):
        raise NotReadable(
            f"Data set {name} has images that are arrays of {dtype}, whose range is not known.\n"
            "  expected: arrays of uint8, or a range: the values that become black and white\n"
            "  change:   --config.data.value_range='(LOW, HIGH)'"
        )
    if not array and dtype not in DTYPES:
        raise NotReadable(
            f"Data set {name} has images of {dtype}, whose range is not known.\n"
            "  expected: images of uint8, or uint16\n"
            "  change:   prepare the data set with images of uint8, or save them as a folder of images and give that\n"
            "            as --config.data.name=folder:PATH"
        )
