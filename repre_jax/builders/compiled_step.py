"""A config's training step as XLA compiles it: without data, without weights, without running it."""

from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.core import sharding
from repre_jax.core.schedules import Plan
from repre_jax.core.types import TrainState, Views
from repre_jax.train.pretrain import Pretraining

STEPS = 1000  # in an epoch, which schedules are laid out for


@dataclass(frozen=True)
class Program:
    """compiled: (state laid out by state_sharding, batch split over the mesh) -> (state, metrics); the state is
    donated."""

    plan: Plan
    method: Pretraining
    mesh: Mesh
    state_sharding: TrainState
    compiled: jax.stages.Compiled


def key_of(config: ConfigDict) -> np.ndarray:
    """A run's base key, uint32 [2]: raw, because it lies in the state and orbax is to store it like any other array; of
    NumPy, because an array on this process's device is none that the processes of a run have in common."""
    return np.asarray(jax.random.PRNGKey(config.seed))


def compile_step(config: ConfigDict) -> Program:
    """Raises UserError for a config that does not fit together."""
    mesh = sharding.make_mesh(config.batch_size, config.accumulate)
    plan = methods.build_plan(config, records=STEPS * config.batch_size)
    method = methods.build_method(config, plan)
    method = methods.gathered(method, mesh) if config.shard_state else method
    shape = (*augmentation.image_size(config), config.data.channels)
    shapes = jax.eval_shape(lambda key: method.init_state(key, shape), key_of(config))
    layout = sharding.of_state(shapes, mesh, split=config.shard_state)
    state = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, layout)
    step = jax.jit(method.train_step, donate_argnums=0, out_shardings=(layout, sharding.replicated(mesh)))
    return Program(plan, method, mesh, layout, step.lower(state, batch_of(config, mesh)).compile())


def batch_of(config: ConfigDict, mesh: Mesh) -> Views:
    """Shapes, dtypes and sharding of what a step takes."""
    rows = sharding.along_batch(mesh)

    def crops(count: int, size: tuple[int, int]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((config.batch_size, count, *size, config.data.channels), np.uint8, sharding=rows)

    local = config.augment.local_views
    return Views(
        images=crops(augmentation.VIEWS, augmentation.image_size(config)),
        labels=jax.ShapeDtypeStruct((config.batch_size,), np.int32, sharding=rows),
        local=crops(local, augmentation.local_size(config)) if local else None,
    )
