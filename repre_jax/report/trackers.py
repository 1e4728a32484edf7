"""What a run logs, for the programs in which many runs are watched: TensorBoard and Weights & Biases.

Each gets the same names and numbers as metrics.jsonl. A run that goes on stays one curve in both.
"""

import contextlib
import importlib.util
import math
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from repre_jax.core import buckets, run_files
from repre_jax.core.errors import UserError
from repre_jax.system import terminal

REMEDY = "  change:   `wandb login` first; or WANDB_MODE=offline, to upload later by `wandb sync`"


class Tracker(Protocol):
    """Values that are not finite are left out."""

    def write(self, step: int, values: Mapping[str, float | None]) -> None: ...

    def close(self, finished: bool) -> None: ...


class TensorBoard:
    """An event file a start in RUN/tensorboard, each line on the disk when write() returns.

    Not by tensorboardX's SummaryWriter: its thread dies in silence of a full disk, and then blocks the run.
    """

    def __init__(self, run: Path, continue_from: int):
        """Tells TensorBoard to forget what earlier starts wrote beyond the step that this one goes on from."""
        run_files.make_folder(run / run_files.TENSORBOARD)
        first = continue_from + 1 if continue_from else 0
        self._file = EventsWriter(str(run / run_files.TENSORBOARD / "events"), f".{time.time_ns()}")
        self._write(Event(step=first, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                self._write(Event(step=step, summary=scalar(name, value)))
        self._file.flush()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._file.write_event(event)

    def close(self, finished: bool) -> None:
        with contextlib.suppress(OSError):  # of a full disk, as the last write() has said
            self._file.close()


class WandB:
    """A run of Weights & Biases, with the same id at every start of this run.

    Where it fails on the way, that is said once and the run goes on without it.
    """

    def __init__(self, run: Path, continue_from: int, project: str, config: Mapping[str, Any]):
        """Logs again what metrics.jsonl holds up to the step that this start goes on from, and W&B does not know.

        Raises UserError when W&B refuses.
        """
        import wandb  # an optional requirement

        known = run_files.read_json(run / run_files.WANDB, ("id", "project")) or {"project": None}
        if known["project"] != project:
            known = {"id": uuid.uuid4().hex[:12], "project": project}
            run_files.write_json(run / run_files.WANDB, known)
        try:
            settings = wandb.Settings(silent=terminal.hushed())
            self._run = wandb.init(
                dir=None if buckets.holds(run) else run,
                name=run.name,
                config=dict(config),
                resume="allow",
                settings=settings,
                **known,
            )
        except wandb.Error as error:
            raise UserError(f"Weights & Biases does not start: {str(error).splitlines()[0]}\n{REMEDY}") from None
        self._failed = False
        for row in run_files.read_metrics(run / run_files.METRICS):  # what was not on its way when this run was killed
            if self._run.step <= row["step"] <= continue_from:
                self.write(row["step"], {name: value for name, value in row.items() if name != "step"})

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        finite = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        if self._failed:
            return
        try:
            self._run.log(finite, step=step, commit=True)
        except Exception as error:  # of any kind: the run is worth more than its log there
            self._failed = True
            terminal.warn(f"Warning: nothing is logged to Weights & Biases any more: {type(error).__name__}: {error}")

    def close(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


def check(wandb: str | None) -> None:
    """wandb: the project's name, if runs are to be tracked there. Raises UserError without the package and a login."""
    if not wandb:
        return
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            f"wandb is {wandb!r}, and the package is not installed.\n"
            "  change:   pip install wandb, or leave --config.wandb out"
        )
    import wandb as package

    if package.setup().settings.mode == "online" and not package.login(prompt=False):
        raise UserError(f"wandb is {wandb!r}, and nobody is logged in to Weights & Biases.\n{REMEDY}")


def start(run: Path, continue_from: int, config: Mapping[str, Any]) -> list[Tracker]:
    """Those that the config, as JSON would give it back, asks for."""
    found: list[Tracker] = []
    if config["tensorboard"] and buckets.holds(run):
        terminal.say("TensorBoard's files are left out, since none can grow in a bucket: report.html has the curves.")
    elif config["tensorboard"]:
        found = [TensorBoard(run, continue_from)]
    return [*found, WandB(run, continue_from, config["wandb"], config)] if config["wandb"] else found
