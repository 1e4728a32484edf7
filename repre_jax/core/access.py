"""What this user may not do with a file, and what would let them: in words, for an error of the system."""

import os
import shlex
from pathlib import Path


def explained(filename: object) -> str:
    """The message on EACCES. filename: the error's own, a path if it names one, and as it was given: a folder above the
    current one may be closed, and is not on the way.

    What is closed may be a folder on the way; if nothing is, the file or a new one in its folder was to be written.
    """
    if not isinstance(filename, str | bytes | os.PathLike):
        return "A file: this user may not read or write it.\n  change:   another path"
    path = Path(os.fsdecode(filename))
    for place in (*reversed(path.parents), path):
        if not os.path.lexists(place):
            break
        wanted = os.X_OK if place != path else os.R_OK | (os.X_OK if place.is_dir() else 0)
        if not os.access(place, wanted, effective_ids=os.access in os.supports_effective_ids):
            ours = place.stat().st_uid == os.geteuid()
            who, whose = ("u", "") if ours else ("a", ", by its owner")
            what = "read it" if place == path else f"enter {place}"
            command = shlex.join(["chmod", "-R", f"{who}+rX", os.fspath(place)])
            return f"{path}: this user may not {what}.\n  change:   {command}{whose}; or another path"
    return f"{path}: this user may not write it.\n  change:   another path"
