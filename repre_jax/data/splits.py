"""Which folders are splits: 'train' and 'val', and what else people call them; data/split_syntax.py takes parts."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from repre_jax.core import passing, run_files
from repre_jax.data.listing import NAMED, OF_A_RUN, is_folder, line, list_images, loose_images, shown

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}  # folder -> split, exactly
# What else they are called, in any case, with 'set', 'images' and numbers around it: 'Training', 'test_set', 'val2017'.
WORDS = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "validate", "dev", "eval"),
    "test": ("test", "testing", "tst", "evaluation", "holdout", "heldout"),
}
SPLITS_ARE = "Splits: "
LAST = ("holdout", "heldout")  # of two folders for one split the other one is it
AROUND = r"(?:set|data|dataset|images?|imgs?|pictures|photos|split)"
PART = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"  # of a name in which several words stand, as in 'seg_train' or 'trainA'


def splits_of(root: Path) -> tuple[dict[str, Path], list[str]]:
    """(Folder of each split below `root` by the split's name, {'train': root} where there are none; notes).

    Folders called exactly train, val, validation or test are splits if there is a train among them. Other names that
    mean as much are splits, too, if at least two of them are there or no other images lie beside them: a class may well
    be called 'Train'. So are names that hold such a word, as in 'seg_train', if two are there and nothing beside them
    but what is called alike, as 'seg_pred'. Where one folder holds all images and splits, as YOLO's images/, these are.
    """
    names = _folders(root)
    found, notes = _side_by_side(root, names)
    return (found, notes) if found else _deeper(root, names) or ({"train": root}, _suspects(names))


def _side_by_side(root: Path, names: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """Those directly below `root`, whose folders these are, and notes; ({}, []) where there are none."""
    exact = {SPLITS[name]: name for name in SPLITS if name in names}
    found = _claimed(names, _split_named) | exact
    if "train" not in exact and ("train" not in found or (len(found) < 2 and _beside(root, names, found))):
        found = _claimed(names, _split_hinted_at)
        others = [name for name in names if name not in found.values()]
        kept = names if not _called_alike(found, others) else list(found.values())
        if "train" not in found or len(found) < 2 or _beside(root, kept, found):
            return {}, []
    notes = [] if found == exact else [_named({split: Path(found[split]) for split in WORDS if split in found})]
    beside = f"beside {shown(found['train'])}/"
    if others := [os.fspath(root / name) for name in names if name not in found.values()]:
        notes.append(line("Passed over", others, "folder", "is no split", beside))
    if loose := loose_images(root):
        notes.append(line("Passed over", loose, "image", "is in no split", beside))
    return {split: root / found[split] for split in WORDS if split in found}, notes


def _deeper(root: Path, names: Sequence[str]) -> tuple[dict[str, Path], list[str]] | None:
    """Splits, at least two, in the one folder that holds all images: the only one, or one called images or alike."""
    for name in names if len(names) == 1 else [name for name in names if re.fullmatch(AROUND, name.lower())]:
        found, notes = splits_of(root / name)
        if len(found) > 1 and not _beside(root, names, {"": name}):
            notes = [note for note in notes if not note.startswith(SPLITS_ARE)]
            others = [os.fspath(root / other) for other in names if other != name]
            passed = [line("Passed over", others, "folder", "is no split", f"beside {shown(name)}/")] if others else []
            return found, [_named({split: path.relative_to(root) for split, path in found.items()}), *passed, *notes]
    return None


def _named(found: Mapping[str, Path]) -> str:
    return SPLITS_ARE + ", ".join(f"{split} is {shown(place)}/" for split, place in found.items())


def _folders(root: Path) -> list[str]:
    """Names of the folders in it, sorted, but hidden ones and a run's own."""
    try:
        with os.scandir(root) as listed:
            entries = list(listed)
    except OSError as error:
        passing.check(error, f"{shown(root)} cannot be read")
        return []
    own = OF_A_RUN if run_files.is_run({entry.name for entry in entries}) else ()
    return sorted(e.name for e in entries if is_folder(e) and not e.name.startswith(".") and e.name not in own)


def _claimed(names: Sequence[str], split_of: Callable[[str], str | None]) -> dict[str, str]:
    """Split -> the one folder that is called so; without those for which there are several. Of a test and a holdout
    the test is it."""
    claims: dict[str, list[str]] = {}
    for name in names:
        if (split := split_of(name)) is not None:
            claims.setdefault(split, []).append(name)
    better = {split: [name for name in some if not _is_last(name)] or some for split, some in claims.items()}
    return {split: some[0] for split, some in better.items() if len(some) == 1}


def _is_last(name: str) -> bool:
    return any(word in re.sub(r"[\W_]", "", name.lower()) for word in LAST)


def _called_alike(found: Mapping[str, str], others: Sequence[str]) -> bool:
    """Whether other folders have the names of the splits with another word, as 'seg_pred' beside 'seg_train'."""
    words = {word for some in WORDS.values() for word in some}
    patterns = {
        re.sub(PART, lambda part: "*" if part[0].lower() in words else part[0], name) for name in found.values()
    }
    if len(patterns) != 1:
        return False
    before, _, after = patterns.pop().lower().partition("*")
    common = len(re.findall("[a-z]", before + after)) > 1
    return common and all(name.lower().startswith(before) and name.lower().endswith(after) for name in others)


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
    bare = re.sub(r"[\W_]+", "", bare)  # hold-out
    return next((split for split, words in WORDS.items() if bare in words), None)


def _split_hinted_at(name: str) -> str | None:
    """'seg_train', 'trainA' -> 'train'; None for a name that has words of several."""
    parts = [part.lower() for part in re.findall(PART, name)]
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
