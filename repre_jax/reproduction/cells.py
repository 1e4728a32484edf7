"""Cells: what a finished run came to, as a small file that can be committed, or copied from another machine.

RESULTS/cells/NAME.json, of each run of a table: the command, the settings of the run and of those that it starts from
with their digest, commit, machine, date, seed, versions, the data, and every number of its result.json.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.reproduction.runs import Run

FOLDER = "cells"


@dataclass(frozen=True)
class Cell:
    """A finished run. Nothing in it is a path of the machine that it was computed on.

    settings: runs.Run.settings of the run's lineage. digest: of these. data_set: name, version and contents, as
    result.json has them. weights: SHA-256 of the encoder that an evaluation is of. processor_seconds: user and system,
    of all starts of the run; None where they are not known. metrics: the numbers of result.json, by dotted keys.
    commit, date, machine, devices, versions: of its last start.
    """

    name: str
    command: str
    settings: Sequence[Mapping[str, Any]]
    digest: str
    seed: int
    commit: str | None
    date: str
    machine: str
    devices: str
    versions: Mapping[str, str | None]
    data_set: Mapping[str, Any]
    weights: str | None
    processor_seconds: float | None
    metrics: Mapping[str, float]


TYPES = {
    "name": str,
    "command": str,
    "settings": list,
    "digest": str,
    "seed": int,
    "commit": str | None,
    "date": str,
    "machine": str,
    "devices": str,
    "versions": dict,
    "data_set": dict,
    "weights": str | None,
    "processor_seconds": int | float | None,
    "metrics": dict,
}


def path_of(results: Path, run: Run) -> Path:
    return results / FOLDER / f"{run.name}.json"


def read(results: Path, run: Run) -> Cell | None:
    """The run's cell, whatever its digest; None where there is none. Raises UserError for one that is damaged."""
    path = path_of(results, run)
    if not run_files.exists(path):
        return None
    content = run_files.read_json(path, tuple(TYPES))
    if content is None or not _whole(content):
        raise UserError(f"{FOLDER}/{path.name} is damaged, and is not taken")
    return Cell(**{name: content[name] for name in TYPES})


def _whole(content: Mapping[str, Any]) -> bool:
    metrics = content["metrics"]
    return all(isinstance(content[name], kind) for name, kind in TYPES.items()) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in metrics.values()
    )


def differing(cell: Cell, run: Run) -> list[str]:
    """Keys whose values differ from those of the run and of what it starts from."""
    now = [each.settings for each in run.lineage()]
    if len(now) != len(cell.settings):
        return ["what it starts from"]
    pairs = zip(cell.settings, now, strict=True)
    return [key for before, after in pairs for key in sorted({*before, *after}) if before.get(key) != after.get(key)]


def write(results: Path, cell: Cell) -> None:
    folder = results / FOLDER
    run_files.make_folder(folder, parents=True)
    run_files.write_json(folder / f"{cell.name}.json", asdict(cell))


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """All finite numbers of a result but for lists, by dotted keys."""
    return {
        key: value
        for key, value in run_files.flat(dict(result)).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
