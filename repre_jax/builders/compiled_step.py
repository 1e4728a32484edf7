"""Builds a config's training step: the plan, the method, the devices, and how the state lies on them. And compiles it
without data, without weights and without running it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.core import sharding
from repre_jax.core.schedules import Plan
from repre_jax.core.types import TrainState, Views
from repre_jax.data.sources import DataSet
from repre_jax.train.pretrain import Pretraining

STEPS = 1000  # in an epoch, which schedules are laid out for where no data set is open


@dataclass(frozen=True)
class Step:
    """What a step trains and where.

    shapes: of the state's arrays; state_sharding: a layout for each of them. key: the run's base key.
    """

    plan: Plan
    method: Pretraining
    mesh: Mesh
    image_shape: tuple[int, int, int]
    key: np.ndarray
    shapes: TrainState
    state_sharding: TrainState

    def init_state(self) -> TrainState:
        """The fresh state, the same each time, laid out by state_sharding."""
        return self._init(self.key)

    @functools.cached_property
    def _init(self) -> jax.stages.Wrapped:
        return jax.jit(lambda key: self.method.init_state(key, self.image_shape), out_shardings=self.state_sharding)


@dataclass(frozen=True)
class Program(Step):
    """compiled: (state laid out by state_sharding, batch split over the mesh) -> (state, metrics); the state is
    donated."""

    compiled: jax.stages.Compiled


def key_of(config: ConfigDict) -> np.ndarray:
    """A run's base key, uint32 [2], as a NumPy array: raw, because orbax stores it with the state; and on the host,
    because an array on one process's device would not be addressable by all processes."""
    return np.asarray(jax.random.PRNGKey(config.seed))


def build(config: ConfigDict, dataset: DataSet | None = None, devices: Sequence[jax.Device] = ()) -> Step:
    """For the records and the pixels of `dataset`; without one for an epoch of STEPS steps. devices: to compile for;
    else those that are here.

    Raises UserError for a config that does not fit together.
    """
    mesh = sharding.mesh_of(devices) if devices else sharding.make_mesh(config.batch_size, config.accumulate)
    plan = methods.build_plan(config, records=len(dataset.train) if dataset else STEPS * config.batch_size)
    method = methods.build_method(config, plan, dataset)
    method = methods.gathered(method, mesh) if config.shard_state else method
    image_shape = (*augmentation.image_size(config), config.data.channels)
    key = key_of(config)
    shapes = jax.eval_shape(lambda key: method.init_state(key, image_shape), key)
    layout = sharding.of_state(shapes, mesh, split=config.shard_state)
    return Step(plan, method, mesh, image_shape, key, shapes, layout)


def compile_step(config: ConfigDict, devices: Sequence[jax.Device] = ()) -> Program:
    """devices: as `build`. Raises UserError for a config that does not fit together."""
    step = build(config, devices=devices)
    return Program(**vars(step), compiled=compiled(config, step))


def compiled(config: ConfigDict, step: Step) -> jax.stages.Compiled:
    """See Program."""
    layout = step.state_sharding
    state = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), step.shapes, layout)
    jitted = sharding.jit_step(step.method.train_step, layout, step.mesh)
    return jitted.lower(state, batch_of(config, step.mesh)).compile()


def batch_of(config: ConfigDict, mesh: Mesh) -> Views:
    """Shapes, dtypes and sharding of what a step takes."""
    rows = sharding.along_batch(mesh)

    def crops(count: int, size: tuple[int, int]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((config.batch_size, count, *size, config.data.channels), np.uint8, sharding=rows)

    local = config.augment.local_views
    fields: dict[str, Any] = {
        "images": crops(augmentation.VIEWS, augmentation.image_size(config)),
        "labels": jax.ShapeDtypeStruct((config.batch_size,), np.int32, sharding=rows),
        "local": crops(local, augmentation.local_size(config)) if local else None,
    }
    return Views(**fields)
