"""Pre-training: from a config to a trained encoder, its checkpoints and its results.

tasks/setup.py builds, running/training_task.py runs, train/pretrain.py has the step.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from repre_jax.builders import batch_size, monitor
from repre_jax.core import run_files
from repre_jax.core.types import TrainState
from repre_jax.pretrained import warm_start
from repre_jax.report import console
from repre_jax.report.figures import reconstructions, sheet
from repre_jax.running import loop, resume, training_task
from repre_jax.running.job import ShouldStop, Training
from repre_jax.system import runtime, terminal
from repre_jax.tasks import setup

FIGURE = "figures/reconstructions.png"  # in the workdir; in the end a .pdf lies beside it


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """tasks/training.run's; the workdir gets figures/reconstructions.png and .pdf, too."""
    config = batch_size.settle(config, workdir)
    setup.check(config)
    return training_task.run(
        config,
        workdir,
        build=lambda past: build(config, workdir, past),
        summary=lambda result: console.summary(result, workdir),
    )


def build(config: ConfigDict, workdir: Path, past: resume.History) -> Training:
    """Raises UserError when the data, or the run that it is to start from, is not there or does not fit."""
    weights_of = warm_start.find(config, workdir) if config.init_from and not past.step else None
    job = setup.build(config)
    total = job.plan.total_steps
    return Training(
        mesh=job.mesh,
        dataset=job.dataset,
        plan=job.plan,
        batches=functools.partial(training_task.image_batches, config, job.dataset.train, job.train_view, job.mesh),
        train_step=job.method.train_step,
        fresh=lambda: job.init_state() if weights_of is None else warm_start.start_from(job, weights_of),
        state_sharding=job.state_sharding,
        measure=functools.partial(_measure, job, workdir),
        eval_steps=loop.evenly(config.knn.times, total),
        collapse=job.method.framework.collapse,
        conclude=lambda state, seconds, should_stop: _conclude(config, job, workdir, state, seconds, should_stop),
        pixels={"mean": job.method.mean, "std": job.method.std},
        description=setup.describe(config, job),
        origin={} if weights_of is None else warm_start.origin(weights_of),
    )


def _measure(job: setup.Job, workdir: Path, state: TrainState, should_stop: ShouldStop) -> dict[str, float]:
    """What is logged; draws the newest reconstructions, too, for whoever watches the run."""
    values = job.evaluation.measure(state, should_stop)
    shown = job.evaluation.examples(state, should_stop) if values and job.method.reconstruction is not None else None
    if shown is not None and runtime.is_main() and np.isfinite(shown.rebuilt).all():
        try:
            _draw(workdir, shown, state, (".png",))
        except OSError as error:
            terminal.warn(f"Warning: {FIGURE} cannot be written: {error.strerror}.")
    return values


def _conclude(
    config: ConfigDict, job: setup.Job, workdir: Path, state: TrainState, seconds: float, should_stop: ShouldStop
) -> dict[str, Any]:
    """Measures the trained and the untrained encoder by the same code, and draws."""
    result = {
        "task": "pretrain",
        "steps": job.plan.total_steps,
        "seconds": seconds,
        "skipped_steps": int(state.skipped),
        "images_per_second": run_files.median(workdir / run_files.METRICS, "images_per_second"),
        "knn_k": config.knn.k,
        "test_interpolation": monitor.INTERPOLATION,
        "knn_top1": job.evaluation.knn(state, should_stop),
        "knn_top1_untrained": job.evaluation.knn(job.init_state(), should_stop),
        "knn_top1_pixels": job.evaluation.knn_pixels(should_stop),
        "effective_rank": None,
        "effective_rank_untrained": None,
        "reconstruction_l1": None,
        "reconstruction_l1_mean_colour": None,
        "reconstruction_of": None,
        "figure": None,
    }
    if result["knn_top1"] is None:
        result["effective_rank"] = job.evaluation.effective_rank(state, should_stop)
        result["effective_rank_untrained"] = job.evaluation.effective_rank(job.init_state(), should_stop)
    if job.method.reconstruction is not None:
        measured = job.evaluation.reconstruction(state, should_stop)
        if runtime.is_main():
            _draw(workdir, measured, state, (".png", ".pdf"))
        result |= {
            "reconstruction_l1": measured.l1,
            "reconstruction_l1_mean_colour": measured.l1_mean_colour,
            "reconstruction_of": "training images" if job.dataset.test is None else "all test images",
            "figure": FIGURE,
        }
    return result


def _draw(workdir: Path, measured: monitor.Reconstructions, state: TrainState, suffixes: Sequence[str]) -> None:
    title = f"Reconstructions\n{workdir.name}: online, step {int(state.step):,}"
    drawn = reconstructions.draw(measured.views, measured.rebuilt, title=title)
    run_files.make_folder((workdir / FIGURE).parent)
    for suffix in suffixes:
        sheet.save(drawn, (workdir / FIGURE).with_suffix(suffix))
