"""What a run writes down while it trains: its log, its warnings, its checkpoints."""

import math
from typing import Any

from repre_jax.core import run_files
from repre_jax.core.checkpoint import Checkpoints, Keep
from repre_jax.core.errors import UserError
from repre_jax.core.types import TrainState
from repre_jax.data.unreadable import Unreadable
from repre_jax.report import console, metric_names, trackers
from repre_jax.report.live import LivePage
from repre_jax.running import loop, same_data
from repre_jax.running.divergence import Watch
from repre_jax.running.lifecycle import Session
from repre_jax.running.resume import History
from repre_jax.running.signals import StopRequest
from repre_jax.running.training import Training
from repre_jax.system import runtime, terminal


class Recorder:
    """`log` and `after` are what running/loop.fit calls. Lines are logged before the checkpoint of their step is
    written, so that a run which goes on from a checkpoint has all lines up to it."""

    def __init__(self, session: Session, training: Training, stop: StopRequest, skipped: int):
        """skipped: steps that were skipped before this start."""
        config, workdir, past = session.config, session.workdir, session.past
        self.stop, self.total = stop, training.plan.total_steps
        keep = Keep(config.checkpoint.keep, config.checkpoint.keep_every, config.checkpoint.best)
        self.checkpoints = Checkpoints(workdir / run_files.CHECKPOINTS, keep)
        self.eval_steps = training.eval_steps
        self.unreadable = Unreadable(
            training.dataset.train, config.data.channels, config.data.max_unreadable, terminal.warn, past.unreadable
        )
        self._writer = run_files.MetricsFile(workdir / run_files.METRICS, past.step, write=runtime.is_main())
        self._page = LivePage(workdir, write=runtime.is_main())
        self._trackers = trackers.start(workdir, past.step, session.settings) if runtime.is_main() else []
        self._watch = Watch(training.collapse, config.get("collapse_patience", 0), config.stop_after_skipped, skipped)
        self._saving = loop.every(config.checkpoint.every, self.total)
        pixels: dict[str, list] = {name: list(values) for name, values in training.pixels.items()}
        self._record: dict[str, Any] = {"config": session.settings, "data": training.dataset.identity()}
        if seen := training.dataset.value_range:
            pixels["value_range"] = [list(pair) for pair in seen]
        self._record["pixels"] = pixels
        self._record |= {"weights": training.weights} if training.weights else {}
        self._record |= {"left_out": training.left_out()} if training.left_out else {}
        self._seconds, self._batch_size = session.seconds, config.batch_size
        self._best = self._best_so_far(past, training)
        self._finished = past.step == self.total

    def _best_so_far(self, past: History, training: Training) -> float:
        """The largest measure of the checkpoints; none that was taken of other images, or by another metric."""
        measures = {step: value for step, value in self.checkpoints.measures().items() if value is not None}
        if training.monitors and same_data.monitored(past, training.dataset):
            runtime.largest(0)  # all have read them before process 0 writes
            if runtime.is_main():
                self.checkpoints.forget_measures()
            if measures and self.checkpoints.keep.best:
                best = max(measures, key=lambda step: measures[step])
                terminal.warn(
                    f"Note: the best checkpoint begins anew: step {best:,}, the best so far, was measured by other "
                    "images, and is kept only as long as it is one of the newest."
                )
            measures = {}
        return max(measures.values(), default=-math.inf)

    def to_be_evaluated(self, step: int) -> bool:
        """Whether the state of this step, at which the run starts, has not been measured although it should be."""
        due = step in self.eval_steps
        last = self._writer.last
        return due and not (last.get("step") == step and any(name in last for name in metric_names.judges()))

    def log(self, step: int, values: loop.Values) -> None:
        """Raises UserError when the run has diverged."""
        values = {"unreadable": float(len(self.unreadable)), **values}
        known = self._writer.last if self._writer.last.get("step") == step else {}
        try:
            for tracker in self._trackers:  # first: of a line too many the next start has TensorBoard forget
                tracker.write(step, {name: value for name, value in values.items() if name not in known})
            self._writer.write(step, values)
        except OSError as error:  # as on a full disk; the state may still find room
            self.stop.error = UserError(f"The log cannot be written: {error.strerror}.")
        terminal.say(console.progress_line(step, self.total, values, batch_size=self._batch_size))
        skipped = self._watch.skipped(step, values, last=step == self.total, saved=self._saved)
        for warning in filter(None, (skipped, self._watch.collapsed(values))):
            terminal.warn(warning)
        self._page.follow()

    def after(self, step: int, state: TrainState, values: loop.Values) -> None:
        """Saves when it is time or the measure is the best so far; asks for the end when a write has failed."""
        self._finished = step == self.total
        measure = metric_names.quality(values)
        if step in self._saving or (self.checkpoints.keep.best and measure is not None and measure > self._best):
            self.save(step, state, measure)
        if self.checkpoints.error is not None:
            self.stop.error = self.checkpoints.error

    def save(self, step: int, state: TrainState, measure: float | None = None) -> None:
        """While steps are being skipped the newest checkpoint stays that from before the first of them."""
        if int(state.skipped_in_a_row) or not step:
            return
        self._best = max(self._best, measure if measure is not None else -math.inf)
        now = {"seconds": self._seconds(), "unreadable": self.unreadable.numbers}
        self.checkpoints.save(step, state, self._record | now, measure)

    def latest_step(self) -> int:
        """Of the newest checkpoint, 0 without one; the same in every process, though process 0 writes it."""
        return runtime.largest(self.checkpoints.latest_step() or 0)

    def _saved(self) -> int | None:
        """The newest checkpoint, also where it is still being written."""
        self.checkpoints.wait()
        return self.checkpoints.latest_step()

    def close(self) -> None:
        """Waits for the last checkpoint."""
        self.checkpoints.close()
        for tracker in self._trackers:
            tracker.close(self._finished)
        if not self._finished:  # else it is written when there are results
            self._page.write(stopped=True)
