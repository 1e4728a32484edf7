"""Does the runs that a table lacks, one after another, each in a process of its own; what is finished is kept."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.report import console
from repre_jax.reproduction import cells, finished
from repre_jax.reproduction.cells import Cell
from repre_jax.reproduction.runs import MAIN, Run
from repre_jax.running import workdir as locks
from repre_jax.system import shipped, terminal

PRINTED = "printed.json"  # of a measurement, until it has ended
SECONDS_BETWEEN_LOOKS = 2.0  # at a run that another process is at


@dataclass
class Found:
    """What is known of runs: finished ones by their cells, failed ones by the log, those not taken by the reason."""

    cells: dict[Run, Cell] = field(default_factory=dict)
    failed: dict[Run, Path] = field(default_factory=dict)
    refused: dict[Run, str] = field(default_factory=dict)


def look(runs: Iterable[Run], workdir: Path, results: Path, *, write: bool = True) -> Found:
    """Reads the runs' cells. Of finished runs in the workdir that have none it makes them; writes these if `write`."""
    found = Found()
    for run in dict.fromkeys(runs):
        try:
            cell = cells.read(results, run)
        except UserError as damaged:
            cell, found.refused[run] = None, str(damaged)
        if cell is not None and cell.digest == run.digest:
            found.cells[run] = cell
            continue
        if cell is not None:
            keys = ", ".join(cells.differing(cell, run)[:3])
            found.refused[run] = f"{cells.FOLDER}/{run.name}.json is of another config, and is not taken: {keys}"
        cell = finished.cell_of(run, workdir)
        if cell is not None:
            if write:
                cells.write(results, cell)
            found.cells[run] = cell
            found.refused.pop(run, None)
        elif why := finished.why_not(run, workdir):
            found.refused[run] = f"{run.name} is not taken: {why}"
    return found


def lacking(runs: Iterable[Run], drawn: Iterable[Run], found: Found, workdir: Path) -> list[Run]:
    """What must be run, in order: these runs but for those that are known, each behind what it starts from; and of
    those to be drawn the ones that are not in the workdir, whether known or not."""
    needed = [run for run in dict.fromkeys(runs) if run not in found.cells]
    lineages = [each for run in (*needed, *drawn) for each in run.lineage()]
    return [run for run in dict.fromkeys(lineages) if finished.cell_of(run, workdir) is None]


def do(runs: Sequence[Run], found: Found, workdir: Path, results: Path) -> None:
    """Does these runs, each once what it starts from is done, and adds to `found` what comes of them.

    One that fails is named, and what starts from it is left out; all others are done. One that another process is at,
    as on a second start beside this, or after this was killed, is waited for. Raises whatever interrupts it, once the
    run at hand has ended.
    """
    waiting, told = list(runs), False
    while waiting:
        run = next((run for run in waiting if not _elsewhere(run, workdir)), None)
        if run is None:
            if not told:
                terminal.say(f"Waiting for the process that is at {waiting[0].name}.")
            told = True
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        told = False
        waiting.remove(run)
        if run.parent in found.failed:
            found.failed[run] = found.failed[run.parent]
            continue
        cell = finished.cell_of(run, workdir)  # by another process, meanwhile
        log = workdir / finished.LOGS / f"{run.name}.log"
        if cell is None:
            number = len(runs) - len(waiting)
            terminal.say(f"[{number} of {len(runs)}] {run.name}{_left([run, *waiting], found.cells)}")
            _start(run, log, workdir)
            cell = finished.cell_of(run, workdir)
        if cell is None and _elsewhere(run, workdir):  # another process was faster
            waiting.insert(0, run)
        elif cell is None:
            found.failed[run] = log
            terminal.warn(f"Failed: {run.name}, see {log}\n  {_last_words(log)}")
        else:
            cells.write(results, cell)
            found.cells[run] = cell
            found.refused.pop(run, None)


def _elsewhere(run: Run, workdir: Path) -> bool:
    """Whether another process is at it, or at what it starts from."""
    return any(locks.is_locked(workdir / each.name) for each in run.lineage())


def _start(run: Run, log: Path, workdir: Path) -> None:
    """Starts the run's process and waits for its end. Its output goes behind what the log holds; what it took of the
    processor is noted, also of a start that was interrupted."""
    record, folder = finished.seconds_path(run, workdir), workdir / run.name
    starts = (run_files.read_json(record) or {}).get(finished.STARTS, [])
    run_files.write_json(record, {finished.STARTS: [*starts, None]})
    with contextlib.ExitStack() as files:
        output = files.enter_context(run_files.open_file(log, "a"))
        command, printed = [str(shipped.root() / MAIN)], output
        if run.program != MAIN:
            command = ["-m", run.program]
            files.enter_context(locks.locked(folder))
            run_files.remove(folder / PRINTED, missing_ok=True)
            printed = files.enter_context(run_files.open_file(folder / PRINTED, "a"))
        process = subprocess.Popen(
            [sys.executable, *command, *run.arguments(workdir)], cwd=shipped.root(), stdout=printed, stderr=output
        )
        try:
            seconds = _waited(process)
        except BaseException:
            process.terminate()  # it saves what is done; Ctrl-C it has had itself
            run_files.write_json(record, {finished.STARTS: [*starts, _waited(process)]})
            raise
        if run.program != MAIN and process.returncode == 0:
            run_files.move(folder / PRINTED, folder / run_files.RESULT)
    if process.returncode and _elsewhere(run, workdir):
        run_files.write_json(record, {finished.STARTS: starts})  # it was refused: the time is the other's to note
    else:
        run_files.write_json(record, {finished.STARTS: [*starts, seconds]})


def _waited(process: subprocess.Popen) -> float:
    """Processor seconds of a process and of those that it has waited for, once it has ended."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


def _last_words(log: Path) -> str:
    lines = run_files.read_text(log, "replace").strip().splitlines()
    return "\n  ".join(lines[-3:])


def _left(runs: Sequence[Run], known: Mapping[Run, Cell]) -> str:
    """', about 2:10:00 left' by the clock; '' before anything is known."""
    left = expected(runs, known, lambda cell: cell.metrics.get("seconds"))
    return f"; about {console.duration(left)} left" if left else ""


def expected(runs: Sequence[Run], known: Mapping[Run, Cell], seconds: Callable[[Cell], float | None]) -> float | None:
    """Seconds that these runs will take, by how long the like took; one of a kind that is not known counts as the mean
    of the kinds that are. None before anything is known."""
    by_kind: dict[str, list[float]] = {}
    for run, cell in known.items():
        if (took := seconds(cell)) is not None:
            by_kind.setdefault(run.kind, []).append(took)
    times = {kind: sum(took) / len(took) for kind, took in by_kind.items()}
    if not times:
        return None
    usual = sum(times.values()) / len(times)
    return sum(times.get(run.kind, usual) for run in runs)
