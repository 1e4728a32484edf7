"""Pre-training: from a config to a trained encoder, its checkpoints and its results.

run() prepares, _train() hands the step (train/pretrain.py) to the loop (train/loop.py), while tasks/recorder.py writes
down what happens, and _conclude() sums up.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from repre_jax.core import environment, metrics, runtime, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import Stopped
from repre_jax.core.types import TrainState, Views
from repre_jax.data import loader
from repre_jax.data.unreadable import Unreadable
from repre_jax.report import console, figures
from repre_jax.tasks import history, setup, weights
from repre_jax.tasks.recorder import Recorder
from repre_jax.tasks.workdir import claim_of, claimed
from repre_jax.train import loop, memory
from repre_jax.train.signals import StopRequest
from repre_jax.train.watchdog import Watchdog


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains, or goes on training, or just reports a finished run; returns what result.json holds.

    workdir: absolute; gets config.json, starts.jsonl (a line a start: from which step, with which versions, devices
        ...), metrics.jsonl, checkpoints/, reconstructions.png and result.json.
    Raises UserError for what cannot work, before anything is trained or written, and Stopped after a signal.
    """
    started = time.perf_counter()
    setup.check(config)
    history.check_names(config.may_change, history.plain(config))
    with claimed(workdir) if runtime.is_main() else contextlib.nullcontext():
        runtime.check_same("config", history.shared(history.plain(config)))
        runtime.check_same("workdir", {str(workdir): claim_of(workdir)})
        past = history.look(workdir, history.plain(config))
        runtime.check_same("past", {"step": past.step, "finished": past.result is not None})
        weights_of = weights.find(config, workdir) if config.init_from and not past.step else None
        if past.result is not None:
            print(f"This run is finished. Its summary:\n{console.summary(past.result, workdir)}", flush=True)
            return past.result

        def seconds() -> float:
            return past.seconds + time.perf_counter() - started

        job = setup.build(config)
        history.check_data(past, job.dataset.identity(), config.may_change)
        runtime.check_same("data set", job.dataset.identity())
        history.check_left(past, job.plan.total_steps)
        _announce(config, job, workdir, past, weights_of)
        full = memory.explained(
            batch_size=config.batch_size,
            devices=job.mesh.size,
            accumulate=config.accumulate,
            remat=config.encoder.remat,
            shard_state=config.shard_state,
        )
        with full, Watchdog(config.distributed.step_timeout, runtime.label(), runtime.end_process) as watchdog:
            state = _train(config, job, workdir, past, weights_of, seconds, watchdog)
            return _conclude(config, job, workdir, state, seconds(), watchdog)


def _announce(
    config: ConfigDict, job: setup.Job, workdir: Path, past: history.History, weights_of: weights.Source | None
) -> None:
    """Says and writes down what this start begins with; makes room where no whole checkpoint lies."""
    print(console.table([*setup.describe(config, job), ("workdir", str(workdir))]), flush=True)
    print("".join(f"Ignored: checkpoint {item}.\n" for item in past.ignored), end="")
    print("".join(f"Changed, as may_change allows: {line}\n" for line in past.changed), end="", flush=True)
    if runtime.is_main():
        Checkpoints(workdir / "checkpoints").make_room(past.ignored)
        history.reopen(workdir)
        metrics.write_json(workdir / "config.json", history.plain(config))
        source = {} if weights_of is None else {"init_from": str(weights_of[0]), "init_step": weights_of[1]}
        start = {"step": past.step, **source, **environment.record(config.seed)}
        metrics.write_rows(workdir / "starts.jsonl", [*metrics.read_metrics(workdir / "starts.jsonl"), start])
    runtime.check_same("start", {"step": past.step})  # nobody reads on before process 0 has cleared up


