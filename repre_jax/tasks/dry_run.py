"""What a pre-training would be, before it is begun: its table, memory and time. Nothing is written, nothing kept.

main.py runs it for --dry-run. The data are read and the first steps are taken, as in the run.
"""

import time
from pathlib import Path

import jax
from ml_collections import ConfigDict

from repre_jax.builders import attention, batch_size, compiled_step
from repre_jax.core.errors import UserError
from repre_jax.report import console
from repre_jax.running import memory, training_task
from repre_jax.system import terminal
from repre_jax.tasks import pretrain

SECONDS, STEPS = 20.0, 20  # that are timed, whichever comes first; at least one step


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
    config, _ = attention.settle(config, workdir)
    config = batch_size.settle(config, workdir)
    pretrain.check(config)
    job = pretrain.build(config)
    rows = [*pretrain.describe(config, job), ("workdir", f"{workdir}, in which nothing is written now")]
    terminal.warn(console.table(rows))
    if warning := console.copies(job.step.plan):
        terminal.warn(warning)
    with memory.of_config(config, job.step.mesh.size):
        program = compiled_step.compiled(config, job.step)
        needed = memory.of_program(program)
        rows = [
            ("memory", f"{memory.gib(needed)} of {memory.gib(memory.per_device())} a device in a step, as XLA plans it")
        ]
        rows += _times(config, job, program)
    terminal.warn(console.table(rows))


def _times(config: ConfigDict, job: pretrain.Job, program: jax.stages.Compiled) -> list[console.Row]:
    """Of the first steps, after one that is not counted."""
    plan = job.step.plan
    batches = training_task.image_batches(
        config, job.dataset.train, job.train_view, job.step.mesh, 0, on_unreadable=lambda number: None
    )
    state, metrics = program(job.step.init_state(), next(batches))
    jax.block_until_ready(metrics)
    begun, steps = time.perf_counter(), 0
    while steps < STEPS and time.perf_counter() - begun < SECONDS:
        state, metrics = program(state, next(batches))
        steps += 1
    jax.block_until_ready(metrics)
    step = (time.perf_counter() - begun) / steps
    speed, epochs = plan.batch_size / step, plan.total_steps / plan.steps_per_epoch
    whole = console.duration(step * plan.total_steps)
    return [
        ("a step", f"{1e3 * step:,.0f} ms with reading the data, mean of {steps}; {speed:,.0f} images/s"),
        ("an epoch", f"{console.duration(step * plan.steps_per_epoch)}, {plan.steps_per_epoch:,.1f} steps"),
        ("the run", f"{whole}, {epochs:,.4g} epochs, without evaluations and checkpoints"),
    ]
