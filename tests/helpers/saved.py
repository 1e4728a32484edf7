"""Runs with one checkpoint of random numbers: all that an export or an evaluation reads, and nothing was trained."""

import jax
import jax.numpy as jnp
import numpy as np

from repre_jax.core.checkpoint import Checkpoints
from repre_jax.running import resume
from repre_jax.system import command_line
from repre_jax.tasks import pretrain

STEP = 3
GREY = ["--config.data.channels=1", "--config.data.mean=(0.5,)", "--config.data.std=(0.25,)"]


def saved_run(workdir, config, *overrides, change=None, pixels=True):
    """The state as it was saved, in NumPy arrays.

    config: such as 'dino_vit_s', whose ':tiny' it is. change: of the state, before it is saved.
    pixels: what the record says of them, True for the method's; False as in records of before these were noted.
    """
    job_config, _ = command_line.parse(["main.py", f"--config=configs/{config}.py:tiny", *overrides])
    job, rng = pretrain.build(job_config), np.random.default_rng(0)

    def draw(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return (0.1 * rng.standard_normal(leaf.shape) if floating else np.zeros(leaf.shape)).astype(leaf.dtype)

    state = jax.tree.map(draw, jax.eval_shape(job.step.init_state))
    state = state if change is None else change(state)
    record = {"config": resume.plain(job_config), "data": job.dataset.identity(), "seconds": 1.0, "unreadable": []}
    if pixels:
        theirs = {"mean": list(job.step.method.mean), "std": list(job.step.method.std)}
        record["pixels"] = theirs if pixels is True else pixels
    checkpoints = Checkpoints(workdir / "checkpoints")
    (workdir / "checkpoints").mkdir(parents=True)
    checkpoints.save(STEP, state, record)
    checkpoints.close()
    assert checkpoints.error is None
    return state
