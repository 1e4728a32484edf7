"""A small method and batch of every framework for the tests of the step."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np

from repre_jax.builders import methods
from repre_jax.core import optim
from repre_jax.core.types import Pixels, Views
from repre_jax.train import microbatches
from tests.helpers.small_frameworks import EXPECTED

SIZE = (8, 16)
LOCAL_SIZE = (4, 8)
SMALL = {"encoder.depth": (2,), "encoder.pyramid_levels": 1, "encoder.drop_path": 0.3}
SMALL |= {"augment.jitter": (0.4, 0.0, 0.0, 0.0), "augment.grey_probability": 0.5}  # compiling is what one waits for
FAST = {"optim.lr": 0.05, "optim.warmup_epochs": 0.0}
CONFIGS = {name: expected.config for name, expected in EXPECTED.items()}


def build(variants="tiny", framework="moco_v3", **overrides):
    """(config, method) of a tiny framework + RePre on 8 x 16 pixels; DINO's local views have 4 x 8."""
    config = importlib.import_module(f"configs.{CONFIGS[framework]}").get_config(variants)
    small = {"data.image_size": SIZE, "encoder.patch": 4, "encoder.depth": (3,), "encoder.pyramid_levels": 3}
    config.update_from_flattened_dict(small | {"augment.local_size": LOCAL_SIZE} | overrides)
    plan = methods.build_plan(config, records=100)
    return config, methods.build_method(config, plan)


def init(method, seed=0):
    return jax.jit(lambda key: method.init_state(key, (*SIZE, 3)))(jax.random.PRNGKey(seed))


def step_of(method):
    """(state, batch) -> (state, metrics, gradients as the optimiser gets them): train_step, and what passes within."""

    def step(state, batch):
        gradients, carried, metrics = microbatches.mean(method.gradients, state, batch, method.accumulate)
        new_state, metrics = method.update(state, gradients, carried, metrics)
        return new_state, metrics, optim.zero_frozen(gradients, method.rules)

    return step


def learning():
    """(config, method, fresh state, jitted step) at a rate that one step shows."""
    config, method = build(**{"optim.lr": 0.05, "optim.warmup_epochs": 0.0})
    state = init(method)
    return config, method, state, jax.jit(method.train_step)


def batch(count=16, seed=0, local=0):
    rng = np.random.default_rng(seed)
    return Views(
        images=rng.integers(0, 256, (count, 2, *SIZE, 3), dtype=np.uint8),
        labels=rng.integers(0, 10, count).astype(np.int32),
        local=rng.integers(0, 256, (count, local, *LOCAL_SIZE, 3), dtype=np.uint8) if local else None,
    )


def batch_for(method, **settings):
    """A batch with the local views that the method wants."""
    return batch(local=2 if method.local_augmentation else 0, **settings)


def pixels_of(method, state, views):
    """The augmented views of the state's next step, before normalisation."""
    return jax.jit(method.augment)(state.rng, state.step, views)


def random_pixels(method, count=16, seed=0):
    """Views as arrays, float32 in 0..1, without any augmentation."""
    rng = np.random.default_rng(seed)
    local = rng.random((count, 2, *LOCAL_SIZE, 3), np.float32) if method.framework.local_views else None
    return Pixels(rng.random((count, 2, *SIZE, 3), np.float32), local)


@functools.cache
def made(framework, branch="repre"):
    """(method at a rate that one step shows, fresh state on the first device).

    It is put there so that a restored state, which is, finds the same program.
    """
    variants = "tiny" if branch == "repre" else "tiny,baseline"
    overrides = {"optim.lr": 0.01, "optim.warmup_epochs": 0.0, "encoder.drop_path": 0.3}
    overrides |= {"encoder.depth": (2,), "encoder.pyramid_levels": 2}  # compiling is what these tests wait for
    _, method = build(variants, framework, **overrides)
    shapes = jax.eval_shape(lambda: method.init_params(jax.random.PRNGKey(0), (*SIZE, 3)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape) * 0.1, jnp.float32), shapes)
    return method, jax.device_put(method.new_state(params, jax.random.PRNGKey(0)), jax.devices()[0])


@functools.cache
def jitted(framework):
    """The step of what `made` gives, traced once for all tests."""
    return jax.jit(step_of(made(framework)[0]))
