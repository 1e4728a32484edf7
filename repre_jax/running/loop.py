"""The loop owns time: when to log, when to call the hooks, how long things took, when to stop.

It knows nothing of what a step does; other tasks hand it another step function.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from repre_jax.running.signals import StopRequest
from repre_jax.running.watchdog import Watchdog
from repre_jax.system import runtime, terminal

State = Any
StepFn = Callable[..., tuple[State, dict[str, jax.Array]]]  # (state, batch, *frozen) -> state, metrics
Values = dict[str, float | None]
Shapes = tuple[tuple[int, ...], ...]  # of a batch's arrays, by which a step is compiled


@dataclass(frozen=True)
class Hook:
    """Calls run(step, state) after each of `steps`; what it returns is logged. Its time is not training time."""

    run: Callable[[int, State], Values]
    steps: frozenset[int]


def every(interval: int, total_steps: int) -> frozenset[int]:
    """Each interval-th step, and the last."""
    return frozenset(range(interval, total_steps, interval)) | {total_steps}


BEFORE_TRAINING = frozenset({0})  # among the steps after which a task is measured


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
    after: Callable[[int, State, Values], None],
    stop: StopRequest,
    watchdog: Watchdog,
    frozen: Sequence[Any] = (),
) -> tuple[State, int]:
    """Runs steps start_step + 1 .. total_steps; returns the state and the last finished step.

    Ends early, between two steps, once all processes have agreed on `stop`, or this one has an error, as when no batch
    came. The host stays at most two batches ahead.

    `log` gets the metrics of a step in `log_steps`, and over the interval since the last log: images_per_second
    (records, without compilation, which each shape of a batch has once, and hooks; None when there was no step to
    measure) and wait_share (the part of that time in which the step waited for data). Then `after` gets the step, the
    state and what was logged, each step.
    """
    clock, step = _Clock(), start_step
    previous = metrics = None
    compiled: set[Shapes] = set()  # of batches
    ending = stop.agreed()
    total, done = total_steps * batch_size, start_step * batch_size
    with terminal.bar(total, "training", done=done, shown=runtime.is_main(), in_log=False) as bar:
        while step < total_steps and not ending and stop.error is None:
            watchdog.doing(f"Step {step + 1}: waiting for the devices")
            if previous is not None:
                jax.block_until_ready(previous)  # else the host queues up batches far ahead of the device
                watchdog.finished(step - 1)
            if stop.agreed_before():
                break
            watchdog.doing(f"Step {step + 1}: waiting for data")
            batch = _next(batches, stop, clock)
            if batch is None:
                break
            new = (shapes := _shapes(batch)) not in compiled
            watchdog.doing(f"Step {step + 1}: {'compiling' if new else 'waiting for the devices'}")
            if new:
                jax.block_until_ready(metrics)  # the time of the steps before counts
                compiled.add(shapes)
            previous, begun = metrics, time.perf_counter()
            state, metrics = step_fn(state, batch, *frozen)
            step += 1
            clock.steps += 1
            bar.set_description(f"step {step}/{total_steps}", refresh=False)
            bar.update(batch_size)
            if new:
                jax.block_until_ready(metrics)  # this step was compiled
                clock.leave_out(begun)
                if step == start_step + 1:
                    clock.restart()

            values: Values = {}
            if step in log_steps:
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                values |= clock.read(batch_size)
                clock.restart()
            paused = time.perf_counter()
            for hook in (hook for hook in hooks if step in hook.steps):
                jax.block_until_ready(metrics)
                values |= hook.run(step, state)
                ending = stop.agreed()
            watchdog.doing(f"Step {step}: logging or saving")
            if values:
                log(step, values)
            after(step, state, values)
            clock.start += time.perf_counter() - paused
    return state, step


def _shapes(batch: Any) -> Shapes:
    return tuple(jnp.shape(x) for x in jax.tree.leaves(batch))


def _next(batches: Iterator[Any], stop: StopRequest, clock: "_Clock") -> Any | None:
    """None when no batch came; stop.error then says why, unless a signal has ended the readers too."""
    asked = time.perf_counter()
    try:
        return next(batches)
    except Exception as error:
        stop.error = None if stop.signal else error
        return None
    finally:
        clock.waited += time.perf_counter() - asked


class _Clock:
    """Time, steps and waiting since the last log."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.start, self.steps, self.waited = time.perf_counter(), 0, 0.0

    def leave_out(self, begun: float) -> None:
        """A step that began then and has ended."""
        self.start += time.perf_counter() - begun
        self.steps -= 1

    def read(self, batch_size: int) -> Values:
        if not self.steps:
            return {"images_per_second": None, "wait_share": None}
        seconds = time.perf_counter() - self.start
        return {"images_per_second": self.steps * batch_size / seconds, "wait_share": self.waited / seconds}
