"""The lifecycle of a task that leaves a result in a workdir, whether it trains or only measures.

with lifecycle.begun(config, workdir) as session:      locks the workdir and looks what it holds
    if session.past.result is not None:
        return session.report(summary, weights, data)  finished before: its summary again
    session.announce(dataset, rows)                    the table at the start
    session.record(dataset, step=0)                    config.json, data.json and a line in starts.jsonl
    with session.watched(devices) as watchdog:         a process that hangs ends with a message
        ...
    return session.finish(result, summary)             result.json, the summary, the page
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from repre_jax.core import config_paths, open_files, run_files
from repre_jax.data.sources import DataSet
from repre_jax.report import console
from repre_jax.report.live import LivePage
from repre_jax.running import memory, resume, same_data
from repre_jax.running.resume import History
from repre_jax.running.signals import StopRequest
from repre_jax.running.watchdog import Watchdog
from repre_jax.running.workdir import lock_token, locked
from repre_jax.system import environment, runtime, terminal

ShouldStop = Callable[[], bool]  # asked before each batch of an evaluation
Summary = Callable[[dict[str, Any]], str]  # of what result.json holds


@dataclass(frozen=True)
class Session:
    """One start of a task, while it has the workdir for itself.

    settings: the config as JSON gives it back. past: what the workdir held. began: time.perf_counter() at the start.
    kind: what messages call it, 'run' or 'evaluation'; a run has a page, report.html.
    """

    config: ConfigDict
    workdir: Path
    settings: dict[str, Any]
    past: History
    began: float
    kind: str

    def seconds(self) -> float:
        """How long the run has taken by now, earlier starts included."""
        return self.past.seconds + time.perf_counter() - self.began

    def report(
        self, summary: Summary, weights: Callable[[], str] | None, reopen: Callable[[], DataSet]
    ) -> dict[str, Any]:
        """Prints the summary of what is finished, and returns its result.

        weights: gives the SHA-256 of those that it would begin with; None where it needs none. reopen: opens the data;
        the summary of others is printed with a warning before it. Raises UserError when the result is of other weights.
        """
        result = self.past.result or {}
        note = resume.compare_weights(result, weights) if weights else ""
        changed, not_compared = same_data.of_finished(self.past, reopen, self.kind)
        self._conclude(f"{changed}This {self.kind} is finished. Its summary:\n{summary(result)}{note}{not_compared}")
        return result

    def announce(
        self, dataset: DataSet, rows: Sequence[console.Row], fixed: Sequence[str] = (), monitors: bool = False
    ) -> None:
        """Prints the table that a start begins with, and what differs from earlier starts.

        fixed: keys of the data that cannot change once steps were trained. monitors: whether the run only measures
        itself by the test split, which may be another one then. Raises UserError when the data are not those of earlier
        starts, or of the other processes.
        """
        changed = same_data.check(self.past, dataset, self.config.may_change, fixed, monitors)
        runtime.check_same("data set", dataset.identity())
        terminal.say(console.table([*rows, ("workdir", str(self.workdir))]))
        if few := open_files.warning():
            terminal.warn(few)
        for item in self.past.ignored:
            terminal.warn(f"Ignored: checkpoint {item}.")
        for line in (*self.past.changed, *changed):
            terminal.say(f"Changed, as may_change allows: {line}")
        for line in same_data.monitored(self.past, dataset) if monitors else ():
            terminal.warn(f"Note: from here on the run measures itself by other images than before: {line}")
        for line in same_data.since_last_start(self.past, dataset):
            terminal.warn(f"Changed since the last start: {line}")
        if note := same_data.note(self.past):
            terminal.say(note)

    def record(self, dataset: DataSet, **start: Any) -> None:
        """Writes config.json and data.json, and adds `start`, with versions, devices and command, to starts.jsonl."""
        if runtime.is_main():
            resume.reopen(self.workdir)
            run_files.write_json(self.workdir / run_files.CONFIG, self.settings)
            run_files.write_json(self.workdir / run_files.DATA, same_data.described(dataset))
            path = self.workdir / run_files.STARTS
            row = start | environment.record(self.config.seed) | {"machine": console.machine()}
            run_files.write_rows(path, [*run_files.read_metrics(path), row])
        runtime.check_same("start", {"step": self.past.step})  # nobody reads on before process 0 has cleared up

    @contextlib.contextmanager
    def watched(self, devices: int) -> Iterator[Watchdog]:
        """While entered, a process that hangs is ended, and a full device memory becomes a message."""
        full = memory.of_config(self.config, devices)
        with full, Watchdog(self.config.distributed.step_timeout, runtime.label(), runtime.end_process) as watchdog:
            yield watchdog

    def finish(self, result: Mapping[str, Any], summary: Summary) -> dict[str, Any]:
        """Writes result.json, prints its summary, and returns what it holds."""
        whole = {"command": environment.command()} | dict(result)
        if runtime.is_main():
            run_files.write_json(self.workdir / run_files.RESULT, whole)
        self._conclude(f"Summary:\n{summary(whole)}")
        return whole

    def _conclude(self, text: str) -> None:
        if self.kind == "run":
            LivePage(self.workdir, write=runtime.is_main()).write()
            text = f"{text}\nReport: {self.workdir / run_files.PAGE}"
        terminal.warn(text)


def check_alone(config: ConfigDict, workdir: Path) -> None:
    """For a start that first waits for other processes, or takes long: raises UserError as `begun` then would, where
    they have another config, or somebody is at work in the workdir."""
    runtime.check_same("config", resume.shared(resume.plain(config)))
    if runtime.is_main():
        with locked(workdir):
            pass


@contextlib.contextmanager
def begun(
    config: ConfigDict,
    workdir: Path,
    *,
    kind: str = "run",
    look: Callable[[Path, dict[str, Any]], History] = resume.look,
    complete: Callable[[], None] = lambda: None,
) -> Iterator[Session]:
    """A session in `workdir` (absolute), into which no other process can start a run while it is entered.

    complete: sets keys that the config leaves open, once the workdir is locked. look: gives what the workdir holds.
    Raises UserError, in every process, when that is something else, or the processes differ.
    """
    began = time.perf_counter()
    config_paths.settle(config)
    resume.check_names(config.may_change, resume.plain(config))
    with locked(workdir) if runtime.is_main() else contextlib.nullcontext():
        complete()
        settings = resume.plain(config)
        runtime.check_same("config", resume.shared(settings))
        runtime.check_same("workdir", {str(workdir): lock_token(workdir)})
        past = look(workdir, settings)
        runtime.check_same("past", {"step": past.step, "finished": past.result is not None})
        yield Session(config, workdir, settings, past, began, kind)


def asking(stop: StopRequest, watchdog: Watchdog, what: str) -> ShouldStop:
    """A question for evaluations: whether any process was asked to stop. The watchdog hears that `what` goes on."""

    def should_stop() -> bool:
        watchdog.doing(what)
        return stop.agreed()

    return should_stop


def to_the_end(watchdog: Watchdog, what: str) -> ShouldStop:
    """A should_stop that is always False, for work that cannot be saved half done. It tells the watchdog to wait on."""

    def should_stop() -> bool:
        watchdog.doing(what)
        return False

    return should_stop
