"""Pre-training: from a config to a trained encoder, its checkpoints and its results.

run() prepares, _train() hands the step (train/pretrain.py) to the loop (train/loop.py), _conclude() sums up.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from repre_jax.core import metrics, runtime, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import Stopped
from repre_jax.core.types import TrainState, Views
from repre_jax.data import loader
from repre_jax.data.unreadable import Unreadable
from repre_jax.report import console, figures
from repre_jax.tasks import history, setup
from repre_jax.tasks.watch import Watch
from repre_jax.train import loop
from repre_jax.train.agreement import Agreement
from repre_jax.train.signals import StopRequest
from repre_jax.train.watchdog import Watchdog


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains, or goes on training, or just reports a finished run; returns what result.json holds.

    workdir: absolute; gets config.json, metrics.jsonl, checkpoints/, reconstructions.png and result.json.
    Raises UserError for what cannot work, before anything is trained or written, and Stopped after a signal.
    """
    started = time.perf_counter()
    setup.check(config)
    settings = history.plain(config)
    past = history.look(workdir, settings)
    runtime.check_same("config", history.shared(settings))
    runtime.check_same("past in its workdir", {"step": past.step, "finished": past.result is not None})
    if past.result is not None:
        print(f"This run is finished. Its summary:\n{console.summary(past.result, workdir)}", flush=True)
        return past.result

    job = setup.build(config)
    history.check_unchanged(past.data or job.dataset.identity(), job.dataset.identity(), "data set")
    runtime.check_same("data set", job.dataset.identity())
    rows = [*setup.describe(config, job), ("workdir", str(workdir))]
    setup.make_folder(workdir)
    if runtime.is_main():
        metrics.write_json(workdir / "config.json", settings)
    print(console.table(rows), flush=True)

    with Watchdog(config.distributed.step_timeout, runtime.label(), runtime.end_process) as watchdog:
        state, seconds = _train(config, job, workdir, past, started, watchdog)
        watchdog.doing("Evaluating at the end")
        return _conclude(config, job, workdir, state, seconds)


def _train(
    config: ConfigDict,
    job: setup.Job,
    workdir: Path,
    past: history.History,
    started: float,
    watchdog: Watchdog,
) -> tuple[TrainState, float]:
    """The state after the last step, and the seconds that training took, earlier starts included."""
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep)
    writer = metrics.MetricsFile(workdir / "metrics.jsonl", continue_from=past.step) if runtime.is_main() else None
    total = job.plan.total_steps
    unreadable = Unreadable(job.dataset.train, config.data.channels, config.data.max_unreadable, tqdm.write)

    def seconds() -> float:
        return past.seconds + time.perf_counter() - started

    def log(step: int, values: loop.Values) -> None:
        values = values | {"unreadable": float(len(unreadable))}
        if writer:
            writer.write(step, values)
        tqdm.write(console.progress_line(step, total, values, batch_size=config.batch_size))
        skipped = watch.skipped(step, values, last=step == total, saved=checkpoints.latest_step())
        for warning in filter(None, (skipped, watch.collapsed(values))):
            tqdm.write(warning)

    def save(step: int, state: TrainState) -> loop.Values:
        # While steps are being skipped the newest checkpoint stays that from before the first of them.
        if not int(state.skipped_in_a_row):
            record = {"config": history.plain(config), "data": job.dataset.identity(), "seconds": seconds()}
            checkpoints.save(step, state, record)
        return {}

    def knn(step: int, state: TrainState) -> loop.Values:
        del step
        top1 = job.evaluation.knn(state)
        return {} if top1 is None else {"knn_top1": top1}

    state = _start(job, checkpoints, past.step)
    collapse = job.method.framework.collapse
    watch = Watch(collapse, config.collapse_patience, config.stop_after_skipped, int(state.skipped))
    if not past.step:
        watchdog.doing("Evaluating before the first step")
        log(0, knn(0, state))
    with StopRequest() as stop, contextlib.closing(checkpoints):
        state, step = loop.fit(
            jax.jit(job.method.train_step, donate_argnums=0, out_shardings=sharding.replicated(job.mesh)),
            state,
            _batches(config, job, past.step, unreadable),
            start_step=past.step,
            total_steps=total,
            batch_size=config.batch_size,
            log_steps=loop.every(config.log_every, total),
            log=log,
            hooks=(
                loop.Hook(knn, loop.evenly(config.knn.times, total)),
                loop.Hook(save, loop.every(config.checkpoint.every, total)),
            ),
            stop=stop,
            agreement=Agreement(job.mesh),
            watchdog=watchdog,
        )
        if stop.error is not None and jax.process_count() > 1:
            raise stop.error  # the others are in the next step, and saving would need them
        watchdog.doing(f"Saving step {step}")
        save(step, state)
        saved = checkpoints.latest_step()
    if stop.error is not None:
        raise stop.error
    if step < total:
        raise Stopped(_where_it_stopped(step, saved, total), stop.signal)
    return state, seconds()


def _start(job: setup.Job, checkpoints: Checkpoints, step: int) -> TrainState:
    """A fresh state, or that of the checkpoint of `step`."""
    if not step:
        return job.init_state()
    state = checkpoints.restore(step, jax.eval_shape(job.init_state), sharding.replicated(job.mesh))
    print(f"Going on from step {step} of {job.plan.total_steps}.", flush=True)
    return state


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


def _where_it_stopped(step: int, saved: int | None, total: int) -> str:
    if saved == step:
        return f"Saved at step {step} of {total}. The same command goes on from there."
    where = f"from step {saved}" if saved else "from the start"
    return (
        f"Stopped at step {step} of {total}, not saved: loss or gradient of the last steps was not finite.\n"
        f"  The same command goes on {where}."
    )


def _conclude(config: ConfigDict, job: setup.Job, workdir: Path, state: TrainState, seconds: float) -> dict[str, Any]:
    """Measures the trained and the untrained encoder by the same code, draws, writes result.json, prints."""
    result = {
        "task": "pretrain",
        "steps": job.plan.total_steps,
        "seconds": seconds,
        "skipped_steps": int(state.skipped),
        "images_per_second": metrics.median(workdir / "metrics.jsonl", "images_per_second"),
        "knn_k": config.knn.k,
        "knn_top1": job.evaluation.knn(state),
        "knn_top1_untrained": job.evaluation.knn(job.init_state()),
        "knn_top1_pixels": job.evaluation.knn_pixels(),
        "reconstruction_l1": None,
        "reconstruction_l1_mean_colour": None,
        "reconstruction_of": None,
        "figure": None,
    }
    if job.method.branch is not None:
        measured = job.evaluation.reconstruction(state)
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
