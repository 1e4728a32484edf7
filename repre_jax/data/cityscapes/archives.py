"""The two official archives of Cityscapes, or their extracted folders: which images and label maps they hold.

leftImg8bit_trainvaltest.zip   leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
gtFine_trainvaltest.zip        gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from repre_jax.core.errors import UserError
from repre_jax.data import crops, label_maps, stores
from repre_jax.data.cityscapes.labels import CLASSES
from repre_jax.data.stores import Store

SIZE = (1024, 2048)
COUNTS = {"train": 2975, "validation": 500, "test": 1525}
CITIES = {
    "train": (
        *("aachen", "bochum", "bremen", "cologne", "darmstadt", "dusseldorf", "erfurt", "hamburg", "hanover", "jena"),
        *("krefeld", "monchengladbach", "strasbourg", "stuttgart", "tubingen", "ulm", "weimar", "zurich"),
    ),
    "validation": ("frankfurt", "lindau", "munster"),
    "test": ("berlin", "bielefeld", "bonn", "leverkusen", "mainz", "munich"),
}
FOLDERS = {"train": "train", "val": "validation", "test": "test"}  # in the archives -> split
KINDS = {  # folder in its archive -> (the archive, how its files end)
    "leftImg8bit": ("leftImg8bit_trainvaltest.zip", "_leftImg8bit.png"),
    "gtFine": ("gtFine_trainvaltest.zip", "_gtFine_labelIds.png"),
}
SHOWN = 8  # names in a message


class Pair(NamedTuple):
    """An image and its label map. image_id: 'aachen_000000_000019'."""

    image_id: str
    image: str
    label_map: str


@dataclass(frozen=True)
class Pairs:
    """Random access to a split: {'image_id', 'image': (encoded image, encoded label map)}."""

    pairs: Sequence[Pair]
    images: Store
    maps: Store

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        return self.pairs[index].image

    def __getitem__(self, index: int) -> dict:
        pair = self.pairs[index]
        return {"image_id": pair.image_id, "image": (self.images.read(pair.image), self.maps.read(pair.label_map))}

    def size(self) -> int:
        """Bytes of all."""
        return sum(self.images.size(pair.image) + self.maps.size(pair.label_map) for pair in self.pairs)


@dataclass(frozen=True)
class Found:
    """The pairs of each split that has some, and what is missing, a line each."""

    splits: Mapping[str, Pairs]
    missing: Sequence[str]

    def size(self) -> int:
        """Bytes of all."""
        return sum(pairs.size() for pairs in self.splits.values())


def find(folder: Path) -> Found:
    """Lists the images and label maps in `folder` without reading them; archives are preferred to extracted folders.

    Raises UserError for an archive that cannot be read.
    """
    found = {kind: stores.find(folder, archive, kind) for kind, (archive, _) in KINDS.items()}
    absent = [
        f"neither {archive} nor a folder {kind}/ was found"
        for kind, (archive, _) in KINDS.items()
        if found[kind] is None
    ]
    images, maps = (found[kind] for kind in KINDS)
    if images is None or maps is None:
        return Found({}, absent)
    listed = {kind: _listed(store, KINDS[kind][1]) for kind, store in zip(KINDS, (images, maps), strict=True)}
    splits, missing = {}, []
    for split, count in COUNTS.items():
        here, there = (listed[kind][split] for kind in KINDS)
        common = sorted(here.keys() & there.keys())
        if common:
            splits[split] = Pairs([Pair(each, here[each], there[each]) for each in common], images, maps)
        missing += _missing(split, here, there, len(common), count)
    return Found(splits, missing)


def checked(pair: tuple[bytes, bytes], split: str) -> tuple[bytes, bytes]:
    """The same image and label map. Raises UserError for one that is not whole, or not of Cityscapes' size or ids."""
    del split
    image = crops.decode(pair[0])
    if image.shape[:2] != SIZE:
        raise UserError(f"an image of {image.shape[0]} x {image.shape[1]} pixels, expected {SIZE[0]} x {SIZE[1]}")
    label_maps.classes_of(pair[1], CLASSES, SIZE)
    return pair


def _listed(store: Store, ending: str) -> dict[str, dict[str, str]]:
    """Split -> image_id -> file."""
    found: dict[str, dict[str, str]] = {split: {} for split in COUNTS}
    for name in store.names():
        parts = name.split("/")
        if len(parts) == 4 and name.endswith(ending) and parts[1] in FOLDERS and not parts[3].startswith("."):
            found[FOLDERS[parts[1]]][parts[3].removesuffix(ending)] = name
    return found


def _missing(split: str, here: Mapping[str, str], there: Mapping[str, str], pairs: int, count: int) -> list[str]:
    """Lines on what a split lacks: label maps of images, images of label maps, whole cities, or neither of both."""
    lines = []
    image, label_map = (ending for _, ending in KINDS.values())
    for what, names, ending in (
        ("label maps", sorted(here.keys() - there.keys()), label_map),
        ("images", sorted(there.keys() - here.keys()), image),
    ):
        if names:
            lines.append(f"{split}: {len(names):,} {what}: {_some([name + ending for name in names])}")
    if pairs != count:
        cities = Counter(name.partition("_")[0] for name in (*here, *there))
        absent = [city for city in CITIES[split] if not cities[city]]
        of = f"; none of {_some(absent)}" if absent else ""
        lines.insert(0, f"{split}: {pairs:,} of {count:,} images with label maps{of}")
    return lines


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
