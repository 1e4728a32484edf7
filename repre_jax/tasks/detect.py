"""Detection and instance segmentation by a trained encoder in a Mask R-CNN (train/detection.py has the step)."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import detection as builder
from repre_jax.builders import methods
from repre_jax.builders.attention import NOTHING
from repre_jax.core import sharding
from repre_jax.core.types import TrainState
from repre_jax.pretrained import detector, finished
from repre_jax.pretrained.backbone import Backbone
from repre_jax.probing import detecting, evaluations, frozen, measured_again
from repre_jax.report import console, evaluated
from repre_jax.running import loop, resume, training_task
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.running.training import Training
from repre_jax.tasks import detect_again
from repre_jax.tasks.figures.detection import Drawing

IN_MICROBATCHES = "each divides its losses by what it holds itself"


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """running/training_task.run's; with config.evaluate set a run of this task is measured instead."""
    asked = measured_again.asked(config)
    if config.evaluate:
        return detect_again.run(config, workdir, asked)
    builder.check(config)
    resume.check_names(config.may_change, resume.plain(config))
    mesh = sharding.make_mesh(config.batch_size, config.accumulate)
    blocks = config.encoder.pyramid_blocks
    source = finished.find(config, workdir, scratch=True)
    source = detector.for_detector(config, source, blocks)
    source, chosen = evaluations.with_attention(config, source, workdir, builder.largest_canvas(config))
    return training_task.run(
        config,
        workdir,
        build=lambda _: build(config, source, mesh, workdir, chosen),
        summary=evaluated.detected,
        reopen=lambda: builder.open_data(config).dataset,
        weights=None if config.network == "untrained" else lambda: frozen.weights(source),
    )


def build(
    config: ConfigDict, source: Backbone, mesh: Mesh, workdir: Path, chosen: Mapping[str, Any] = NOTHING
) -> Training:
    """workdir: gets figures whenever the test images are looked at, and what is found in them at the end.
    chosen: what the record of this start says of its attention.

    Raises UserError when the data is not there, or has no objects.
    """
    data = detecting.open_data(config, source.mean, source.std)
    dataset, order = data.dataset, builder.order(config, data)
    plan = methods.build_plan(config, records=len(order))
    model = builder.build_model(config, source.encoder, len(data.categories))
    method = builder.build_method(config, model, plan, mesh)
    key = np.asarray(jax.random.PRNGKey(config.seed))
    weights = source.untrained(mesh, config.seed) if config.network == "untrained" else source.load(mesh)
    sha256 = frozen.digest(weights)
    layout = sharding.of_state(jax.eval_shape(method.new_state, weights, key), mesh, split=False)
    new_state = jax.jit(method.new_state, out_shardings=layout)
    measured = detecting.once_a_step(config, detecting.whole_split(config, data, mesh, method.detections))
    draw = Drawing(config, workdir, data)

    def evaluate(state: TrainState, should_stop: ShouldStop) -> loop.Values:
        found = measured(state, should_stop)
        draw(int(state.step), found, (".png",))
        return detecting.logged(found)

    def conclude(state: TrainState, seconds: float, should_stop: ShouldStop) -> dict[str, Any]:
        found = measured(state, should_stop)
        detecting.write(workdir, found)
        draw(int(state.step), found, (".png", ".pdf"))
        detecting.warn_of_overflow(config, found)
        return {
            **detecting.record(config, source.origin, data),
            **evaluations.training_record(config, len(dataset.train)),
            "weights_sha256": sha256,
            "steps": plan.total_steps,
            "seconds": seconds,
            "skipped_steps": int(state.skipped),
            **detecting.result_of(found),
        }

    view = builder.train_view(config)
    return Training(
        mesh=mesh,
        dataset=dataset,
        batches=functools.partial(training_task.image_batches, config, dataset.train, view, mesh, order=order),
        plan=plan,
        train_step=method.train_step,
        fresh=lambda: new_state(weights, key),
        state_sharding=layout,
        evaluate=evaluate,
        eval_steps=loop.evenly(config.evaluations, plan.total_steps),
        conclude=conclude,
        pixels={"mean": method.mean, "std": method.std},
        description=[
            *console.shares(plan, mesh.size, IN_MICROBATCHES),
            *detecting.rows(config, source.encoder, source.origin, data),
            *detecting.training_rows(config, data, builder.resizing(config).canvases),
            *evaluated.deviations(evaluations.deviations(config)),
            *console.plan(
                plan,
                lr_per_256=config.optim.lr,
                optimizer=config.optim.name,
                shape=config.optim.schedule,
                momentum=False,
            ),
        ],
        source={"origin": source.origin, **chosen},
        weights=sha256,
        fixed_keys=detecting.FIXED_KEYS,
    )
