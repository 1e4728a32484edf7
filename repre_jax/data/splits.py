"""Which folders are splits: 'train' and 'val', and what else people call them."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from repre_jax.core import run_files
from repre_jax.data.listing import NAMED, OF_A_RUN, is_folder, line, list_images, loose_images, shown

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}  # folder -> split, exactly
# What else they are called, in any case, with 'set', 'images' and numbers around it: 'Training', 'test_set', 'val2017'.
WORDS = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "validate", "dev", "eval"),
    "test": ("test", "testing", "tst", "evaluation"),
}
AROUND = r"(?:set|data|dataset|images?|imgs?|pictures|photos|split)"


def splits_of(root: Path) -> tuple[dict[str, Path], list[str]]:
    """(Folder of each split below `root` by the split's name, {'train': root} where there are none; notes).

    Folders called exactly train, val, validation or test are splits if there is a train among them. Other names that
    mean as much are splits, too, if at least two of them are there or no other images lie beside them: a class may well
    be called 'Train'. So are names that hold such a word, as in 'seg_train', if two are there and nothing beside them.
    """
    names = _folders(root)
    exact = {SPLITS[name]: name for name in SPLITS if name in names}
    found = exact | {split: name for split, name in _claimed(names, _split_named).items() if split not in exact}
    if "train" not in exact and ("train" not in found or (len(found) < 2 and _beside(root, names, found))):
        found = _claimed(names, _split_hinted_at)
        if "train" not in found or len(found) < 2 or _beside(root, names, found):
            return {"train": root}, _suspects(names)
    named = ", ".join(f"{split} is {shown(name)}/" for split, name in found.items())
    notes = [] if found == exact else [f"Splits: {named}"]
    beside = f"beside {shown(found['train'])}/"
    if others := [os.fspath(root / name) for name in names if name not in found.values()]:
        notes.append(line("Passed over", others, "folder", "is no split", beside))
    if loose := loose_images(root):
        notes.append(line("Passed over", loose, "image", "is in no split", beside))
    return {split: root / found[split] for split in WORDS if split in found}, notes


def _folders(root: Path) -> list[str]:
    """Names of the folders in it, sorted, but hidden ones and a run's own."""
    try:
        with os.scandir(root) as listed:
            entries = list(listed)
    except OSError:
        return []
    own = OF_A_RUN if run_files.is_run({entry.name for entry in entries}) else ()
    return sorted(e.name for e in entries if is_folder(e) and not e.name.startswith(".") and e.name not in own)


def _claimed(names: Sequence[str], split_of: Callable[[str], str | None]) -> dict[str, str]:
    """Split -> the one folder that is called so; without those for which there are several."""
    claims: dict[str, list[str]] = {}
    for name in names:
        if (split := split_of(name)) is not None:
            claims.setdefault(split, []).append(name)
    return {split: some[0] for split, some in claims.items() if len(some) == 1}


def _beside(root: Path, names: Sequence[str], found: Mapping[str, str]) -> bool:
    """Whether there are images outside of the folders found."""
    return bool(loose_images(root)) or any(
        list_images(root / name).files for name in names if name not in found.values()
    )


def _suspects(names: Sequence[str]) -> list[str]:
    """A note if folders that are no splits are called as if they were, so that test images are trained on."""
    splits = {name: _split_named(name) for name in names}
    if not set(splits.values()) - {None, "train"}:  # one word in a name says nothing: crash_test/
        splits = {name: _split_hinted_at(name) for name in names}
        if len(set(splits.values()) - {None}) < 2:
            return []
    some = [name for name, split in splits.items() if split]
    return [
        f"Not taken as splits, so that all images in them are trained on: {', '.join(map(shown, some[:NAMED]))}"
        f"{', ...' if len(some) > NAMED else ''} (expected: one folder called train, and others called val or test)"
    ]


def _split_named(name: str) -> str | None:
    """'Training_Set' -> 'train'."""
    bare = re.sub(rf"^(?:{AROUND}[\W_]+)?(.*?)[\W_]*{AROUND}?[\W_]*\d*$", r"\1", name.lower())
    return next((split for split, words in WORDS.items() if bare in words), None)


def _split_hinted_at(name: str) -> str | None:
    """'seg_train' -> 'train'; None for a name that has words of several."""
    parts = re.split(r"[^a-z]+", name.lower())
    hints = {split for split, words in WORDS.items() for word in words if word in parts}
    return hints.pop() if len(hints) == 1 else None


def of_other_splits(files: Iterable[str]) -> list[str]:
    """A note where images of one split lie in folders that are called as another is, as in cat/test/1.jpg."""
    folders = sorted({file.rpartition(os.sep)[0] for file in files})
    wrong = [place for place in folders if {_split_named(part) for part in Path(place).parts[1:]} - {None, "train"}]
    if not wrong:
        return []
    more = f" and {len(wrong) - 1:,} more folders" if len(wrong) > 1 else ""
    return [
        f"Trained on, although their folders are called as other splits are: images in {shown(wrong[0])}/{more} "
        "(expected: train, val and test, side by side)"
    ]
