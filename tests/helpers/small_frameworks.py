"""Every framework with small, different sizes, for the tests of losses and heads."""

import jax.numpy as jnp

from repre_jax.core import schedules
from repre_jax.frameworks import byol, dino, moby, moco_v2, moco_v3, simclr, simsiam

BATCH, WIDTH, QUEUE, PROTOTYPES, LOCAL = 6, 5, 18, 11, 3
DINO = {
    "hidden": 7, "bottleneck": 4, "train_gain": True, "batch_norm": False, "temperature": 0.13,
    "teacher_temperature": (0.05, 0.09), "teacher_warmup_epochs": 3.0, "centre_momentum": 0.8,
}  # fmt: skip


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
    dtype, made = {"dtype": jnp.float32}, plan(batch)
    builders = {
        "simclr": lambda: simclr.build(made, hidden=None, out=WIDTH, temperature=0.3, **dtype),
        "byol": lambda: byol.build(made, hidden=8, out=WIDTH, **dtype),
        "simsiam": lambda: simsiam.build(made, hidden=None, predictor_hidden=3, out=WIDTH, **dtype),
        "moco_v2": lambda: moco_v2.build(made, hidden=None, out=WIDTH, queue=QUEUE, temperature=0.3, **dtype),
        "moco_v3": lambda: moco_v3.build(made, hidden=8, out=WIDTH, temperature=0.3, **dtype),
        "moby": lambda: moby.build(made, hidden=8, out=WIDTH, queue=QUEUE, temperature=0.3, **dtype),
        "dino": lambda: dino.build(made, out=PROTOTYPES, **DINO, **dtype),
    }
    return builders[name]()