def _train(
    config: ConfigDict,
    job: setup.Job,
    workdir: Path,
    past: history.History,
    weights_of: weights.Source | None,
    seconds: Callable[[], float],
    watchdog: Watchdog,
) -> TrainState:
    """The state after the last step. seconds: how long the run has taken, earlier starts included."""
    total = job.plan.total_steps
    with StopRequest(job.mesh) as stop:

        def measure(step: int, state: TrainState) -> loop.Values:
            def left_off() -> bool:  # asked before each batch
                watchdog.doing(f"Step {step}: evaluating")
                return stop.agreed()

            return job.evaluation.measure(state, left_off)

        state = _start(job, workdir, past, weights_of)
        recorder = Recorder(config, job, workdir, past, seconds, stop, skipped=int(state.skipped))
        with contextlib.closing(recorder):
            if recorder.to_be_measured(past.step):
                values = measure(past.step, state)
                recorder.log(past.step, values)
                recorder.after(past.step, state, values)
            layouts = (job.state_sharding, sharding.replicated(job.mesh))
            state, step = loop.fit(
                jax.jit(job.method.train_step, donate_argnums=0, out_shardings=layouts),
                state,
                _batches(config, job, past.step, recorder.unreadable),
                start_step=past.step,
                total_steps=total,
                batch_size=config.batch_size,
                log_steps=loop.every(config.log_every, total),
                log=recorder.log,
                hooks=(loop.Hook(measure, recorder.measuring),),
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


def _start(job: setup.Job, workdir: Path, past: history.History, weights_of: weights.Source | None) -> TrainState:
    """The state of the checkpoint to go on from, else a fresh one, perhaps with another run's weights."""
    if past.step:
        with contextlib.closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
            state = checkpoints.restore(past.step, jax.eval_shape(job.init_state), job.state_sharding)
        print(f"Going on from step {past.step} of {job.plan.total_steps}.", flush=True)
        return state
    if past.ignored:
        print("No whole checkpoint is left: starting from the beginning.", flush=True)
    return job.init_state() if weights_of is None else weights.start_from(job, weights_of)


def _batches(config: ConfigDict, job: setup.Job, start_step: int, unreadable: Unreadable) -> Iterator[Views]:
    """Global batches on the devices, of which each host reads its rows."""
    batches = loader.train_batches(
        job.dataset.train,
        job.train_view,
        batch_size=config.batch_size,
        start_step=start_step,
        workers=config.data.workers,
        on_unreadable=unreadable,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    return (sharding.shard_batch(batch, job.mesh) for batch in batches)


def _where_it_stopped(step: int, saved: int, total: int) -> str:
    again = f"The same command goes on from {('there' if saved == step else f'step {saved}') if saved else 'the start'}"
    if step == 0:
        what = f"Stopped before step 1 of {total}: there is nothing to save."
    elif saved == step:
        what = f"Saved at step {step} of {total}."
    else:
        what = f"Stopped at step {step} of {total}, not saved: loss or gradient of the last steps was not finite."
    return f"{what}\n  {again}:\n  {environment.command()}"


def _conclude(
    config: ConfigDict, job: setup.Job, workdir: Path, state: TrainState, seconds: float, watchdog: Watchdog
) -> dict[str, Any]:
    """Measures the trained and the untrained encoder by the same code, draws, writes result.json, prints."""

    def left_off() -> bool:
        watchdog.doing("Evaluating at the end")
        return False

    result = {
        "task": "pretrain",
        "steps": job.plan.total_steps,
        "seconds": seconds,
        "skipped_steps": int(state.skipped),
        "images_per_second": metrics.median(workdir / "metrics.jsonl", "images_per_second"),
        "knn_k": config.knn.k,
        "knn_top1": job.evaluation.knn(state, left_off),
        "knn_top1_untrained": job.evaluation.knn(job.init_state(), left_off),
        "knn_top1_pixels": job.evaluation.knn_pixels(left_off),
        "effective_rank": None,
        "effective_rank_untrained": None,
        "reconstruction_l1": None,
        "reconstruction_l1_mean_colour": None,
        "reconstruction_of": None,
        "figure": None,
    }
    if result["knn_top1"] is None:
        result["effective_rank"] = job.evaluation.effective_rank(state, left_off)
        result["effective_rank_untrained"] = job.evaluation.effective_rank(job.init_state(), left_off)
    if job.method.branch is not None:
        measured = job.evaluation.reconstruction(state, left_off)
        figure = workdir / "reconstructions.png"
        if runtime.is_main():
            figures.reconstructions(figure, measured.views, measured.rebuilt)
        result |= {
            "reconstruction_l1": measured.l1,
            "reconstruction_l1_mean_colour": measured.l1_mean_colour,
            "reconstruction_of": "training images" if job.dataset.test is None else "all test images",
            "figure": figure.name,
        }
    if runtime.is_main():
        metrics.write_json(workdir / "result.json", result)
    print(f"Summary:\n{console.summary(result, workdir)}", flush=True)
    return result
