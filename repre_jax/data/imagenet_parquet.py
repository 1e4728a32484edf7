"""ImageNet-1K from the hub's parquet shards, and whether its labels are those of TFDS: what its file names tell.

The hub numbers classes by their sorted WordNet ids, from n01440764 to n15075141, and TFDS's list has the same order
(tests/prepare/test_prepare_parquet.py). File names carry the id: 'n01440764_10026_n01440764.JPEG' and
'ILSVRC2012_val_00000293_n01980166.JPEG', where TFDS's are 'n01440764_10026.JPEG' and 'ILSVRC2012_val_00000293.JPEG'.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repre_jax.core.errors import UserError
from repre_jax.data import parquet

WORDNET_ID = re.compile(r"n\d{8}")
ADDED = re.compile(r"_n\d{8}(?=\.\w+$)")  # what the hub's names have behind TFDS's
VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})")


@dataclass(frozen=True)
class Listed:
    """A split's images by number, as imagenet.Images has them: {'image', 'label', 'file_name'}.

    names: (file name, WordNet id) of each. compared: how many labels the file names, or the shards' own list of
    classes, could be held against.
    """

    images: parquet.Images
    names: Sequence[tuple[str, str]]
    compared: int

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        return f"{self.images.shard(index).path.name}: {self.names[index][0]}"

    def __getitem__(self, index: int) -> dict:
        file_name, label = self.names[index]
        return self.images[index] | {"label": label, "file_name": file_name}

    def size(self) -> int:
        """Bytes of all shards."""
        return sum(shard.bytes for shard in self.images.shards)


def listed(files: Sequence[Path], classes: Sequence[str], validation: Sequence[str]) -> Listed:
    """Opens the shards of a split and reads names and labels, no image.

    classes: WordNet ids in the order of their labels; validation: those of the validation images, by their numbers.
    An image without a name is called by its class and its place. Raises UserError for a shard that cannot be read, and
    for a label that is not the one that a file name or the shard's list of classes tells.
    """
    shards = tuple(parquet.opened(path) for path in files)
    by_list = bool(shards) and all(_are_in_order(shard, classes) for shard in shards)
    names: list[tuple[str, str]] = []
    compared = 0
    for shard, row in parquet.named(shards):
        if not 0 <= row.label < len(classes):
            raise UserError(
                f"{shard.path} has an image of label {row.label}, {row.file_name or 'without a name'}.\n"
                f"  expected: 0 to {len(classes) - 1}; -1, as in the test split, is no class"
            )
        label = classes[row.label]
        told = _told(row.file_name, validation)
        if told not in (None, label):
            raise UserError(
                f"{shard.path}: {row.file_name} has label {row.label}, which is class {label}; its name tells {told}.\n"
                f"  expected: classes numbered by their sorted WordNet ids, {classes[0]} 0 to {classes[-1]} "
                f"{len(classes) - 1}\n"
                "  change:   to shards with labels in that order, such as the hub's imagenet-1k"
            )
        compared += told is not None or by_list
        names.append((ADDED.sub("", row.file_name) if row.file_name else f"{label}_at_{len(names):07}.JPEG", label))
    return Listed(parquet.Images(shards), names, compared)


def _told(file_name: str | None, validation: Sequence[str]) -> str | None:
    """The class that a file name tells, None for one that tells nothing."""
    if file_name is None:
        return None
    if found := WORDNET_ID.search(file_name):
        return found[0]
    number = VALIDATION.match(file_name)
    return validation[int(number[1]) - 1] if number and 1 <= int(number[1]) <= len(validation) else None


def _are_in_order(shard: parquet.Shard, classes: Sequence[str]) -> bool:
    """Whether the shard lists its classes by WordNet ids, in our order; False where it lists them in words, or not.

    Raises UserError where its list is another one.
    """
    theirs = shard.class_names
    ids = [name for name in theirs if WORDNET_ID.fullmatch(name)]
    if theirs and (len(theirs) != len(classes) or (ids and list(theirs) != list(classes))):
        first = next((n for n, (a, b) in enumerate(zip(theirs, classes, strict=False)) if a != b), 0)
        what = f"{len(theirs):,} classes" if len(theirs) != len(classes) else f"{theirs[first]} as class {first}"
        raise UserError(
            f"{shard.path} lists {what}.\n"
            f"  expected: ImageNet's {len(classes):,} classes, numbered by their sorted WordNet ids"
        )
    return bool(ids)
