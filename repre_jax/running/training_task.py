"""What every task that trains does around its steps: look what the workdir holds, start or go on, record, stop, sum up.

run() prepares, _train() hands the task's step to the loop (running/loop.py), while running/recorder.py writes down what
happens; the task itself then concludes.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.core import run_files, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import Stopped
from repre_jax.core.types import TrainState, Views
from repre_jax.data import loader
from repre_jax.pretrained import finished
from repre_jax.report import console, trackers
from repre_jax.report.live import LivePage
from repre_jax.running import loop, memory, resume
from repre_jax.running.job import Training
from repre_jax.running.recorder import Recorder
from repre_jax.running.signals import StopRequest
from repre_jax.running.watchdog import Watchdog
from repre_jax.running.workdir import lock_token, locked
from repre_jax.system import environment, runtime, terminal


def run(
    config: ConfigDict,
    workdir: Path,
    *,
    build: Callable[[resume.History], Training],
    summary: Callable[[dict[str, Any]], str],
    weights: Callable[[], str] | None = None,
) -> dict[str, Any]:
    """Trains, or goes on training, or just reports a finished run; returns what result.json holds.

    config: checked by the task. workdir: absolute; gets config.json, starts.jsonl (a line a start: from which step,
    with which versions, devices ...), run_files.jsonl, tensorboard/, report.html, checkpoints/ and result.json.
    weights: SHA-256 of those that it would begin with, which a finished run is compared by; None where it needs none.
    Raises UserError for what cannot work, before anything is trained or written, and Stopped after a signal.
    """
    started = time.perf_counter()
    settings = resume.plain(config)
    resume.check_names(config.may_change, settings)
    trackers.check(config.wandb)
    with locked(workdir) if runtime.is_main() else contextlib.nullcontext():
        runtime.check_same("config", resume.shared(settings))
        runtime.check_same("workdir", {str(workdir): lock_token(workdir)})
        past = resume.look(workdir, settings)
        runtime.check_same("past", {"step": past.step, "finished": past.result is not None})
        if past.result is not None:
            note = finished.compare(past.result, weights) if weights else ""
            _conclude(workdir, f"This run is finished. Its summary:\n{summary(past.result)}{note}")
            return past.result

        def seconds() -> float:
            return past.seconds + time.perf_counter() - started

        job = build(past)
        resume.check_data(past, job.dataset.identity(), config.may_change)
        runtime.check_same("data set", job.dataset.identity())
        resume.check_left(past, job.plan.total_steps)
        resume.check_kept(past, job.weights, job.kept)
        _announce(config, job, workdir, past)
        full = memory.explained(
            batch_size=config.batch_size,
            devices=job.mesh.size,
            accumulate=config.get("accumulate"),
            remat=config.encoder.remat,
            shard_state=config.get("shard_state"),
        )
        with full, Watchdog(config.distributed.step_timeout, runtime.label(), runtime.end_process) as watchdog:
            state = _train(config, job, workdir, past, seconds, watchdog)

            def should_stop() -> bool:
                watchdog.doing("Evaluating at the end")
                return False

            result = {"command": environment.command()} | job.conclude(state, seconds(), should_stop)
        if runtime.is_main():
            run_files.write_json(workdir / run_files.RESULT, result)
        _conclude(workdir, f"Summary:\n{summary(result)}")
        return result


def _conclude(workdir: Path, text: str) -> None:
    """The last words of a finished run, and its page."""
    LivePage(workdir, write=runtime.is_main()).write()
    print(f"{text}\nReport: {workdir / run_files.PAGE}", flush=True)


def _announce(config: ConfigDict, job: Training, workdir: Path, past: resume.History) -> None:
    """Says and writes down what this start begins with; makes room where no whole checkpoint lies."""
    terminal.say(console.table([*job.description, ("workdir", str(workdir))]))
    for item in past.ignored:
        terminal.warn(f"Ignored: checkpoint {item}.")
    for line in past.changed:
        terminal.say(f"Changed, as may_change allows: {line}")
    if runtime.is_main():
        Checkpoints(workdir / run_files.CHECKPOINTS).make_room(past.ignored)
        resume.reopen(workdir)
        run_files.write_json(workdir / run_files.CONFIG, resume.plain(config))
        start = {"step": past.step, "total_steps": job.plan.total_steps, **environment.record(config.seed)}
        starts = workdir / run_files.STARTS
        run_files.write_rows(starts, [*run_files.read_metrics(starts), job.origin | start])
    runtime.check_same("start", {"step": past.step})  # nobody reads on before process 0 has cleared up


def _train(
    config: ConfigDict,
    job: Training,
    workdir: Path,
    past: resume.History,
    seconds: Callable[[], float],
    watchdog: Watchdog,
) -> TrainState:
    """The state after the last step. seconds: how long the run has taken, earlier starts included."""
    total = job.plan.total_steps
    with StopRequest(job.mesh) as stop:

        def measure(step: int, state: TrainState) -> loop.Values:
            def should_stop() -> bool:
                watchdog.doing(f"Step {step}: evaluating")
                return stop.agreed()

            return job.measure(state, should_stop)

        if job.prepare is not None:

            def should_stop() -> bool:
                watchdog.doing("Preparing")
                return stop.agreed()

            job.prepare(stop, should_stop)
        state = _start(job, workdir, past)
        recorder = Recorder(config, job, workdir, past, seconds, stop, skipped=int(state.skipped))
        with contextlib.closing(recorder):
            if recorder.to_be_measured(past.step):
                values = measure(past.step, state)
                recorder.log(past.step, values)
                recorder.after(past.step, state, values)
            layouts = (job.state_sharding, sharding.replicated(job.mesh))
            step_fn = jax.jit(job.train_step, donate_argnums=0, out_shardings=layouts)
            state, step = loop.fit(
                lambda state, batch: step_fn(state, batch, *job.frozen),
                state,
                job.batches(past.step, recorder.unreadable),
                start_step=past.step,
                total_steps=total,
                batch_size=config.batch_size,
                log_steps=loop.every(config.log_every, total),
                log=recorder.log,
                hooks=(loop.Hook(measure, job.eval_steps),),
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
        raise Stopped(_where_it_stopped(step, saved, total), stop.signal)
    return state


def _start(job: Training, workdir: Path, past: resume.History) -> TrainState:
    """The state of the checkpoint to go on from, else a fresh one."""
    if past.step:
        with contextlib.closing(Checkpoints(workdir / run_files.CHECKPOINTS)) as checkpoints:
            state = checkpoints.restore(past.step, jax.eval_shape(job.fresh), job.state_sharding)
        terminal.say(f"Going on from step {past.step} of {job.plan.total_steps}.")
        return state
    if past.ignored:
        terminal.warn("No whole checkpoint is left: starting from the beginning.")
    return job.fresh()


def image_batches(
    config: ConfigDict,
    source: Sequence[Mapping],
    view: loader.TrainView,
    mesh: Mesh,
    start_step: int,
    on_unreadable: Callable[[int], None],
    check: Callable[[Views], None] = lambda batch: None,
) -> Iterator[Views]:
    """Global batches of images on the devices, of which each host reads its rows. check: sees them first, in NumPy."""
    batches = loader.train_batches(
        source,
        view,
        batch_size=config.batch_size,
        start_step=start_step,
        workers=config.data.workers,
        on_unreadable=on_unreadable,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
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
