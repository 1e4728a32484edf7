"""A small method and batch for the tests of the step."""

import jax
import numpy as np

from configs import moco_vit_s
from repre_jax.core.types import Views
from repre_jax.data import photometric
from repre_jax.tasks import setup

SIZE = (8, 16)


def build(variants="tiny", **overrides):
    """(config, method) of a tiny MoCo v3 + RePre on 8 x 16 pixels."""
    config = moco_vit_s.get_config(variants)
    config.update_from_flattened_dict(
        {"data.image_size": SIZE, "encoder.patch": 4, "encoder.depth": (3,), "encoder.hierarchies": 3} | overrides
    )
    plan = setup.build_plan(config, records=100)
    return config, setup.build_method(config, plan)


def init(method, seed=0):
    return jax.jit(lambda key: method.init_state(key, (*SIZE, 3)))(jax.random.PRNGKey(seed))


def learning():
    """(config, method, fresh state, jitted step) at a rate that one step shows."""
    config, method = build(**{"optim.lr": 0.05, "optim.warmup_epochs": 0.0})
    state = init(method)
    return config, method, state, jax.jit(method.train_step)


def batch(count=16, seed=0):
    rng = np.random.default_rng(seed)
    return Views(
        images=rng.integers(0, 256, (count, 2, *SIZE, 3), dtype=np.uint8),
        labels=rng.integers(0, 10, count).astype(np.int32),
    )


def pixels_of(method, state, views):
    """The augmented views of the state's next step, before normalisation."""
    key = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), 0)
    return photometric.augment(key, views.images, method.augmentation)
