"""Paths that users give, made absolute: what a run stores leads to the same place wherever it is read from."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repre_jax.core import buckets
from repre_jax.core.errors import UserError

if TYPE_CHECKING:  # tools/doctor.py works where packages are missing
    from ml_collections import ConfigDict

FOLDER = "folder:"  # how data.name begins where a path follows
KEYS = (
    "data.name",
    "data.dir",
    "data.decoded_cache",
    "init_from",
    "evaluate",
)  # of configs, whose values are or hold a path


def absolute(path: str | os.PathLike) -> Path:
    """The path from the root, '~' taken for the home folder of whoever it names; of gs://BUCKET/... core/buckets.py's.

    Raises UserError where nobody knows that folder: of an unknown user, or of this one in many containers; and for what
    core/buckets.py refuses.
    """
    if buckets.is_address(path):
        return buckets.path(path)
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        name = Path(path).parts[0]
        if name == "~":
            whose, other = "nobody knows the home folder of this user", "set the variable HOME to a folder"
        else:
            whose, other = f"there is no user {name[1:]!r}", f"./{os.fspath(path)}, for a folder of that name"
        raise UserError(
            f"{os.fspath(path)!r} cannot be followed: {whose}.\n"
            f"  change:   write the path in full, as in /data/photos; or {other}"
        ) from None


def typed(text: str | os.PathLike) -> Path:
    """A path as it was typed: pathlib would make gs:/ of gs://."""
    return absolute(text) if buckets.is_address(text) else Path(text)


def argument(text: str) -> Path:
    """typed, as the type of an argument of argparse, which says what is wrong with it."""
    try:
        return typed(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def local(path: str | os.PathLike, given: str | None = None) -> Path:
    """absolute, of what is read at random places, or by something that knows no buckets. given: as a message quotes it.

    Raises UserError for what is on no disk, too.
    """
    if buckets.is_address(path):
        raise UserError(
            f"{given or os.fspath(path)} is on no disk.\n  expected: a folder or file of this machine\n"
            f"  change:   copy it (gcloud storage cp -r {os.fspath(path)} .), or mount the bucket (gcsfuse)"
        )
    return absolute(path)


def local_argument(text: str) -> Path:
    """A path as it was typed, which local takes: the type of an argument of argparse."""
    try:
        local(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


def resolved(path: str | os.PathLike) -> Path:
    """absolute, with all links followed."""
    whole = absolute(path)
    return whole if buckets.holds(whole) else whole.resolve()


def stored(key: str, value: Any) -> Any:
    """The value of a config's key with its path made absolute; any other value as it is."""
    if key not in KEYS or not isinstance(value, str) or not value:
        return value
    if key == "data.name":
        place = value.removeprefix(FOLDER)
        return value if place == value else f"{FOLDER}{local(place, f'{key}={value}')}"
    return str(local(value, f"{key}={value}") if key.startswith("data.") else absolute(value))


def refuse_nothing(key: str, value: Any) -> None:
    """Raises UserError for 'folder:' with nothing behind it, as an unset variable leaves it: it would be the current
    folder."""
    if key == "data.name" and isinstance(value, str) and value.strip() == FOLDER:
        raise UserError(
            f"data.name is {value!r}, without a folder.\n"
            "  expected: folder:PATH, as in folder:photos; the current folder is folder:.\n"
            "  change:   --config.data.name=folder:PATH"
        )


def is_relative(key: str, value: Any) -> bool:
    """Whether a stored value is a path that the current folder decides on: versions up to 0.1.0 stored such ones."""
    if key not in KEYS or not isinstance(value, str) or (key == "data.name" and not value.startswith(FOLDER)):
        return False
    path = value.removeprefix(FOLDER)
    return not path.startswith(("/", "~", buckets.SCHEME))


def same(key: str, before: Any, now: Any) -> bool:
    """Whether two values of a key are equal or lead to the same place, of which the one before may be relative."""
    if before == now:
        return True
    values = (before, now)
    if key not in KEYS or not all(isinstance(value, str) for value in values):
        return False
    if key == "data.name" and not all(value.startswith(FOLDER) for value in values):
        return False
    try:
        places = [stored(key, value).removeprefix(FOLDER) for value in values]
    except UserError:  # one of them cannot be followed here
        return False
    return os.path.realpath(places[0]) == os.path.realpath(places[1])


def settle(config: "ConfigDict") -> None:
    """Makes every path in a config absolute. Raises UserError for one that cannot be followed, or is left out."""
    for key in KEYS:
        *groups, last = key.split(".")
        node = config
        for group in groups:
            node = node.get(group) or {}
        if last in node:
            refuse_nothing(key, node[last])
            node[last] = stored(key, node[last])
