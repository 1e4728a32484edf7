"""Finished runs in a workdir: what one came to, and whether it is the run that a table means.

A folder may hold a run of the same name that was started by hand with other flags, or before the configs changed, and
an evaluation may be older than the pre-training beside it. Such a run is not taken.
"""

import datetime
import re
import shlex
from pathlib import Path
from typing import Any

from repre_jax.core import config_paths, run_files
from repre_jax.reproduction import cells
from repre_jax.reproduction.cells import Cell
from repre_jax.reproduction.runs import LEFT_OUT, MAIN, Run

LOGS = "logs"  # in the workdir: of each run what it printed, NAME.log, and what its starts took, NAME.json
STARTS = "processor_seconds"  # in NAME.json: a number a start, null where its end was not seen


def cell_of(run: Run, workdir: Path) -> Cell | None:
    """What the run came to; None where it is not finished, or is not what the configs say now."""
    return None if _result(run, workdir) is None or why_not(run, workdir) else _cell(run, workdir)


def why_not(run: Run, workdir: Path) -> str:
    """Why the finished run in its folder is not the one that is meant; '' where it is, or nothing is finished there."""
    if _result(run, workdir) is None:
        return ""
    begun = None
    for each in run.lineage():
        if _result(each, workdir) is None:
            return f"{each.name}, which it started from, is not there any more"
        if different := _differing(each, workdir):
            return f"{each.name} in the workdir is of another config: {', '.join(different[:3])}"
        starts = _starts(each, workdir)
        if begun is not None and starts and _time(starts[0]) < begun:
            return f"{each.name} in the workdir is older than what it started from"
        begun = _time(starts[-1]) if starts else begun
    return ""


def _result(run: Run, workdir: Path) -> dict[str, Any] | None:
    return run_files.read_json(workdir / run.name / run_files.RESULT)


def _starts(run: Run, workdir: Path) -> list[dict[str, Any]]:
    return list(run_files.read_metrics(workdir / run.name / run_files.STARTS))


def _time(start: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.strptime(start["time"], "%Y-%m-%dT%H:%M:%S%z")


def _differing(run: Run, workdir: Path) -> list[str]:
    """Keys of config.json that the config sets to something else, and keys that a start's command has set beside."""
    if run.program != MAIN:
        return _of_command(run, (_result(run, workdir) or {}).get("command", ""))
    stored = run_files.read_config(workdir / run.name)
    if stored is None:
        return [f"{run_files.CONFIG} is missing or damaged"]
    flat = run_files.flat(stored)
    found = [key for key, value in run.settings.items() if not config_paths.same(key, flat.get(key), value)]
    return found + [key for start in _starts(run, workdir) for key in _of_command(run, start["command"])]


def _of_command(run: Run, command: str) -> list[str]:
    """What a command says that the run's own does not: the config or its variants, or keys."""
    words = shlex.split(command)
    text = " ".join(words)
    config = re.search(r"--?config[= ](\S+)", text)
    wanted = run.arguments(Path())
    own = f"{run.config}:{run.variants}".rstrip(":")
    given = re.sub(r"^.*/|\.py(?=:|$)", "", config[1]) if config else ""
    keys = {match[1] for word in words if (match := re.match(r"--?(?:no)?config\.([^=]+)", word))}
    known = {match[1] for word in wanted if (match := re.match(r"--config\.([^=]+)", word))}
    beside = sorted(key for key in keys - known if not key.startswith(LEFT_OUT))
    return [*([f"--config {config[1] if config else 'unknown'}"] if given != own else []), *beside]


def _cell(run: Run, workdir: Path) -> Cell:
    result, starts = _result(run, workdir) or {}, _starts(run, workdir)
    start = starts[-1] if starts else result  # a measurement's result holds both
    data = result.get("data_set")
    return Cell(
        name=run.name,
        command=run.command(Path("runs"), f"python {MAIN}"),  # the start's own has paths of its machine
        settings=[each.settings for each in run.lineage()],
        digest=run.digest,
        seed=run.seed,
        commit=start.get("commit"),
        date=str(start.get("time", start.get("date", "")))[:10],
        machine=start.get("machine", ""),
        devices=start.get("devices", start.get("device", "")),
        versions=start.get("versions", {}),
        data_set={key: value for key, value in (data or {}).items() if isinstance(value, str | int)},
        weights=result.get("weights_sha256"),
        processor_seconds=_seconds(run, workdir),
        metrics=cells.numbers(result),
    )


def _seconds(run: Run, workdir: Path) -> float | None:
    """Processor seconds of all starts of a run; None where one of them is not known."""
    starts = (run_files.read_json(seconds_path(run, workdir)) or {}).get(STARTS, [None])
    return None if None in starts else sum(starts)


def seconds_path(run: Run, workdir: Path) -> Path:
    return workdir / LOGS / f"{run.name}.json"
