"""What a folder must hold to be whole: size and SHA-256 of each file, in a manifest beside it.

Written last, so that a folder without a manifest was never finished. The library that writes the files does not notice
when a bit of them changes later; this does.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from repre_jax.core import buckets, run_files

SUFFIX = ".manifest.json"


def path_of(folder: Path) -> Path:
    """Of the manifest, beside `folder`."""
    return folder.with_name(folder.name + SUFFIX)


def write(folder: Path, **facts: Any) -> None:
    """Measures every file below `folder`, then writes the manifest in one go, with `facts` in it too."""
    names = run_files.files_below(folder)
    files = dict(zip(names, _measure(folder, names), strict=True))
    run_files.write_json(path_of(folder), facts | {"files": files})


def amend(folder: Path, **facts: Any) -> None:
    """Changes facts in a manifest that is there."""
    run_files.write_json(path_of(folder), (read(folder) or {}) | facts)


def finished(directory: Path) -> list[int]:
    """The numbers of the folders in it that are named by one and have a manifest, smallest first."""
    names = (path.name.removesuffix(SUFFIX) for path in run_files.matching(directory, f"*{SUFFIX}"))
    return sorted(int(name) for name in names if name.isdigit() and run_files.is_folder(directory / name))


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest, None when there is none or it is not whole."""
    content = run_files.read_json(path_of(folder), ("files",))
    return content if content and content["files"] else None


def fault(folder: Path) -> str | None:
    """What is wrong with a folder that has a manifest, None when every file is as it was written. Raises BucketError
    when that cannot be told."""
    manifest = read(folder)
    if manifest is None:
        return "its manifest is damaged"
    missing = [name for name in manifest["files"] if not run_files.is_file(folder / name)]
    if missing:
        return f"its file {missing[0]} is missing"
    try:
        found = _measure(folder, list(manifest["files"]))
    except buckets.BucketError:
        raise
    except OSError as error:
        return f"it cannot be read: {error}"
    for name, expected, measured in zip(manifest["files"], manifest["files"].values(), found, strict=True):
        if measured != expected:
            short = measured["bytes"] != expected["bytes"]
            return f"its file {name} " + (
                f"has {measured['bytes']:,} of {expected['bytes']:,} bytes" if short else "has other content"
            )
    return None


def size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(run_files.bytes_of(folder / name) for name in run_files.files_below(folder))


def _measure(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    def one(name: str) -> dict[str, Any]:
        with buckets.told(folder), run_files.open_file(folder / name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": file.tell(), "sha256": digest}

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, names))
