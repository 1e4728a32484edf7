"""The linear probe: heads on a frozen encoder, a grid of learning rates in one pass (train/probe.py has the step)."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.builders.attention import NOTHING
from repre_jax.core import optim, sharding
from repre_jax.core.errors import UserError
from repre_jax.core.schedules import Plan
from repre_jax.core.types import Records, TrainState
from repre_jax.data import subset
from repre_jax.data.sources import DataSet
from repre_jax.models import features
from repre_jax.pretrained import finished
from repre_jax.pretrained.backbone import Backbone
from repre_jax.probing import evaluations, frozen, labelled, pixels
from repre_jax.probing.cached import Cache
from repre_jax.probing.frozen import FrozenEncoder
from repre_jax.probing.head_selection import WHOSE, HeadSelection
from repre_jax.report import console, evaluated
from repre_jax.running import loop, training_task
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.running.resume import History
from repre_jax.running.training import Training
from repre_jax.train.probe import Probe

FRESH = History()
CACHED = "features extracted once, without augmentation: not the published protocol"


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """running/training_task.run's."""
    source = finished.find(config, workdir)
    if config.linear.cached:  # features are extracted as in any evaluation
        source = dataclasses.replace(source, encoder=source.encoder.clone(drop_path=0.0))
    mesh, chosen = check(config, source), NOTHING
    if not config.linear.cached:  # which reads each image once
        size = augmentation.image_size(config)
        source, chosen = evaluations.with_attention(config, source, workdir, size, learns=False)
    return training_task.run(
        config,
        workdir,
        build=lambda past: build(config, source, workdir, mesh, past, chosen),
        summary=evaluated.linear,
        reopen=lambda: augmentation.open_dataset(config),
        weights=lambda: frozen.weights(source),
    )


def check(config: ConfigDict, source: Backbone) -> Mesh:
    """The devices. Raises UserError for what can be seen to be wrong without the data; chooses the feature if none is
    set."""
    mesh = evaluations.check(config)
    evaluations.check_name(config, "linear.protocol", "configs/linear.py")
    config.feature = config.feature or features.of_protocol(config.linear.protocol, source.encoder)
    features.check(source.encoder, config.feature)
    factors = config.linear.factors
    numbers = all(isinstance(factor, int | float) and 0 < factor < math.inf for factor in factors)
    if not numbers or 1.0 not in factors or len(set(factors)) < len(factors):
        raise UserError(
            f"linear.factors is {factors}.\n  expected: different numbers above 0, 1.0 (the protocol's) among them"
        )
    return mesh


def build(
    config: ConfigDict,
    source: Backbone,
    workdir: Path,
    mesh: Mesh,
    past: History = FRESH,
    chosen: Mapping[str, Any] = NOTHING,
) -> Training:
    """past: of earlier starts. chosen: what the record of this start says of its attention.

    Raises UserError when the data is not there, or has no labels."""
    dataset = evaluations.open_data(config, source)
    classes, _ = labelled.check(config, dataset)
    train, held_out = dataset.train, None
    if config.linear.held_out:
        train, held_out = subset.hold_out(train, config.linear.held_out, config.seed)
        if len(held_out) < classes:
            raise UserError(
                f"linear.held_out is {config.linear.held_out:g}: {len(held_out)} of {len(dataset.train):,} training "
                f"images, to choose a head for {classes} classes.\n"
                "  change:   --config.linear.held_out=0.0, for the protocol's own learning rate, or to a larger share"
            )
    plan = methods.build_plan(config, records=len(train))
    probe = probe_of(config, source, classes, plan, mesh)
    encoders = [source.load(mesh), *([source.untrained(mesh)] if config.linear.untrained else [])]
    jobs = [frozen.job_of(config, source.encoder, params, dataset, mesh) for params in encoders]
    width = frozen.width(config, jobs[0])
    if config.linear.cached:
        selection, data = _on_features(config, probe, jobs, workdir, past)
    else:
        selection, data = _on_images(config, probe, jobs, train, held_out)
    key = np.asarray(jax.random.PRNGKey(config.seed))
    fresh = functools.partial(probe.init_state, encoders=len(encoders), width=width)
    layout = sharding.of_state(jax.eval_shape(fresh, key), mesh, split=False)
    init = jax.jit(fresh, out_shardings=layout)

    beside = None
    if config.linear.pixels and held_out is not None:
        beside = functools.partial(pixels.top1, config, train, held_out, dataset.split("test"), classes, mesh)

    def conclude(state: TrainState, seconds: float, should_stop: ShouldStop) -> dict[str, Any]:
        frozen.check_frozen(jobs)
        return {
            **evaluations.record(config, source, dataset),
            **evaluations.training_record(config, len(train)),
            **({"augment": None, "drop_path": 0.0} if config.linear.cached else {}),
            "protocol": config.linear.protocol,
            "cached": config.linear.cached,
            "held_out": config.linear.held_out,
            "weights_sha256": jobs[0].weights,
            "steps": plan.total_steps,
            "seconds": seconds,
            **selection.heads(state, plan.peak_lr, should_stop),
            "top1_pixels": beside(should_stop) if beside else None,
            "run": evaluations.knn_of_run(config, source.origin, dataset),
        }

    return Training(
        mesh=mesh,
        dataset=dataset,
        plan=plan,
        fresh=lambda: init(key),
        state_sharding=layout,
        evaluate=selection.evaluate,
        eval_steps=loop.BEFORE_TRAINING | loop.evenly(config.evaluations, plan.total_steps),
        conclude=conclude,
        pixels={"mean": config.data.mean, "std": config.data.std},
        description=_describe(config, source, dataset, plan, mesh, len(train), width),
        source={"origin": source.origin, **chosen},
        weights=jobs[0].weights,
        fixed_keys=evaluations.FIXED_KEYS,
        **data,
    )


