"""ImageNet-1K in TFDS's own layout, without TensorFlow: from the two official archives, from extracted folders, or from
the parquet shards of Hugging Face's hub.

Labels, file names and features follow TFDS's builder (datasets/imagenet2012/imagenet2012_dataset_builder.py and
imagenet_common.py, version 5.1.0), whose lists of classes and of validation labels are read from the installed package.
"""

import io
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import simplejpeg
import tensorflow_datasets as tfds
from PIL import Image

from repre_jax.core.errors import UserError
from repre_jax.data import crops, imagenet_parquet, parquet

COUNTS = {"train": 1_281_167, "validation": 50_000}
ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
FOLDERS = {"train": ("train", "ILSVRC2012_img_train"), "validation": ("val", "validation", "ILSVRC2012_img_val")}
SHARDS = {"train": ("train",), "validation": ("validation", "val")}
SHOWN = 8  # names in a message


class Entry(NamedTuple):
    """One image: its name, its class ('n01440764') and where its bytes lie; size -1 stands for the whole file."""

    file_name: str
    label: str
    path: str
    offset: int = 0
    size: int = -1


@dataclass(frozen=True)
class Images:
    """Random access to the images of a split: {'image': encoded bytes, 'label', 'file_name'}."""

    entries: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        return self.entries[index].file_name

    def __getitem__(self, index: int) -> dict:
        entry = self.entries[index]
        with Path(entry.path).open("rb") as file:
            file.seek(entry.offset)
            return {"image": file.read(entry.size), "label": entry.label, "file_name": entry.file_name}


@dataclass(frozen=True)
class Found:
    """The images of each split, and where they were found; of shards which ones their numbers say are missing."""

    entries: Mapping[str, Sequence[Entry]]
    places: Mapping[str, Path]
    shards: Mapping[str, imagenet_parquet.Listed] = field(default_factory=dict)
    absent_shards: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def images(self, split: str) -> "Images | imagenet_parquet.Listed":
        """Random access to a split's."""
        return self.shards[split] if split in self.shards else Images(self.entries[split])

    def size(self) -> int:
        """Bytes of all images."""
        own = [e for split, entries in self.entries.items() if split not in self.shards for e in entries]
        lone = sum(Path(e.path).stat().st_size if e.size < 0 else e.size for e in own)
        return lone + sum(listed.size() for listed in self.shards.values())

    def missing(self) -> list[str]:
        """What the full ImageNet has and this has not, one line each."""
        lines = []
        for split, count in COUNTS.items():
            entries = self.entries.get(split)
            if entries is None:
                folders = ", ".join(f"{folder}/" for folder in FOLDERS[split])
                lines.append(
                    f"{split}: neither {ARCHIVES[split]} nor a folder {folders} nor {split}-*.parquet was found"
                )
            elif len(entries) != count:
                shards = self.absent_shards.get(split)
                absent = f"; missing {_some(shards)}" if shards else _absent(split, entries)
                lines.append(f"{split}: {len(entries):,} of {count:,} images{absent}")
        return lines


def find(folder: Path) -> Found:
    """Lists the images below `folder` without reading them; archives are preferred to folders, and both to shards.

    Raises UserError for an archive that cannot be read, or an image in no class that ImageNet has.
    """
    entries, places, shards, absent = {}, {}, {}, {}
    for split in COUNTS:
        archive = folder / ARCHIVES[split]
        candidates = [folder / name for name in FOLDERS[split] if (folder / name).is_dir()]
        if archive.is_file():
            entries[split], places[split] = _from_archive(archive, split), archive
        elif candidates:
            entries[split], places[split] = _from_folder(candidates[0], split), candidates[0]
        elif (found := parquet.files(folder, SHARDS[split]))[0]:
            files, absent[split] = found
            shards[split] = imagenet_parquet.listed(files, class_names(), _package_lines("validation_labels.txt"))
            entries[split] = [Entry(name, label, "") for name, label in shards[split].names]
            places[split] = files[0].parent
    for split, images in entries.items():
        unknown = sorted({entry.label for entry in images} - set(class_names()))
        if unknown:
            raise UserError(
                f"{places[split]} has images of classes that ImageNet has not: {_some(unknown)}.\n"
                "  expected: the names of classes as in n01440764"
            )
        twice = [name for name, count in Counter(entry.file_name for entry in images).items() if count > 1]
        if twice:
            raise UserError(f"{places[split]} has two images of one name: {_some(sorted(twice))}.")
    return Found({split: images for split, images in entries.items() if images}, places, shards, absent)


def class_names() -> list[str]:
    """The 1,000 classes in the order of their labels."""
    return _package_lines("labels.txt")


