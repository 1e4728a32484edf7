"""What tells a data set from another one of the same name and size: its classes in their order, its files or shards.

Labels are numbers that follow from the names of classes, and records are numbers that follow from the names of files.
Where a name changes between two starts, stored features, heads and the order of the records would belong to others.
No record is read: names, sizes, and what TFDS's files beside the records say of them, are enough.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from repre_jax.data import split_syntax
from repre_jax.data.folder import RECORDS, Folder, ImageFolder
from repre_jax.data.prepared import METADATA

KEYS = (
    *("name", "version", "train_records", "test_records", "classes", "class_names", "train_content", "test_content"),
    "value_range",
)
NAMED = 5  # classes or shards, at most, in a message
UNLABELLED = "all files"

Parts = Mapping[str, str]  # name of a class's files, or of a shard -> what is known of it


def digest(texts: Iterable[str]) -> str:
    """16 hexadecimal digits of these texts, in their order. They contain no NUL, as no file's name does."""
    whole = "\0".join(texts).encode(errors="surrogatepass")  # names that are not UTF-8
    return hashlib.blake2b(whole, digest_size=8).hexdigest()


def of_folder(found: Folder, specs: Mapping[str, str | None]) -> dict[str, Parts]:
    """'train' and 'test' -> what is known of the files that they are taken of.

    specs: both, in TFDS's syntax; None where there is no such split.
    """
    return {key: _of_splits(found.splits, spec, found.classes) for key, spec in specs.items() if spec}


def _of_splits(splits: Mapping[str, ImageFolder], spec: str, class_names: Sequence[str] | None) -> Parts:
    """The files of each class in the splits that `spec`, in TFDS's syntax, takes records of.

    Of whole splits: which records a part has, and in which order, follows from all files of the split.
    """
    found = {split: of_files(splits[split], class_names) for split in split_syntax.named(splits, spec)}
    if len(found) == 1:
        return next(iter(found.values()))
    return {f"{split}: {name}": text for split, parts in found.items() for name, text in parts.items()}


def of_label_folder(
    splits: Mapping[str, ImageFolder],
    maps: Mapping[str, str],
    specs: Mapping[str, str | None],
    coded: Mapping[tuple[int, int, int], int],
) -> dict[str, Parts]:
    """As of_folder, of a folder of images with label maps.

    maps: path of an image -> of its label map, called as the image is but for the suffix. coded: colour -> class.
    """
    found: dict[str, Parts] = {}
    for key, spec in specs.items():
        if not spec:
            continue
        images = [splits[split] for split in split_syntax.named(splits, spec)]
        names = [Path(maps[f"{some.root}{os.sep}{file}"]).name for some in images for file in some.files]
        colours = {"colours": digest(f"{colour}: {number}" for colour, number in coded.items())} if coded else {}
        found[key] = {**_of_splits(splits, spec, None), "label maps": _files(names), **colours}
    return found


def of_files(images: ImageFolder, class_names: Sequence[str] | None) -> Parts:
    """The files of each class, by their paths below the split's folder, in which they are sorted."""
    if not images.labels or not class_names:
        return {UNLABELLED: _files(images.files)}
    labels = np.asarray(images.labels)
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(len(class_names)), side="right")
    groups = np.split(order, ends[:-1])
    return {
        name: _files([images.files[i] for i in group.tolist()])
        for name, group in zip(class_names, groups, strict=True)
        if len(group)
    }


def _files(names: Sequence[str]) -> str:
    return f"{len(names):,} files, {digest(names)}"


def of_shards(builder: tfds.core.DatasetBuilder, specs: Mapping[str, str | None]) -> dict[str, Parts]:
    """As of_folder, of a data set that TFDS prepared."""
    try:
        digests = json.loads(Path(builder.data_dir, METADATA).read_text())[RECORDS]
    except (OSError, ValueError, KeyError, TypeError):
        digests = {}  # only `prepare folder` writes them
    return {key: _of_shards(builder.info, spec, digests) for key, spec in specs.items() if spec}


def _of_shards(info: tfds.core.DatasetInfo, spec: str, digests: Mapping[str, str]) -> Parts:
    """The files that hold the records of `spec`, in TFDS's syntax, each with its size, and their splits' sizes."""
    parts: dict[str, str] = {}
    for read in info.splits[spec].file_instructions:
        path = Path(read.filename)
        size = path.stat().st_size if path.exists() else "no"
        text = f"records {read.skip} to {read.skip + read.take} of {read.examples_in_shard}, {size} bytes"
        parts[path.name] = f"{parts[path.name]}; {text}" if path.name in parts else text
    infos = {split.name: split for split in info.splits.values()}
    for split in dict.fromkeys(part.splitname for part in tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)):
        of_records = f", {digests[split]}" if split in digests else ""
        parts[f"split {split}"] = f"{int(infos[split].num_bytes)} bytes of records{of_records}"
    return parts


def digests(classes: int | None, class_names: Sequence[str] | None, contents: Mapping[str, Parts]) -> dict[str, Any]:
    """What an identity holds beside name, version and sizes; {} where the contents are not known.

    contents: 'train' and 'test' -> their parts.
    """
    if not contents:
        return {}
    return {
        "classes": classes,
        "class_names": None if class_names is None else digest(class_names),
        **{
            f"{split}_content": digest(f"{name}: {text}" for name, text in contents[split].items())
            if split in contents
            else None
            for split in ("train", "test")
        },
    }


def explained(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Key of an identity -> in words, what differs, of two that running/same_data.described() gave, as far as both say
    it."""
    lines = {}
    old, new = before.get("class_names"), now.get("class_names")
    if old and new and old != new:
        lines["class_names"] = _renamed(old, new)
    for split in ("train", "test"):
        ours, theirs = (some.get("contents", {}).get(split, {}) for some in (before, now))
        if ours and theirs and ours != theirs:
            names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
            lines[f"{split}_content"] = f"other ones in {listed(names)}" if names else "in another order"
    return lines


def _renamed(old: Sequence[str], new: Sequence[str]) -> str:
    numbers, before = ({name: number for number, name in enumerate(names)} for names in (new, old))
    moved = [name for name in old if name in numbers and numbers[name] != before[name]]
    named = {
        "gone": [name for name in old if name not in numbers],
        "new": [name for name in new if name not in before],
        "of another number": moved,
    }
    return "; ".join(f"{what}: {listed(names)}" for what, names in named.items() if names)


def listed(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
