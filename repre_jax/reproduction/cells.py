"""Cells: what a finished run came to, as a small file that can be committed, or copied from another machine.

RESULTS/cells/NAME.json, of each run of a table: the command, the digest of its config and of those of the runs that it
starts from, commit, machine, date, seed, versions, and every number of its result.json.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from repre_jax.core import run_files
from repre_jax.reproduction.runs import Run

FOLDER = "cells"
STARTS = "processor_seconds"  # in NAME.json: a number a start, null where its end was not seen
LOGS = "logs"  # in the workdir: of each run what it printed, NAME.log, and what its starts took, NAME.json


@dataclass(frozen=True)
class Cell:
    """A finished run. metrics: the numbers of result.json, by dotted keys. processor_seconds: user and system, of all
    starts of the run; None where they are not known. date, machine, devices, versions, commit: of its last start."""

    name: str
    command: str
    digest: str
    seed: int
    commit: str | None
    date: str
    machine: str
    devices: str
    versions: Mapping[str, str | None]
    processor_seconds: float | None
    metrics: Mapping[str, float]


def path_of(results: Path, run: Run) -> Path:
    return results / FOLDER / f"{run.name}.json"


def read(results: Path, run: Run) -> Cell | None:
    """The run's cell, whatever its digest; None where there is none, or it is damaged."""
    content = run_files.read_json(path_of(results, run), tuple(Cell.__dataclass_fields__))
    return None if content is None else Cell(**{name: content[name] for name in Cell.__dataclass_fields__})


def of_folder(run: Run, workdir: Path) -> Cell | None:
    """What the finished run in its folder below `workdir` came to, whatever its config; None where it is not
    finished."""
    folder = workdir / run.name
    result = run_files.read_json(folder / run_files.RESULT)
    if result is None:
        return None
    starts = list(run_files.read_metrics(folder / run_files.STARTS))
    start = starts[-1] if starts else result  # a measurement's result holds both
    return Cell(
        name=run.name,
        command=start.get("command", ""),
        digest=run.digest,
        seed=run.seed,
        commit=start.get("commit"),
        date=str(start.get("time", start.get("date", "")))[:10],
        machine=start.get("machine", ""),
        devices=start.get("devices", start.get("device", "")),
        versions=start.get("versions", {}),
        processor_seconds=seconds(workdir, run),
        metrics=numbers(result),
    )


def write(results: Path, cell: Cell) -> None:
    folder = results / FOLDER
    run_files.make_folder(folder, parents=True)
    run_files.write_json(folder / f"{cell.name}.json", asdict(cell))


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """All numbers of a result but for lists, by dotted keys."""
    return {
        key: value
        for key, value in run_files.flat(dict(result)).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def seconds(workdir: Path, run: Run) -> float | None:
    """Processor seconds of all starts of a run; None where one of them is not known."""
    starts = (run_files.read_json(seconds_path(workdir, run)) or {}).get(STARTS, [None])
    return None if None in starts else sum(starts)


def seconds_path(workdir: Path, run: Run) -> Path:
    return workdir / LOGS / f"{run.name}.json"
