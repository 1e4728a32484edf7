"""From a ConfigDict to the objects that a run is made of (builders/methods.py has what it trains)."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, compiled_step, config_checks, methods
from repre_jax.builders.monitor import Evaluation
from repre_jax.core import schedules, sharding
from repre_jax.core.types import TrainState
from repre_jax.data import sources
from repre_jax.data.loader import TrainView
from repre_jax.data.sources import DataSet
from repre_jax.models import decoder, encoders
from repre_jax.report import console
from repre_jax.train.pretrain import Pretraining


@dataclass(frozen=True)
class Job:
    """The parts of one pre-training run.

    init_state() gives the same fresh state each time, laid out by state_sharding, a sharding for each array.
    """

    mesh: Mesh
    dataset: DataSet
    plan: schedules.Plan
    method: Pretraining
    train_view: TrainView
    evaluation: Evaluation
    init_state: Callable[[], TrainState]
    state_sharding: TrainState


def check(config: ConfigDict) -> None:
    """Raises UserError for whatever can be seen to be wrong without the data."""
    config_checks.ranges(config)
    config_checks.parts(config.batch_size, config.accumulate)
    sharding.make_mesh(config.batch_size, config.accumulate)
    methods.encoder_of(config)
    augmentation.build_train_view(config)
    methods.build_method(config, methods.build_plan(config, records=config.batch_size))


def build(config: ConfigDict) -> Job:
    """Opens the data and builds the rest for it. Raises UserError when the data set is missing or unfit."""
    dataset = sources.open_dataset(config.data.name, config.data.dir, config.data.train_split, config.data.test_split)
    mesh = sharding.make_mesh(config.batch_size, config.accumulate)
    train_view = augmentation.build_train_view(config)
    plan = methods.build_plan(config, records=len(dataset.train))
    method = methods.build_method(config, plan, dataset)
    if config.shard_state:
        method = methods.gathered(method, mesh)
    evaluation = Evaluation(
        method,
        dataset,
        mesh,
        size=train_view.views.size,
        channels=config.data.channels,
        crop_fraction=config.data.test_crop,
        batch_size=config.batch_size,
        k=config.knn.k,
        train_records=config.knn.train_records,
        test_records=config.knn.test_records,
    )

    def fresh(key: jax.Array) -> TrainState:
        return method.init_state(key, (*train_view.views.size, config.data.channels))

    key = compiled_step.key_of(config)
    layout = sharding.of_state(jax.eval_shape(fresh, key), mesh, split=config.shard_state)
    init = jax.jit(fresh, out_shardings=layout)
    return Job(mesh, dataset, plan, method, train_view, evaluation, lambda: init(key), layout)


def describe(config: ConfigDict, job: Job) -> list[console.Row]:
    """The table that a run starts with."""
    view, reconstruction, collapse = job.train_view.views, job.method.reconstruction, job.method.framework.collapse
    rebuilt = "both views" if config.repre.views == 2 else "first view"
    sizes = f"{augmentation.VIEWS} of {view.size[0]} x {view.size[1]} pixels a record"
    if local := job.train_view.local:
        sizes += f", {local.count} local ones of {local.size[0]} x {local.size[1]}"
    if config.data.channels != augmentation.RGB:
        sizes += f"; {config.data.channels} channels, so that colours are not jittered, solarized or turned to grey"
    return [
        *console.shares(job.plan, job.mesh.size, job.method.framework.in_microbatches),
        *([("state", sharding.describe_split(jax.eval_shape(job.init_state), job.mesh))] if config.shard_state else []),
        ("data set", console.dataset(job.dataset.identity(), job.dataset.directory, job.dataset.classes)),
        *([("", f"{job.dataset.lacking}; its labels do not count")] if job.dataset.lacking else []),
        ("views", sizes),
        ("framework", f"{config.framework.name}; a contrastive loss of {collapse.value:.4g} would mean collapse"),
        ("", f"({collapse.formula})"),
        ("encoder", encoders.describe(job.method.encoder)),
        (
            "decoder",
            "none: the baseline"
            if reconstruction is None
            else f"{decoder.describe(reconstruction.decoder)}, {rebuilt}",
        ),
        *console.plan(
            job.plan,
            lr_per_256=config.optim.lr,
            optimizer=config.optim.name,
            shape=config.optim.schedule,
            momentum=job.method.framework.target == "ema",
        ),
        ("parameters", console.parameter_counts(jax.eval_shape(job.init_state).params)),
    ]
