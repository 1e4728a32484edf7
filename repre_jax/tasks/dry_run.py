"""What a pre-training would be, before it is begun: its table, memory and time. Nothing is written in the workdir.

main.py runs it for --dry-run. What the workdir holds is looked at, the data are read and the first steps are taken, as
in the run.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from repre_jax.builders import attention, batch_size, compiled_step
from repre_jax.core.errors import UserError
from repre_jax.core.types import TrainState
from repre_jax.pretrained import warm_start
from repre_jax.report import console, trackers
from repre_jax.running import memory, resume, training_task
from repre_jax.running.lifecycle import Session
from repre_jax.running.resume import History
from repre_jax.system import runtime, terminal
from repre_jax.tasks import pretrain

TIMED = 20.0, 100  # seconds and steps, whichever comes first; at least one step
WARM_UP = 5.0, 20  # likewise, before these: the first step is slower, and its batches lie ready


def run(config: ConfigDict, workdir: Path) -> None:
    """Prints the table that the run would start with, and what its first steps show. Raises UserError for whatever the
    run would be refused for, and for a task that pre-trains nothing."""
    if config.task != "pretrain":
        raise UserError(
            f"--dry-run is of a pre-training.\n  given:    a config of task {config.task!r}\n"
            "  change:   leave --dry-run out; :tiny is the shortest run of a config"
        )
    if config.batch_size:
        pretrain.check(config)
    trackers.check(config.wandb)
    resume.check_names(config.may_change, resume.plain(config))
    runtime.check_same("config", resume.shared(resume.plain(config)))
    config, _ = attention.settle(config, workdir)
    config = batch_size.settle(config, workdir)
    pretrain.check(config)
    settings = resume.plain(config)
    past = resume.look(workdir, settings)
    if past.result is not None:
        terminal.warn(
            f"The run in {workdir} is finished. Without --dry-run its summary is printed, and nothing trained."
        )
        return
    if config.init_from and not past.step:
        warm_start.find(config, workdir)
    job = pretrain.build(config)
    plan = job.step.plan
    resume.check_left(past, plan.total_steps)
    session = Session(config, workdir, settings, past, time.perf_counter(), "run")
    session.announce(job.dataset, pretrain.describe(config, job), monitors=True)
    if warning := console.copies(plan):
        terminal.warn(warning)
    with memory.of_config(config, job.step.mesh.size):
        program = compiled_step.compiled(config, job.step)
        planned, fits = _memory(program)
        times = _times(config, job, past, program) if fits else _too_large(config, job.step.mesh.size)
    going_on = [("going on", f"from step {past.step:,} of {plan.total_steps:,}")] if past.step else []
    terminal.warn(
        f"As its first steps show, of which nothing is written:\n{console.table([*going_on, planned, *times])}"
    )


def _memory(program: jax.stages.Compiled) -> tuple[console.Row, bool]:
    """A row, and whether the step fits; where a device does not tell how much there is, that is to be seen."""
    try:
        needed = memory.of_program(program)
    except UserError:
        return ("memory", "not known: XLA does not plan it for this device"), True
    what = "a device in a step, as XLA plans it"
    try:
        there = memory.per_device()
    except UserError:
        return ("memory", f"{memory.gib(needed)} {what}"), True
    return ("memory", f"{memory.gib(needed)} {what}; there are {memory.gib(there)}"), needed <= there


def _too_large(config: ConfigDict, devices: int) -> list[console.Row]:
    """In place of the times of a step that no device has the memory for: what to change."""
    changes = memory.lighter(**memory.settings(config, devices))
    numbered = [("", f"{number}. {change}") for number, change in enumerate(changes, start=1)]
    return [("a step", "not timed, since it does not fit" + "; change, in this order:" * bool(numbered)), *numbered]


def _times(config: ConfigDict, job: pretrain.Job, past: History, program: jax.stages.Compiled) -> list[console.Row]:
    """Of first steps, after those of WARM_UP."""
    plan = job.step.plan
    batches = training_task.image_batches(
        config, job.dataset.train, job.train_view, job.step.mesh, past.step, on_unreadable=lambda number: None
    )
    state, _, _ = _take(program, job.step.init_state(), batches, *WARM_UP)
    _, steps, seconds = _take(program, state, batches, *TIMED)
    step, left = seconds / steps, plan.total_steps - past.step
    speed, epochs = plan.batch_size / step, left / plan.steps_per_epoch
    return [
        ("a step", f"{1e3 * step:,.0f} ms with reading the data, mean of {steps}; {speed:,.0f} images/s"),
        ("an epoch", f"{console.duration(step * plan.steps_per_epoch)}, {plan.steps_per_epoch:,.1f} steps"),
        (
            "what is left" if past.step else "the run",
            f"{console.duration(step * left)}, {epochs:,.4g} epochs, without evaluations and checkpoints",
        ),
    ]


def _take(
    program: jax.stages.Compiled, state: TrainState, batches: Iterator[Any], seconds: float, steps: int
) -> tuple[TrainState, int, float]:
    """Takes so many steps, or fewer where the seconds are over; returns how many, and the seconds that they took. The
    next step is begun while one is computed, as in training."""
    begun, count, over, metrics = time.perf_counter(), 0, False, None
    while not over:
        before = metrics
        state, metrics = program(state, next(batches))
        jax.block_until_ready(before)
        count += 1
        over = runtime.largest(int(count == steps or time.perf_counter() - begun > seconds)) > 0
    jax.block_until_ready(metrics)
    return state, count, time.perf_counter() - begun
