"""A run of configs/segment.py with one checkpoint of random numbers: nothing was trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from repre_jax.core import run_files, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.pretrained import finished, segmenter
from repre_jax.running import resume, same_data
from repre_jax.system import command_line
from repre_jax.tasks import segment

STEP = 3
ENCODER = (
    *("--config.encoder.name=vit_ti", "--config.encoder.width=32", "--config.encoder.depth=(4,)"),
    *("--config.encoder.heads=(4,)", "--config.encoder.patch=8"),
)


def saved(workdir, data_name, *overrides, attention="xla"):
    """The workdir, of crops of 32 every 16, on images as they are. attention: by which it says that it was trained."""
    flags = [
        *("--config.data.image_size=(32, 32)", "--config.segment.test_stride=(16, 16)"),
        *("--config.segment.test_size=()", "--config.segment.frozen=False", f"--config.data.name={data_name}"),
        "--config.data.test_split=validation",
    ]
    argv = ["main.py", "--config=configs/segment.py:scratch,linear,tiny", *flags, *ENCODER, *overrides]
    config, _ = command_line.parse(argv)
    mesh = sharding.make_mesh(config.batch_size)
    source = finished.find(config, workdir, scratch=True, resize_positions=True)
    training = segment.build(config, segmenter.for_head(config, source, None), mesh, workdir)
    rng = np.random.default_rng(0)

    def draw(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return rng.standard_normal(leaf.shape).astype(leaf.dtype) if floating else leaf

    state = training.fresh()
    params = {**state.params, "head": jax.tree.map(draw, state.params["head"])}
    state = jax.device_get(dataclasses.replace(state, params=params))
    record = {
        "config": resume.plain(config),
        "data": training.dataset.identity(),
        "pixels": {"mean": list(training.pixels["mean"]), "std": list(training.pixels["std"])},
        "weights": training.weights,
        "seconds": 1.0,
        "unreadable": [],
    }
    record["config"]["encoder"]["attention"] = attention
    (workdir / run_files.CHECKPOINTS).mkdir(parents=True)
    checkpoints = Checkpoints(workdir / run_files.CHECKPOINTS)
    checkpoints.save(STEP, state, record)
    checkpoints.close()
    assert checkpoints.error is None
    run_files.write_json(workdir / run_files.CONFIG, resume.plain(config))
    run_files.write_json(workdir / run_files.DATA, same_data.described(training.dataset))
    return workdir
