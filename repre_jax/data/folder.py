"""A folder of images as it lies on the disk: flat, nested or one folder a class; labels and splits may be missing."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from repre_jax.core.errors import UserError
from repre_jax.data import deep, listing, splits
from repre_jax.data.listing import shown

RECORDS = "records"  # in metadata.json of a prepared folder: split -> digest of its files' names and labels
ENCODED = (1, 3, 4)  # channels of images that are stored as they are; others become arrays


@dataclass(frozen=True)
class ImageFolder:
    """Random access to files below `root`: {'image': encoded bytes, 'file_name': path below root, 'label': int if any}.

    A .npy file holds an array, uint8 [h, w, channels]. In a file's name bytes that are not UTF-8 are escaped.
    value_range: what each record has under this name, unless None; see data/deep.py.
    """

    root: str
    files: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    value_range: deep.Ranges | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        name = self.files[index]
        record = {"image": Path(self.root, name).read_bytes(), "file_name": shown(name)}
        record |= {"value_range": self.value_range} if self.value_range else {}
        return record | ({"label": self.labels[index]} if self.labels else {})

    def beginning(self, index: int, count: int) -> bytes:
        """The first bytes of a file."""
        with Path(self.root, self.files[index]).open("rb") as file:
            return file.read(count)

    def name(self, index: int) -> str:
        """What to call a file in a message."""
        return shown(self.files[index])

    def size(self) -> int:
        """Bytes of all files, but for those that are gone."""
        paths = (Path(self.root, name) for name in self.files)
        return sum(path.stat().st_size for path in paths if path.exists())

    def part(self, instruction: str, split: str) -> "ImageFolder":
        """The records that `instruction`, in TFDS's syntax, takes of this split of the given name.

        They come in a fixed random order, since files are sorted by class, but stay sorted where the bounds take all of
        them, as in 'train[0%:100%]'.
        """
        whole = tfds.core.SplitInfo(name=split, shard_lengths=[len(self)], num_bytes=0)
        (taken,) = tfds.core.ReadInstruction.from_spec(instruction).to_absolute({split: whole})
        if (taken.from_, taken.to) == (0, len(self)):
            return self
        chosen = np.random.default_rng(0).permutation(len(self))[taken.from_ : taken.to]
        labels = tuple(self.labels[i] for i in chosen) if self.labels else None
        return ImageFolder(self.root, tuple(self.files[i] for i in chosen), labels)


@dataclass(frozen=True)
class Folder:
    """The splits of a folder by name ('train' always), and the names of train's classes, None without any.

    unknown: of a split with some of these classes, those that it has beside them; it has no labels then.
    notes: a line each, of what was passed over and why, and which file cost the labels.
    """

    splits: dict[str, ImageFolder]
    classes: tuple[str, ...] | None
    unknown: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def scan(root: Path) -> Folder:
    """Finds the images below `root`. Folders whose names say so are splits (data/splits.py); else all is 'train'.

    Labels are the names of the folders, sorted, if each image lies in one of at least two folders directly below its
    split. Another split has labels if its folders are among these. What is no image is passed over (data/listing.py).

    Raises UserError when it is no folder, or one without images.
    """
    if not root.is_dir():
        raise UserError(
            f"{shown(root)} is not a folder.\n  expected: --config.data.name=folder:PATH, a folder with images"
        )
    folders, notes = splits.splits_of(root)
    listings = {split: listing.list_images(folder) for split, folder in folders.items()}
    notes += [note for found in listings.values() for note in found.notes()]
    found = {split: tuple(some.files) for split, some in listings.items() if some.files or split == "train"}
    if not found["train"]:
        if shards := [path.name for place in (root, root / "data") for path in place.glob("*.parquet")]:
            raise UserError(
                f"{shown(root)} holds parquet shards, such as {shown(min(shards))}, and no images.\n"
                "  expected: files in which a single image is quickly found; training reads them in a random order\n"
                "  change:   python -m repre_jax.tools.prepare imagenet2012 --from DIR converts ImageNet's shards"
            )
        raise UserError(
            f"There are no images in {shown(folders['train'])}.\n"
            f"  expected: files called *{', *'.join(listing.SUFFIXES)}" + "".join(f"\n  {note}" for note in notes)
        )
    classes = _classes(found["train"])
    number = {name: label for label, name in enumerate(classes or ())}
    parts, unknown = {}, {}
    for split, files in found.items():
        parents = _parents(files)
        others = set(parents) - number.keys()
        labels = None if others else tuple(number[name] for name in parents)
        parts[split] = ImageFolder(os.fspath(folders[split]), files, labels)
        if others and set(parents) & number.keys():
            unknown[split] = tuple(sorted(map(shown, others)))
        if others and classes:
            stray = next(file for file, parent in zip(files, parents, strict=True) if parent not in number)
            notes.append(f"No labels in {split}: {shown(stray)} lies in no folder called as a class of train is")
    notes += splits.of_other_splits(found["train"]) + ([] if classes else _why_no_classes(found["train"]))
    return Folder(parts, tuple(map(shown, classes)) if classes else None, unknown, tuple(notes))


def _parents(files: Sequence[str]) -> list[str]:
    return [file.rpartition(os.sep)[0] for file in files]


def _classes(files: Sequence[str]) -> tuple[str, ...] | None:
    names = sorted(set(_parents(files)))
    return tuple(names) if len(names) > 1 and all(name and os.sep not in name for name in names) else None


def _why_no_classes(files: Sequence[str]) -> list[str]:
    """A note that names a file without which there would be labels; none where all files lie flat."""
    parents = _parents(files)
    if not any(parents):
        return []
    for why, wrong in (
        ("lies in no folder of a class", [file for file, parent in zip(files, parents, strict=True) if not parent]),
        ("lies deeper than in a folder of a class", [file for file in files if file.count(os.sep) > 1]),
    ):
        if wrong:
            some = f"{len(wrong):,} of {len(files):,} images do" if len(wrong) > 1 else f"one of {len(files):,} images"
            return [f"No labels: {shown(wrong[0])} {why} ({some})"]
    return [f"No labels: all images lie in one folder, {shown(parents[0])}/"]


class FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types
    """A folder of images as a TFDS data set: image, file_name and, with class folders, label."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        found: Folder,
        channels: int,
        read: Callable[[str, Any], Iterator[dict]],
        measured: Callable[[], dict[str, list[float]]],
        **settings: Any,
    ):
        """read: a split's name and files -> the records to be written. measured: what to keep of them beside, asked
        when all have been read (metadata.json)."""
        self._found, self._channels, self._read, self._measured = found, channels, read, measured
        super().__init__(**settings)

    def _info(self) -> tfds.core.DatasetInfo:
        if self._channels in ENCODED:
            image = tfds.features.Image(shape=(None, None, self._channels))
        else:
            image = tfds.features.Tensor(shape=(None, None, self._channels), dtype=np.uint8, encoding="zlib")
        features = {"image": image, "file_name": tfds.features.Text()}
        if self._found.classes:
            features["label"] = tfds.features.ClassLabel(names=self._found.classes)
        return tfds.core.DatasetInfo(
            builder=self,
            description="A folder of images.",
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split, images) for split, images in self._found.splits.items()}

    def _generate_examples(self, split: str, images: ImageFolder) -> Iterator[tuple[str, dict]]:
        unlabelled = {"label": -1} if self._found.classes and not images.labels else {}
        content = hashlib.blake2b(digest_size=8)
        for record in self._read(split, images):
            content.update(f"{record['file_name']}\0{record.get('label')}\0".encode(errors="surrogatepass"))
            yield record["file_name"], record | unlabelled
        self.info.metadata.setdefault(RECORDS, {})[split] = content.hexdigest()
        self.info.metadata.update(self._measured())
