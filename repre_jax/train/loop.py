"""The loop owns time: when to log, when to call the hooks, how long things took, when to stop.

It knows nothing of what a step does; other tasks hand it another step function.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from tqdm import tqdm

from repre_jax.train.agreement import Agreement
from repre_jax.train.signals import StopRequest
from repre_jax.train.watchdog import Watchdog

State = Any
StepFn = Callable[[State, Any], tuple[State, dict[str, jax.Array]]]
Values = dict[str, float | None]


@dataclass(frozen=True)
class Hook:
    """Calls run(step, state) after each of `steps`; what it returns is logged. Its time is not training time."""

    run: Callable[[int, State], Values]
    steps: frozenset[int]


def every(interval: int, total_steps: int) -> frozenset[int]:
    """Each interval-th step, and the last."""
    return frozenset(range(interval, total_steps, interval)) | {total_steps}


def evenly(times: int, total_steps: int) -> frozenset[int]:
    """`times` steps, evenly spaced, the last one among them."""
    return frozenset(max(1, round(i * total_steps / times)) for i in range(1, times + 1))


def fit(
    step_fn: StepFn,
    state: State,
    batches: Iterator[Any],
    *,
    start_step: int,
    total_steps: int,
    batch_size: int,
    log_steps: frozenset[int],
    log: Callable[[int, Values], None],
    hooks: Sequence[Hook],
    stop: StopRequest,
    agreement: Agreement | None = None,
    watchdog: Watchdog | None = None,
) -> tuple[State, int]:
    """Runs steps start_step + 1 .. total_steps; returns the state and the last finished step.

    Ends early, between two steps, once `stop` has seen a signal, or with stop.error if no batch came. Of many processes
    each has seen one, by `agreement`, and all end after the same step. The host stays at most two batches ahead.

    `log` gets the metrics of a step in `log_steps`, and over the interval since the last log: images_per_second
    (records, without compilation and hooks; None when there was no step to measure) and wait_share (the part of that
    time in which the step waited for data).
    """
    watchdog = watchdog or Watchdog(0, "", print)
    clock = _Clock()
    step = start_step
    previous = metrics = None
    with tqdm(
        total=total_steps * batch_size,
        initial=start_step * batch_size,
        unit=" images",
        unit_scale=True,
        dynamic_ncols=True,
        # No bar in a log file; the logged lines carry the remaining time.
        disable=None if jax.process_index() == 0 else True,
    ) as bar:
        while step < total_steps:
            watchdog.doing(f"Step {step + 1}: waiting for the devices")
            if previous is not None:
                jax.block_until_ready(previous)  # else the host queues up batches far ahead of the device
                watchdog.finished(step - 1)
            asked_to_stop = stop.signal or 0
            if agreement is not None:
                asked_to_stop = agreement.lagging(asked_to_stop)
            if asked_to_stop:
                stop.signal = asked_to_stop
                break
            watchdog.doing(f"Step {step + 1}: waiting for data")
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except Exception as error:
                if stop.signal is None:  # else it reached the workers too
                    stop.error = error
                break  # the state is whole
            clock.waited += time.perf_counter() - asked
            watchdog.doing(f"Step {step + 1}: {'waiting for the devices' if metrics else 'compiling'}")
            previous = metrics
            state, metrics = step_fn(state, batch)
            step += 1
            clock.steps += 1
            bar.set_description(f"step {step}/{total_steps}", refresh=False)
            bar.update(batch_size)
            if step == start_step + 1:
                jax.block_until_ready(metrics)  # this step was compiled; the clock starts behind it
                clock.restart()

            values: Values = {}
            if step in log_steps:
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                values |= clock.read(batch_size)
                clock.restart()
            due = [hook for hook in hooks if step in hook.steps]
            if due:
                jax.block_until_ready(metrics)
                paused = time.perf_counter()
                watchdog.doing(f"Step {step}: evaluating or saving")
                for hook in due:
                    values |= hook.run(step, state)
                clock.start += time.perf_counter() - paused
            if values:
                log(step, values)
    return state, step


class _Clock:
    """Time, steps and waiting since the last log."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.start, self.steps, self.waited = time.perf_counter(), 0, 0.0

    def read(self, batch_size: int) -> Values:
        if not self.steps:
            return {"images_per_second": None, "wait_share": None}
        seconds = time.perf_counter() - self.start
        return {"images_per_second": self.steps * batch_size / seconds, "wait_share": self.waited / seconds}
