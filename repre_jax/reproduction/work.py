"""Does the runs that a table lacks, one after another, each in a process of its own; what is finished is kept."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from repre_jax.core import config_paths, run_files
from repre_jax.report import console
from repre_jax.reproduction import cells
from repre_jax.reproduction.cells import Cell
from repre_jax.reproduction.runs import MAIN, Run
from repre_jax.running import workdir as locks
from repre_jax.system import shipped, terminal

PRINTED = "printed.json"  # of a measurement, until it has ended
SECONDS_BETWEEN_LOOKS = 2.0  # at a run that another process is at


@dataclass
class Found:
    """What is known of runs: finished ones by their cells, failed ones by the log, others whose config has changed
    since, by what has."""

    cells: dict[Run, Cell] = field(default_factory=dict)
    failed: dict[Run, Path] = field(default_factory=dict)
    changed: dict[Run, str] = field(default_factory=dict)


def look(runs: Iterable[Run], workdir: Path, results: Path, *, write: bool = True) -> Found:
    """Reads the runs' cells. Of finished runs in the workdir that have none it makes them; writes these if `write`."""
    found = Found()
    for run in dict.fromkeys(runs):
        cell = cells.read(results, run)
        if cell is not None and cell.digest == run.digest:
            found.cells[run] = cell
            continue
        if cell is not None:
            found.changed[run] = f"{cells.path_of(results, run)} is of another config, and is not taken"
        finished = cells.of_folder(run, workdir)
        if finished is not None:
            differing = _differing(run, workdir)
            if differing:
                found.changed[run] = (
                    f"{workdir / run.name} holds a run of another config, and is not taken: {differing}"
                )
                continue
            if write:
                cells.write(results, finished)
            found.cells[run] = finished
            found.changed.pop(run, None)
    return found


def _differing(run: Run, workdir: Path) -> str:
    """Keys of the finished runs in the workdir, this one and those that it starts from, that differ from the configs;
    '' for none."""
    differing = []
    for each in run.lineage():
        stored = run_files.flat(run_files.read_config(workdir / each.name) or {})
        if stored:
            settings = each.settings.items()
            differing += [key for key, value in settings if not config_paths.same(key, stored.get(key), value)]
    return ", ".join(differing[:3])


def lacking(runs: Iterable[Run], drawn: Iterable[Run], found: Found, workdir: Path) -> list[Run]:
    """What must be run, in order: these runs but for those that are known, each behind what it starts from; and of
    those to be drawn the ones that are not in the workdir, whether known or not."""
    needed = [run for run in dict.fromkeys(runs) if run not in found.cells]
    absent = [each for run in (*needed, *drawn) for each in run.lineage() if _finished(each, workdir) is None]
    return list(dict.fromkeys(absent))


def _finished(run: Run, workdir: Path) -> Cell | None:
    """What the run came to, if it is finished with the config that it has now."""
    return None if _differing(run, workdir) else cells.of_folder(run, workdir)


def do(runs: Sequence[Run], found: Found, workdir: Path, results: Path) -> None:
    """Does these runs, each once what it starts from is done, and adds to `found` what comes of them.

    One that fails is named, and what starts from it is left out; all others are done. One that another process is at,
    as on a second start beside this, or after this was killed, is waited for. Raises whatever interrupts it, once the
    run at hand has ended.
    """
    run_files.make_folder(workdir / cells.LOGS, parents=True)
    waiting, waited = list(runs), False
    while waiting:
        run = next((run for run in waiting if not _elsewhere(run, workdir)), None)
        if run is None:
            if not waited:
                terminal.say(f"Waiting for the process that is at {waiting[0].name}.")
            waited = True
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        waited = False
        waiting.remove(run)
        if run.parent in found.failed:
            found.failed[run] = found.failed[run.parent]
            continue
        number = len(runs) - len(waiting)
        terminal.say(f"[{number} of {len(runs)}] {run.name}{_left([run, *waiting], found.cells)}")
        log = workdir / cells.LOGS / f"{run.name}.log"
        cell = _finished(run, workdir)  # by another process, meanwhile
        if cell is None:
            status = _ended(run, log, workdir)
            if status and _elsewhere(run, workdir):  # another process was faster
                waiting.insert(0, run)
                continue
            cell = _finished(run, workdir) if status == 0 else None
        if cell is None:
            found.failed[run] = log
            terminal.warn(f"Failed: {run.name}, see {log}\n  {_last_words(log)}")
            continue
        cells.write(results, cell)
        found.cells[run] = cell


def _elsewhere(run: Run, workdir: Path) -> bool:
    """Whether another process is at it, or at what it starts from."""
    return any(locks.is_locked(workdir / each.name) for each in run.lineage())


def _ended(run: Run, log: Path, workdir: Path) -> int:
    """The exit status of the run's process, whose output goes behind what the log holds. What it took of the processor
    is noted, also of a start that was interrupted."""
    record, folder = cells.seconds_path(workdir, run), workdir / run.name
    starts = (run_files.read_json(record) or {}).get(cells.STARTS, [])
    run_files.write_json(record, {cells.STARTS: [*starts, None]})
    with contextlib.ExitStack() as files:
        output = files.enter_context(run_files.open_file(log, "a"))
        if run.program == MAIN:
            command, printed = [str(shipped.root() / MAIN)], output
        else:
            run_files.make_folder(folder)
            run_files.remove(folder / PRINTED, missing_ok=True)
            command = ["-m", run.program]
            printed = files.enter_context(run_files.open_file(folder / PRINTED, "a"))
        process = subprocess.Popen(
            [sys.executable, *command, *run.arguments(workdir)], cwd=shipped.root(), stdout=printed, stderr=output
        )
        try:
            seconds = _waited(process)
        except BaseException:
            process.terminate()  # it saves what is done; Ctrl-C it has had itself
            run_files.write_json(record, {cells.STARTS: [*starts, _waited(process)]})
            raise
    run_files.write_json(record, {cells.STARTS: [*starts, seconds]})
    if run.program != MAIN and process.returncode == 0:
        run_files.write_json(folder / run_files.CONFIG, run.settings)
        run_files.move(folder / PRINTED, folder / run_files.RESULT)
    return process.returncode


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
