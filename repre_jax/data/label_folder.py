"""A folder of images with label maps as it lies on the disk: images/ and labels/, by splits or within them.

  images/train/a.jpg  labels/train/a.png        or        train/images/a.jpg  train/labels/a.png

An image and its label map have one path below their folders, but for the suffix. classes.txt, beside them, names the
classes: a line each, in the order of their numbers, 'name', or 'red green blue name' where maps are coloured pictures.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from repre_jax.core.errors import UserError
from repre_jax.data import listing, splits
from repre_jax.data.folder import ImageFolder
from repre_jax.data.label_classes import IGNORED, MOST, Classes, Colour, numbered, plain
from repre_jax.data.label_maps import CLASSES_FILE
from repre_jax.data.listing import shown

IMAGES = ("images", "image", "imgs", "img", "JPEGImages")
MAPS = ("labels", "label_maps", "masks", "annotations", "SegmentationClass")
OMITTED = "ignored"  # what the line of a colour says that is ignored
SHOWN = 5  # files in a message
LAYOUT = (
    "  expected: images/ and labels/, each with train/ and val/ in it, or train/ and val/, each with images/ and\n"
    "            labels/ in it; images/a.jpg belongs to labels/a.png\n"
)


@dataclass(frozen=True)
class PairedFolder:
    """Random access to images and their label maps: an ImageFolder's records, and 'label_map', encoded bytes.

    maps: path of an image -> path of its label map.
    """

    images: ImageFolder
    maps: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return self.images[index] | {"label_map": Path(self.map(index)).read_bytes()}

    def stamp(self, index: int) -> str:
        """What becomes another text when the image or its label map is written anew: their lengths and times."""
        files = (joined(self.images.root, self.images.files[index]), self.map(index))
        return "; ".join(f"{found.st_size} {found.st_mtime_ns}" for found in map(os.stat, files))

    def map(self, index: int) -> str:
        """The path of a label map."""
        return self.maps[joined(self.images.root, self.images.files[index])]


@dataclass(frozen=True)
class LabelFolder:
    """The splits of a folder by name ('train' always), the label map of each image by their paths, and what was passed
    over."""

    splits: dict[str, ImageFolder]
    maps: dict[str, str]
    notes: tuple[str, ...] = ()


def scan(root: Path) -> LabelFolder:
    """Finds the images below `root` and their label maps; opens none.

    Raises UserError where there are none, or an image has no label map.
    """
    notes: list[str] = []
    found: dict[str, ImageFolder] = {}
    maps: dict[str, str] = {}
    for split, (images, labels) in _places(root, notes).items():
        here, there = listing.list_images(images), listing.list_images(labels)
        notes += [note for each in (here, there) for note in each.notes()]
        by_stem = {_stem(name): name for name in there.files}
        lacking = [name for name in here.files if _stem(name) not in by_stem]
        if lacking:
            raise UserError(_lacking(lacking, len(here.files), images, labels))
        if not here.files:
            notes.append(f"Passed over: {shown(images)} has no images")
            continue
        found[split] = ImageFolder(os.fspath(images), tuple(here.files))
        for name in here.files:
            maps[joined(images, name)] = joined(labels, by_stem[_stem(name)])
        if unused := len(there.files) - len(here.files):
            notes.append(f"Passed over: {unused:,} label maps in {shown(labels)}, which belong to no image")
    if "train" not in found:
        raise UserError(
            f"There are no images with label maps in {shown(root)} to train on.\n{LAYOUT}"
            "  change:   --config.data.name=folder:PATH"
        )
    return LabelFolder(found, maps, tuple(notes))


def classes(root: Path, num_classes: int | None, first: int = 0, *, coloured: bool = False) -> Classes | None:
    """The classes that classes.txt in `root` names; without it, `num_classes` of them; None without either.

    first: the stored value of the first one. coloured: whether label maps are pictures, whose colours it explains.
    Raises UserError where it says something else than num_classes, or cannot be read.
    """
    file = root / CLASSES_FILE
    if not file.exists():
        return numbered(num_classes, first) if num_classes else None
    names, colours, omitted = _read(file)
    if num_classes is not None and num_classes != len(names):
        raise UserError(
            f"data.num_classes is {num_classes}, and {file} names {len(names)} classes.\n"
            f"  change:   leave --config.data.num_classes out, or {CLASSES_FILE}"
        )
    named = plain(names, first, colours)
    if not coloured or not colours:
        return named
    coded = dict.fromkeys(omitted, IGNORED) | {colour: number for number, colour in enumerate(colours)}
    return replace(named, coded=coded)


def joined(folder: str | os.PathLike[str], name: str) -> str:
    """The path of a file below a folder."""
    return f"{os.fspath(folder)}{os.sep}{name}"


def _stem(name: str) -> str:
    """A path without its suffix."""
    return os.fspath(Path(name).with_suffix(""))


def _places(root: Path, notes: list[str]) -> dict[str, tuple[Path, Path]]:
    """Split -> its folder of images and that of their label maps."""
    if not root.is_dir():
        raise UserError(f"{shown(root)} is not a folder.\n{LAYOUT}  change:   --config.data.name=folder:PATH")
    if both := _both(root):
        images, labels = both
        below, said = splits.splits_of(images)
        notes += said
        found = {split: (place, labels / place.relative_to(images)) for split, place in below.items()}
        for _, place in found.values():
            if not place.is_dir():
                raise UserError(f"{shown(place)}, the folder of label maps, is not there.\n{LAYOUT}")
        return found
    below, said = splits.splits_of(root)
    notes += said
    inside = {split: both for split, place in below.items() if (both := _both(place))}
    if not inside:
        raise UserError(
            f"{shown(root)} has no label maps.\n{LAYOUT}  change:   --config.data.name=folder:PATH, to such a folder;\n"
            "            to segment pictures without any, `python -m repre_jax.tools.segment RUN --images PATH`"
        )
    notes += [
        f"Passed over: {shown(below[split])}, which has no folders images and labels"
        for split in below
        if split not in inside
    ]
    return inside


def _both(place: Path) -> tuple[Path, Path] | None:
    images = [place / name for name in IMAGES if (place / name).is_dir()]
    labels = [place / name for name in MAPS if (place / name).is_dir()]
    return (images[0], labels[0]) if images and labels else None


def _lacking(names: list[str], count: int, images: Path, labels: Path) -> str:
    some = ", ".join(map(shown, names[:SHOWN]))
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return (
        f"{len(names):,} of {count:,} images in {shown(images)} have no label map: {some}{more}.\n"
        f"  expected: for {shown(names[0])} the file {shown(_stem(names[0]))}.png in {shown(labels)}\n"
        "  change:   the names of the label maps; or move images without one elsewhere"
    )


def _read(file: Path) -> tuple[list[str], list[Colour], list[Colour]]:
    """(Names of the classes, their colours or none, colours that are ignored)."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}.\n  expected: a text, one class a line") from None
    names: list[str] = []
    colours: list[Colour] = []
    omitted: list[Colour] = []
    lines = [line for line in lines if line and not line.startswith("#")]
    for line in lines:
        colour, name = _parsed(line)
        if colour is None:
            names.append(name)
        elif name == OMITTED:
            omitted.append(colour)
        else:
            names.append(name)
            colours.append(colour)
    if not names or len(names) > MOST or ((colours or omitted) and len(names) != len(colours)):
        raise UserError(
            f"{file} is not a list of classes.\n"
            f"  expected: 1 to {MOST} lines, all of them 'name', or all of them 'red green blue name', as in\n"
            "            '128 64 128 road'\n"
            f"  given:    {len(names)} names and {len(colours)} colours"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{file} names the class {twice!r} twice.\n  change:   a name of its own for each class")
    if len(set(colours + omitted)) < len(colours) + len(omitted):
        raise UserError(f"{file} has one colour twice.\n  change:   a line for each colour")
    return names, colours, omitted


def _parsed(line: str) -> tuple[Colour | None, str]:
    parts = line.replace(",", " ").split(maxsplit=3)
    if len(parts) < 4 or not all(part.isdigit() and int(part) < 256 for part in parts[:3]):
        return None, line
    return (int(parts[0]), int(parts[1]), int(parts[2])), parts[3]
