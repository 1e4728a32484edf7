"""Pre-training: from a config to a trained encoder, its checkpoints and its results.

builders/ makes the parts, running/training_task.py runs them, train/pretrain.py has the step.
"""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from repre_jax.builders import attention, augmentation, batch_size, compiled_step, config_checks, methods, monitor
from repre_jax.builders.attention import NOTHING
from repre_jax.builders.compiled_step import Step
from repre_jax.builders.monitor import Monitor
from repre_jax.core import run_files, sharding
from repre_jax.core.errors import Interrupted
from repre_jax.core.types import TrainState
from repre_jax.data.sources import DataSet
from repre_jax.data.views import PretrainView
from repre_jax.models import decoder, encoders
from repre_jax.pretrained import warm_start
from repre_jax.report import console
from repre_jax.report.figures import reconstructions, sheet
from repre_jax.running import lifecycle, loop, resume, training_task
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.running.training import Training
from repre_jax.system import runtime, terminal
from repre_jax.train.reconstruction import Reconstruction

FIGURE = "figures/reconstructions.png"  # in the workdir; in the end a .pdf lies beside it


@dataclass(frozen=True)
class Job:
    """What one pre-training run is made of: its step, its data, how records become views, and what is measured."""

    step: Step
    dataset: DataSet
    train_view: PretrainView
    monitor: Monitor


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Pre-trains as running/training_task.run says; the workdir gets figures/reconstructions.png and .pdf, too."""
    if config.batch_size:
        check(config)
    lifecycle.check_alone(config, workdir)
    config, chosen = attention.settle(config, workdir)
    config = batch_size.settle(config, workdir)
    check(config)
    return training_task.run(
        config,
        workdir,
        build=lambda past: _training(config, workdir, past, chosen),
        summary=lambda result: console.summary(result, workdir),
        reopen=lambda: augmentation.open_dataset(config),
    )


def check(config: ConfigDict) -> None:
    """Raises UserError for whatever can be seen to be wrong without the data.

    What it builds is thrown away: the real plan and method need the number of records and the mean of the pixels.
    """
    config_checks.ranges(config)
    config_checks.microbatches(config.batch_size, config.accumulate)
    sharding.make_mesh(config.batch_size, config.accumulate)
    view = augmentation.build_train_view(config)
    config_checks.hog(config.knn.hog, view.views.size)
    augmentation.value_range(config)
    methods.build_method(config, methods.build_plan(config, records=config.batch_size))


def build(config: ConfigDict) -> Job:
    """Opens the data and builds the rest for it. Raises UserError when the data set is missing or unfit."""
    dataset = augmentation.open_dataset(config)
    step = compiled_step.build(config, dataset)
    return Job(step, dataset, augmentation.build_train_view(config), monitor.build(config, step, dataset))


def _training(config: ConfigDict, workdir: Path, past: resume.History, chosen: Mapping[str, Any] = NOTHING) -> Training:
    """chosen: what the record of this start says of its attention.

    Raises UserError when the data, or the run that it is to start from, is not there or does not fit."""
    source = warm_start.find(config, workdir) if config.init_from and not past.step else None
    job = build(config)
    step, method, total = job.step, job.step.method, job.step.plan.total_steps
    return Training(
        mesh=step.mesh,
        dataset=job.dataset,
        plan=step.plan,
        batches=functools.partial(training_task.image_batches, config, job.dataset.train, job.train_view, step.mesh),
        train_step=method.train_step,
        fresh=step.init_state if source is None else lambda: warm_start.start_from(step, source),
        state_sharding=step.state_sharding,
        evaluate=functools.partial(_evaluate, job, workdir),
        eval_steps=loop.BEFORE_TRAINING | loop.evenly(config.knn.times, total),
        collapse=method.framework.collapse,
        conclude=functools.partial(_conclude, config, job, workdir),
        pixels={"mean": method.mean, "std": method.std},
        description=describe(config, job),
        source={**chosen, **({} if source is None else warm_start.described(source))},
        monitors=True,
    )


def _evaluate(job: Job, workdir: Path, state: TrainState, should_stop: ShouldStop) -> loop.Values:
    """Metrics for the log; draws the newest reconstructions, too, for whoever watches the run."""
    values: loop.Values = {**job.monitor.evaluate(state, should_stop)}
    if job.step.method.reconstruction is not None:
        with contextlib.suppress(Interrupted):  # the metrics are whole
            _draw_newest(workdir, job.monitor.reconstruction(state, should_stop, monitor.EXAMPLES), state)
    return values


def _draw_newest(workdir: Path, shown: monitor.Reconstructions, state: TrainState) -> None:
    if runtime.is_main() and np.isfinite(shown.rebuilt).all():
        try:
            _draw(workdir, shown, state, (".png",))
        except OSError as error:
            terminal.warn(f"Warning: {FIGURE} cannot be written: {error.strerror}.")


def describe(config: ConfigDict, job: Job) -> list[console.Row]:
    """The table that a run starts with."""
    step, plan, method, view = job.step, job.step.plan, job.step.method, job.train_view.views
    reconstruction, collapse = method.reconstruction, method.framework.collapse
    rebuilt = "both views" if config.repre.views == 2 else "first view"
    sizes = f"{augmentation.VIEWS} of {view.size[0]} x {view.size[1]} pixels a record"
    if local := job.train_view.local:
        sizes += f", {local.count} local ones of {local.size[0]} x {local.size[1]}"
    if config.data.channels != augmentation.RGB:
        sizes += f"; {config.data.channels} channels, so that colours are not jittered, solarized or turned to grey"
    return [
        *console.shares(plan, step.mesh.size, method.framework.in_microbatches),
        *([("state", sharding.describe_split(step.shapes, step.mesh))] if config.shard_state else []),
        ("data set", console.dataset(job.dataset.identity(), job.dataset.directory, job.dataset.classes)),
        *([("", f"{job.dataset.lacking}; its labels do not count")] if job.dataset.lacking else []),
        ("views", sizes),
        ("framework", f"{config.framework.name}; a contrastive loss of {collapse.value:.4g} would mean collapse"),
        ("", f"({collapse.formula})"),
        ("encoder", encoders.describe(method.encoder)),
        (
            "decoder",
            "none: the baseline"
            if reconstruction is None
            else f"{decoder.describe(reconstruction.decoder)}, {rebuilt}",
        ),
        *_weights(reconstruction),
        *console.plan(
            plan,
            lr_per_256=config.optim.lr,
            optimizer=config.optim.name,
            shape=config.optim.schedule,
            momentum=method.framework.target == "ema",
        ),
        ("parameters", console.parameter_counts(step.shapes.params)),
    ]


def _weights(reconstruction: Reconstruction | None) -> list[console.Row]:
    if reconstruction is None or reconstruction.fixed_weights is None:
        return []
    contrastive, rebuilt = reconstruction.fixed_weights
    return [("loss weights", f"fixed, {contrastive:g} of the contrastive loss and {rebuilt:g} of the reconstruction")]


def _conclude(
    config: ConfigDict, job: Job, workdir: Path, state: TrainState, seconds: float, should_stop: ShouldStop
) -> dict[str, Any]:
    """Measures the trained and the untrained encoder by the same code, and draws."""
    result = {
        "task": "pretrain",
        "data_set": job.dataset.identity(),
        "steps": job.step.plan.total_steps,
        "seconds": seconds,
        "skipped_steps": int(state.skipped),
        "images_per_second": run_files.median(workdir / run_files.METRICS, "images_per_second"),
        "knn_k": config.knn.k,
        "test_interpolation": monitor.INTERPOLATION,
        "knn_top1": job.monitor.knn(state, should_stop),
        "knn_top1_untrained": job.monitor.knn(job.step.init_state(), should_stop),
        "knn_top1_pixels": job.monitor.knn_pixels(should_stop),
        "knn_top1_hog": job.monitor.knn_hog(should_stop) if config.knn.hog else None,
        "effective_rank": None,
        "effective_rank_untrained": None,
        "reconstruction_l1": None,
        "reconstruction_l1_mean_colour": None,
        "reconstruction_of": None,
        "figure": None,
    }
    if result["knn_top1"] is None:
        result["no_knn"] = job.monitor.no_knn()
        result["effective_rank"] = job.monitor.effective_rank(state, should_stop)
        result["effective_rank_untrained"] = job.monitor.effective_rank(job.step.init_state(), should_stop)
    if job.step.method.reconstruction is not None:
        measured = job.monitor.reconstruction(state, should_stop)
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