def _on_features(
    config: ConfigDict, probe: Probe, jobs: Sequence[FrozenEncoder], workdir: Path, past: History
) -> tuple[HeadSelection, dict[str, Any]]:
    """How heads are selected, and what Training reads and steps by."""
    folders = [workdir if whose == "trained" else workdir / whose for whose in WHOSE]
    cache = Cache(config, jobs, folders[: len(jobs)], begun=past.step > 0, begun_without=past.left_out)
    selection = HeadSelection(
        probe,
        jobs[0].mesh,
        encoders=(),
        test=cache.tested,
        held_out=cache.chosen_by if config.linear.held_out else None,
        max_unreadable=0.0,  # they have no features, and were counted when these were extracted
    )
    return selection, {
        "batches": cache.batches,
        "prepare": cache.prepare,
        "train_step": probe.cached_step,
        "left_out": cache.left_out,
    }


def _on_images(
    config: ConfigDict, probe: Probe, jobs: Sequence[FrozenEncoder], train: Records, held_out: Records | None
) -> tuple[HeadSelection, dict[str, Any]]:
    """The heads' selection and the run's source, where each step encodes augmented images."""
    mesh, test, encoders = jobs[0].mesh, jobs[0].dataset.split("test"), tuple(job.params for job in jobs)
    selection = HeadSelection(
        probe,
        mesh,
        encoders,
        test=functools.partial(labelled.test_images, config, test),
        held_out=None if held_out is None else functools.partial(labelled.test_images, config, held_out),
        max_unreadable=config.data.max_unreadable,
    )
    view = labelled.train_view(config)
    batches = functools.partial(training_task.image_batches, config, train, view, mesh, check=labelled.check_batch)
    return selection, {"batches": batches, "train_step": probe.train_step, "frozen": encoders}


def probe_of(config: ConfigDict, source: Backbone, classes: int, plan: Plan, mesh: Mesh) -> Probe:
    """The step. config: checked."""
    settings = {key: config.optim[key] for key in (*methods.OPTIMIZER_KEYS, "nesterov")}
    return Probe(
        encoder=source.encoder,
        feature=config.feature,
        classes=classes,
        optimizer=optim.build(config.optim.name, plan, **settings),
        factors=tuple(config.linear.factors),
        lr=plan.lr,
        mean=config.data.mean,
        std=config.data.std,
        flip_probability=config.augment.flip_probability,
        init_std=config.linear.init_std,
        batch_norm=config.linear.batch_norm,
        label_smoothing=config.linear.label_smoothing,
        drop_paths=config.encoder.drop_path > 0,
        mesh=mesh,
    )


def _describe(
    config: ConfigDict, source: Backbone, dataset: DataSet, plan: Plan, mesh: Mesh, records: int, width: int
) -> list[console.Row]:
    linear, optimizer = config.linear, config.optim
    held_out = f", {linear.held_out:.3g} of all held out to choose a head" if linear.held_out else ""
    return [
        *console.shares(plan, mesh.size, ""),
        *evaluations.rows(config, source, dataset, width),
        ("protocol", f"{linear.protocol}; trained on {records:,} images{held_out}"),
        *([("", CACHED)] if linear.cached else []),
        *evaluated.deviations(evaluations.deviations(config)),
        *console.plan(
            plan, lr_per_256=optimizer.lr, optimizer=optimizer.name, shape=optimizer.schedule, momentum=False
        ),
        ("", f"times {', '.join(f'{factor:g}' for factor in linear.factors)}, a head each"),
    ]
