"""A task that trains: start or go on, step by step, record, stop, conclude.

run() goes from top to bottom; the task says in a Training what is special about it, running/loop.py owns the time, and
running/recorder.py writes down what happens.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.core import run_files, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import Interrupted, Stopped, UserError
from repre_jax.core.types import Records, TrainState
from repre_jax.data import loader
from repre_jax.data.order import Order
from repre_jax.data.sources import DataSet
from repre_jax.data.views import View
from repre_jax.report import console, trackers
from repre_jax.running import lifecycle, loop, resume, same_data
from repre_jax.running.lifecycle import Session, Summary
from repre_jax.running.recorder import Recorder
from repre_jax.running.signals import StopRequest
from repre_jax.running.training import Training
from repre_jax.running.watchdog import Watchdog
from repre_jax.system import environment, runtime, terminal


def run(
    config: ConfigDict,
    workdir: Path,
    *,
    build: Callable[[resume.History], Training],
    summary: Summary,
    reopen: Callable[[], DataSet],
    weights: Callable[[], str] | None = None,
) -> dict[str, Any]:
    """Trains, or goes on training, or just reports a finished run; returns what result.json holds.

    config: checked by the task. workdir: absolute; gets config.json, starts.jsonl (a line a start: from which step,
    with which versions, devices ...), metrics.jsonl, tensorboard/, report.html, checkpoints/ and result.json.
    reopen: opens the data, and weights gives the SHA-256 of those that it would begin with (None where it needs none):
    what a finished run is compared by.
    Raises UserError for what cannot work, before anything is trained or written, and Stopped after a signal.
    """
    trackers.check(config.wandb)
    with lifecycle.begun(config, workdir) as session:
        past = session.past
        if past.result is not None:
            return session.report(summary, weights, reopen)
        training = build(past)
        total = training.plan.total_steps
        resume.check_left(past, total)
        resume.check_fixed(past, training.weights, training.fixed_keys)
        session.announce(training.dataset, training.description, training.fixed_keys, training.monitors)
        if warning := console.copies(training.plan):
            terminal.warn(warning)
        if runtime.is_main():
            Checkpoints(workdir / run_files.CHECKPOINTS).make_room(past.ignored)
        session.record(training.dataset, **training.source, step=past.step, total_steps=total)
        with session.watched(training.mesh.size) as watchdog:
            state = _train(session, training, watchdog)
            should_stop = lifecycle.to_the_end(watchdog, "Evaluating at the end")
            result = training.conclude(state, session.seconds(), should_stop)
        return session.finish(result, summary)


def _train(session: Session, training: Training, watchdog: Watchdog) -> TrainState:
    """The state after the last step. Raises Stopped once a signal has come and the state is saved."""
    config, past, total = session.config, session.past, training.plan.total_steps
    with StopRequest(training.mesh) as stop:

        def evaluate(step: int, state: TrainState) -> loop.Values:
            try:
                return training.evaluate(state, lifecycle.asking(stop, watchdog, f"Step {step}: evaluating"))
            except Interrupted:
                return {}

        if training.prepare is not None:
            training.prepare(stop, lifecycle.asking(stop, watchdog, "Preparing"))
        state = _start(session, training)
        recorder = Recorder(session, training, stop, skipped=int(state.skipped))
        with contextlib.closing(recorder):
            batches = training.batches(past.step, recorder.unreadable)  # before all that takes long: it may be refused
            if recorder.to_be_evaluated(past.step):
                values = evaluate(past.step, state)
                recorder.log(past.step, values)
                recorder.after(past.step, state, values)
            state, step = loop.fit(
                sharding.jit_step(training.train_step, training.state_sharding, training.mesh),
                state,
                batches,
                frozen=training.frozen,
                start_step=past.step,
                total_steps=total,
                batch_size=config.batch_size,
                log_steps=loop.every(config.log_every, total),
                log=recorder.log,
                hooks=(loop.Hook(evaluate, training.eval_steps),),
                after=recorder.after,
                stop=stop,
                watchdog=watchdog,
            )
            if stop.error is not None and jax.process_count() > 1:
                raise stop.error  # the others are in the next step, and saving would need them
            watchdog.doing(f"Saving step {step}")
            recorder.save(step, state)
        saved = recorder.latest_step()
    error = stop.error or recorder.checkpoints.error
    if error is not None:
        raise error
    if stop.agreed():
        raise Stopped(_where_it_stopped(step, saved, total), stop.number)
    return state


def _start(session: Session, training: Training) -> TrainState:
    """The state of the checkpoint to go on from, else a fresh one."""
    past = session.past
    if past.step:
        with contextlib.closing(Checkpoints(session.workdir / run_files.CHECKPOINTS)) as checkpoints:
            shapes = jax.eval_shape(training.fresh)
            try:
                state = checkpoints.restore(past.step, shapes, training.state_sharding)
            except UserError as error:
                raise UserError(f"{error}{same_data.perhaps(past, training.dataset, training.fixed_keys)}") from None
        terminal.say(f"Going on from step {past.step} of {training.plan.total_steps}.")
        return state
    if past.ignored:
        terminal.warn("No whole checkpoint is left: starting from the beginning.")
    return training.fresh()


def image_batches(
    config: ConfigDict,
    source: Records,
    view: View,
    mesh: Mesh,
    start_step: int,
    on_unreadable: Callable[[int], None],
    order: Order | None = None,
    check: Callable[[Any], None] = lambda batch: None,
) -> Iterator[Any]:
    """Global batches of the view's type on the devices, of which each host reads its rows.

    check: sees them first, in NumPy. Raises UserError, at once, where they cannot be read so.
    """
    batches = loader.train_batches(
        source,
        view,
        seed=config.seed,
        order=order,
        batch_size=config.batch_size,
        start_step=start_step,
        workers=config.data.workers,
        on_unreadable=on_unreadable,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    return _on_devices(batches, mesh, check)


def _on_devices(batches: Iterator[Any], mesh: Mesh, check: Callable[[Any], None]) -> Iterator[Any]:
    for batch in batches:
        check(batch)
        yield sharding.shard_batch(batch, mesh)


def _where_it_stopped(step: int, saved: int, total: int) -> str:
    again = f"The same command goes on from {('there' if saved == step else f'step {saved}') if saved else 'the start'}"
    if step == 0:
        what = f"Stopped before step 1 of {total}: there is nothing to save."
    elif saved == step:
        what = f"Saved at step {step} of {total}."
    else:
        what = f"Stopped at step {step} of {total}, not saved: loss or gradient of the last steps was not finite."
    return f"{what}\n  {again}:\n  {environment.command()}"
