"""What this user may not do with a file, and what would let them: in words, for an error of the system."""

import os
import shlex
import stat
from pathlib import Path


def explained(filename: object) -> str:
    """The message on EACCES. filename: the error's own, a path if it names one, and as it was given: a folder above the
    current one may be closed, and is not on the way.

    What is closed may be a folder on the way, also to where a link leads; if nothing is, the file or a new one in its
    folder was to be written. Raises nothing: it is called while the error is handled.
    """
    if not isinstance(filename, str | bytes | os.PathLike):
        return "A file: this user may not read or write it.\n  change:   another path"
    path = Path(os.fsdecode(filename))
    found = _closed(path)
    if found is None:
        return f"{path}: this user may not write it.\n  change:   another path"
    place, way = found
    who, whose = ("u", "") if _is_ours(place) else ("a", ", by its owner")
    # A folder on the way need only be entered; what else is in it, perhaps a home, stays closed.
    change = ["chmod", f"{who}+x"] if way else ["chmod", "-R", f"{who}+rX"]
    command = shlex.join([*change, os.fspath(place)])
    what = f"enter {place}" if way else "read it"
    return f"{path}: this user may not {what}.\n  change:   {command}{whose}; or another path"


def _closed(path: Path) -> tuple[Path, bool] | None:
    """The first place on the way to `path`, or itself, that is closed, and whether it is on the way."""
    for place in (*reversed(path.parents), path):
        if not os.path.lexists(place):
            return None
        way = place != path
        wanted = os.X_OK if way else os.R_OK | (os.X_OK if _is_folder(place) else 0)
        if os.access(place, wanted, effective_ids=os.access in os.supports_effective_ids):
            continue
        if _is_link(place):
            leads = Path(os.path.realpath(place))
            # One that leads nowhere, or around, is not closed.
            inner = None if _is_link(leads) else _closed(leads)
            return inner and (inner[0], way or inner[1])
        return place, way
    return None


def _is_ours(place: Path) -> bool:
    found = _status(place)
    return found is not None and found.st_uid == os.geteuid()


def _is_folder(place: Path) -> bool:
    found = _status(place)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _is_link(place: Path) -> bool:
    found = _status(place, follow=False)
    return found is not None and stat.S_ISLNK(found.st_mode)


def _status(place: Path, *, follow: bool = True) -> os.stat_result | None:
    """None where this user may not know it; Path's own is_dir and is_symlink raise there."""
    try:
        return place.stat(follow_symlinks=follow)
    except OSError:
        return None
