"""Every framework with small, different sizes, for the tests of losses and heads."""

import jax.numpy as jnp

from repre_jax.core import schedules
from repre_jax.frameworks import FRAMEWORKS
from tests.helpers import expected
from tests.helpers.expected import BATCH

EXPECTED = expected.of_all()


def plan(batch=BATCH, steps_per_epoch=10):
    return schedules.resolve(
        records=batch * steps_per_epoch,
        batch_size=batch,
        epochs=20.0,
        total_steps=None,
        warmup_epochs=0.0,
        lr_per_256=1.0,
    )


def framework(name, batch=BATCH):
    return FRAMEWORKS[name].build(plan(batch), **EXPECTED[name].small, dtype=jnp.float32)
