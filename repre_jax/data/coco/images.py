"""The images that a file of annotations lists, and where they lie.

The official archives, or the folders that they are extracted to:
train2017.zip, val2017.zip         train2017/000000000009.jpg
annotations_trainval2017.zip       annotations/instances_train2017.json
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from repre_jax.core.errors import UserError
from repre_jax.data import stores
from repre_jax.data.coco import listing
from repre_jax.data.coco.listing import Entry, Listing
from repre_jax.data.stores import Archive, Extracted, Store

COUNTS = {"train": 118_287, "validation": 5_000}
OFFICIAL = {"train": "train2017", "validation": "val2017"}  # split -> folder of its images, and the archive's name
ANNOTATIONS = ("annotations_trainval2017.zip", "annotations")
SHOWN = 8  # names in a message


@dataclass(frozen=True)
class Listed:
    """Random access to the images of a split that are there: {'image': (encoded image, its Entry)}.

    files: of each entry, in `store`.
    """

    entries: Sequence[Entry]
    files: Sequence[str]
    store: Store

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        return self.files[index]

    def __getitem__(self, index: int) -> dict:
        return {"image": (self.store.read(self.files[index]), self.entries[index])}

    def size(self) -> int:
        """Bytes of all images."""
        return sum(self.store.size(file) for file in self.files)


@dataclass(frozen=True)
class Found:
    """What there is of a data set: the images of each split, its categories, what was mended, and what is missing, a
    line each. masks: how many objects have a mask, of all `objects`."""

    splits: Mapping[str, Listed]
    categories: Sequence[Mapping]
    notes: Sequence[str]
    missing: Sequence[str]
    masks: int
    objects: int

    def size(self) -> int:
        """Bytes of all."""
        return sum(images.size() for images in self.splits.values())


class Part(NamedTuple):
    """A split: where its images and its annotations lie, and what to call the file of these."""

    images: Store
    annotations: bytes
    name: str


def official(folder: Path) -> tuple[dict[str, Part], list[str]]:
    """(The splits that `folder` has, what is missing), of COCO's three archives, each extracted or not."""
    parts, missing = {}, []
    texts = stores.find(folder, *ANNOTATIONS)
    if texts is None:
        missing.append(f"neither {ANNOTATIONS[0]} nor a folder {ANNOTATIONS[1]}/ was found")
    files = set(texts.names()) if texts is not None else set()
    for split, name in OFFICIAL.items():
        images, file = stores.find(folder, f"{name}.zip", name), f"annotations/instances_{name}.json"
        if images is None:
            missing.append(f"neither {name}.zip nor a folder {name}/ was found")
        if texts is not None and file not in files:
            missing.append(f"{file} was not found")
        if images is not None and texts is not None and file in files:
            parts[split] = Part(images, _read(texts, file), Path(file).name)
    return parts, missing


def own(folder: Path, images: Sequence[str], annotations: Sequence[str]) -> dict[str, Part]:
    """The splits of files in COCO's JSON, the first to train on, the second, if there is one, to test.

    images: a folder or a zip for each of `annotations`, or one for all; both by their paths from `folder` on.
    Raises UserError where one is not there.
    """
    if len(annotations) > len(COUNTS) or len(images) not in (1, len(annotations)):
        raise UserError(
            f"--images is given {len(images)} and --annotations {len(annotations)} paths.\n"
            "  expected: a file to train on and perhaps one to test on; a folder of images for each, or one for both\n"
            "  change:   --images=FOLDER --annotations TRAIN.json TEST.json"
        )
    parts = {}
    for place, (split, file) in enumerate(zip(COUNTS, annotations, strict=False)):
        path, root = folder / file, folder / images[min(place, len(images) - 1)]
        for wanted, is_there, flag in ((path, path.is_file(), "--annotations"), (root, root.exists(), "--images")):
            if not is_there:
                raise UserError(f"{wanted} is not there.\n  change:   {flag}, a path from {folder} on")
        store = Archive(root) if root.is_file() else Extracted(root, "")
        parts[split] = Part(store, _read(Extracted(folder, ""), file), Path(file).name)
    return parts


def _read(store: Store, file: str) -> bytes:
    try:
        return store.read(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}.\n  change:   fetch it again") from None


def find(parts: Mapping[str, Part], counts: Mapping[str, int]) -> Found:
    """Reads the annotations and looks for the images that they list, without reading these.

    counts: how many images a split is to have. Raises UserError for annotations that cannot be used, or two files whose
    categories differ.
    """
    splits, notes, missing = {}, [], []
    listings: dict[str, Listing] = {}
    for split, part in parts.items():
        found = listings[split] = listing.parse(part.annotations, part.name)
        _check_categories(listings, parts)
        files = _files(part.images, found.images)
        there = [place for place, file in enumerate(files) if file is not None]
        splits[split] = Listed(
            [found.images[place] for place in there], [file for file in files if file is not None], part.images
        )
        notes += [f"{part.name}: {note}" for note in found.notes]
        absent = [entry.file_name for entry, file in zip(found.images, files, strict=True) if file is None]
        if absent:
            missing.append(
                f"{split}: {len(absent):,} of {len(files):,} images that {part.name} lists: {some_of(absent)}"
            )
        if split in counts and len(files) != counts[split]:
            missing.append(f"{split}: {part.name} lists {len(files):,} of {counts[split]:,} images")
    masks, total = (sum(getattr(each, key) for each in listings.values()) for key in ("masks", "objects"))
    categories = next(iter(listings.values())).categories if listings else ()
    return Found({name: some for name, some in splits.items() if len(some)}, categories, notes, missing, masks, total)


def _check_categories(listings: Mapping[str, Listing], parts: Mapping[str, Part]) -> None:
    first, *others = listings
    for other in others:
        if list(listings[first].categories) != list(listings[other].categories):
            raise UserError(
                f"{parts[first].name} and {parts[other].name} have other categories, or in another order.\n"
                "  change:   both, to one list with one order: it numbers the classes"
            )


def _files(store: Store, entries: Sequence[Entry]) -> list[str | None]:
    """Of each entry the one file whose path ends with its file_name, or else is called as it; None where there is no
    such file, or several."""
    names = [name for name in store.names() if not name.endswith("/")]
    whole = set(names)
    known: dict[str, list[str]] = {}
    for name in names:
        known.setdefault(name.rpartition("/")[2], []).append(name)

    def of(wanted: str) -> str | None:
        wanted = wanted.replace("\\", "/").removeprefix("./")
        if wanted in whole:
            return wanted
        called = known.get(wanted.rpartition("/")[2], [])
        ending = [name for name in called if name.endswith(f"/{wanted}")] or called
        return ending[0] if len(ending) == 1 else None

    return [of(entry.file_name) for entry in entries]


def some_of(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
