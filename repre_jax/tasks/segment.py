"""Semantic segmentation of whole images by a trained encoder and a head (train/segmentation.py has the step)."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.builders import segmentation as builder
from repre_jax.builders.attention import NOTHING
from repre_jax.core import sharding
from repre_jax.core.types import TrainState
from repre_jax.models.segmentation import build as heads
from repre_jax.pretrained import finished, segmenter
from repre_jax.pretrained.backbone import Backbone
from repre_jax.probing import evaluations, frozen, measured_again, segmenting
from repre_jax.report import console, evaluated
from repre_jax.running import loop, resume, training_task
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.running.training import Training
from repre_jax.tasks import segment_again
from repre_jax.tasks.figures.segmentation import Drawing

IN_MICROBATCHES = "each is normalised by its own statistics, and the running ones move with each"


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """running/training_task.run's; with config.evaluate set a run of this task is measured instead."""
    asked = measured_again.asked(config)
    evaluations.check_name(config, "segment.head", "configs/segment.py")
    config.data.image_size = augmentation.image_size(config)  # one number stands for a square
    if config.evaluate:
        return segment_again.run(config, workdir, asked)
    builder.follow_epochs(config, asked.typed)
    builder.check(config)
    resume.check_names(config.may_change, resume.plain(config))
    mesh = sharding.make_mesh(config.batch_size, config.accumulate)
    blocks = config.encoder.pyramid_blocks
    source = finished.find(config, workdir, scratch=True, resize_positions=True)
    source = segmenter.for_head(config, source, blocks)
    size, learns = augmentation.image_size(config), not config.segment.frozen
    source, chosen = evaluations.with_attention(config, source, workdir, size, learns=learns)
    return training_task.run(
        config,
        workdir,
        build=lambda _: build(config, source, mesh, workdir, chosen),
        summary=evaluated.segmented,
        reopen=lambda: builder.open_data(config).dataset,
        weights=None if config.network == "untrained" else lambda: frozen.weights(source),
    )


def build(
    config: ConfigDict, source: Backbone, mesh: Mesh, workdir: Path, chosen: Mapping[str, Any] = NOTHING
) -> Training:
    """workdir: gets figures whenever the test images are segmented.
    chosen: what the record of this start says of its attention.

    Raises UserError when the data is not there, or has no label maps, or its test images do not fit the crop.
    """
    data = segmenting.open_data(config, source.mean, source.std)
    dataset = data.dataset
    plan = methods.build_plan(config, records=len(dataset.train))
    head = heads.build(config.segment.head, len(data.classes), source.encoder)
    method = builder.build_method(config, source.encoder, head, plan)
    key = np.asarray(jax.random.PRNGKey(config.seed))
    weights = source.untrained(mesh, config.seed) if config.network == "untrained" else source.load(mesh)
    sha256 = frozen.digest(weights)
    layout = sharding.of_state(jax.eval_shape(method.new_state, weights, key), mesh, split=False)
    new_state = jax.jit(method.new_state, out_shardings=layout)
    whole = segmenting.whole_images(config, data, mesh, segmenting.logits_of(method), head.align_corners)
    encoder = weights if config.segment.frozen else None
    measured = segmenting.once_a_step(config, whole, encoder)
    draw = Drawing(config, workdir, data, whole)

    def evaluate(state: TrainState, should_stop: ShouldStop) -> loop.Values:
        measures = measured(state, should_stop)
        draw(int(state.step), measures, segmenting.variables(state, encoder), (".png",))
        found = measures[0]
        return {"miou": found.miou, "macc": found.macc, "aacc": found.aacc}

    def conclude(state: TrainState, seconds: float, should_stop: ShouldStop) -> dict[str, Any]:
        measures = measured(state, should_stop)
        draw(int(state.step), measures, segmenting.variables(state, encoder), (".png", ".pdf"))
        return {
            **segmenting.record(config, source.origin, data),
            **evaluations.training_record(config, len(dataset.train)),
            "weights_sha256": sha256,
            "steps": plan.total_steps,
            "seconds": seconds,
            "skipped_steps": int(state.skipped),
            **segmenting.result_of(measures, data.classes),
        }

    view = builder.train_view(config, data)
    records, kept = builder.train_records(config, data)
    return Training(
        mesh=mesh,
        dataset=dataset,
        batches=functools.partial(training_task.image_batches, config, records, view, mesh),
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
            *segmenting.rows(config, source.encoder, source.origin, data),
            *([("positions", source.resized)] if source.resized else []),
            *([("decoded images", kept)] if kept else []),
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
        fixed_keys=segmenting.FIXED_KEYS,
        frozen=(weights,) if config.segment.frozen else (),
    )