class ImageNet(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types
    """TFDS's imagenet2012, from listed images."""

    name = "imagenet2012"
    VERSION = tfds.core.Version("5.1.0")

    def __init__(self, found: Found, read: Callable[[str, Any], Iterator[dict]], **settings: Any):
        """read: a split's name and images -> the records to be written."""
        self._found, self._read = found, read
        super().__init__(**settings)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="ILSVRC 2012, ImageNet-1K.",
            homepage="https://image-net.org/",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=class_names()),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split, self._found.images(split)) for split in self._found.entries}

    def _generate_examples(self, split: str, images: Images | imagenet_parquet.Listed) -> Iterator[tuple[str, dict]]:
        for record in self._read(split, images):
            yield record["file_name"], record


def as_rgb_jpeg(encoded: bytes) -> bytes:
    """The image as an RGB or grey JPEG: one of ImageNet's is a PNG and 22 are CMYK, which TFDS converts too.

    Raises OSError when it is no whole image.
    """
    try:
        if simplejpeg.decode_jpeg_header(encoded)[2] in ("YCbCr", "RGB", "Gray"):
            # To an eighth of its size, to see whether it is whole.
            simplejpeg.decode_jpeg(encoded, "GRAY", fastdct=True, min_height=1, min_width=1)
            return encoded
    except ValueError:
        pass  # something else, a harmless fault or half a file: Pillow decides
    with Image.open(io.BytesIO(encoded)) as image:
        image.load()
        if image.format == "JPEG" and image.mode in ("RGB", "L"):
            return encoded
        converted = io.BytesIO()
        crops.plain_cmyk(image).convert("RGB").save(converted, "JPEG", quality=100)
        return converted.getvalue()


def _from_archive(archive: Path, split: str) -> list[Entry]:
    """Walks the headers. In train's archive each class is an archive of its own; it stays where it is."""
    try:
        with tarfile.open(archive, "r:") as outer:
            members = [member for member in outer if member.isfile()]
            if split == "validation":
                places = [(Path(m.name).name, m.offset_data, m.size) for m in members]
                return _validation(places, os.fspath(archive))
            entries = []
            inside = [member for member in members if not Path(member.name).name.startswith("._")]  # macOS's own
            other = [member.name for member in inside if not member.name.endswith(".tar")]
            if other:
                raise UserError(
                    f"{archive} holds {other[0]!r}.\n"
                    "  expected: one archive a class, as in n01440764.tar; or extract it and use the folders"
                )
            for member in inside:
                label = Path(member.name).name.removesuffix(".tar")
                with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
                    entries += [
                        Entry(
                            Path(image.name).name,
                            label,
                            os.fspath(archive),
                            member.offset_data + image.offset_data,
                            image.size,
                        )
                        for image in inner
                        if image.isfile()
                    ]
            return entries
    except (tarfile.TarError, OSError) as error:
        raise UserError(
            f"{archive} cannot be read: {error}.\n  expected: the archive as it was downloaded; is it whole?"
        ) from None


def _from_folder(folder: Path, split: str) -> list[Entry]:
    """Class folders; of the validation set also one flat folder, as its archive extracts."""
    try:
        labelled = [
            Entry(file.name, place.name, os.fspath(file))
            for place in sorted(folder.iterdir())
            if place.is_dir()
            for file in sorted(place.iterdir())
            if _is_image(file) and not file.is_fifo()  # which would be read for ever
        ]
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read: {error.strerror}.\n  change:   its permissions, for it and what is in it"
        ) from None
    flat = [file for file in sorted(folder.iterdir()) if file.is_file() and _is_image(file)]
    if split == "train" or not flat:
        return labelled
    return [
        entry._replace(path=os.fspath(folder / entry.file_name), offset=0, size=-1)
        for entry in _validation([(file.name, 0, -1) for file in flat], "")
    ]


def _validation(places: Sequence[tuple[str, int, int]], path: str) -> list[Entry]:
    """Labels go by the number in the name: 'ILSVRC2012_val_00000001.JPEG' has the first."""
    labels = _package_lines("validation_labels.txt")
    entries = []
    for name, offset, size in sorted(places):
        number = name.removesuffix(".JPEG").rpartition("_")[2]
        if not number.isdigit() or not 1 <= int(number) <= len(labels):
            raise UserError(f"{name} is no name of a validation image.\n  expected: as ILSVRC2012_val_00000001.JPEG")
        entries.append(Entry(name, labels[int(number) - 1], path, offset, size))
    return entries


def _absent(split: str, entries: Sequence[Entry]) -> str:
    if split == "validation":
        have = {entry.file_name for entry in entries}
        names = (f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, COUNTS[split] + 1))
        absent = [name for name in names if name not in have]
        return f"; missing {_some(absent)}"
    per_class = Counter(entry.label for entry in entries)
    absent = [name for name in class_names() if not per_class[name]]
    if absent:
        return f"; no image of {_some(absent)}"
    few, count = min(per_class.items(), key=lambda pair: pair[1])
    return f"; fewest of {few}: {count:,} (ImageNet has 732 to 1,300 of each)"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in (".jpeg", ".jpg", ".png")


def _package_lines(name: str) -> list[str]:
    return (Path(tfds.core.tfds_path("datasets/imagenet2012")) / name).read_text().split()
