"""A trained encoder on its way into segmentation or detection, and what these have trained, on its way out of a run."""

import contextlib
import dataclasses
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.core import config_paths, run_files, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import UserError
from repre_jax.models import vit
from repre_jax.models.encoders import Encoder
from repre_jax.models.vit import ViT
from repre_jax.pretrained import backbone, saved_run
from repre_jax.pretrained.backbone import Backbone
from repre_jax.pretrained.saved_run import Params
from repre_jax.running import resume
from repre_jax.system import shipped

CALLED = {"segment": "segmentation", "detect": "detection"}


@dataclass(frozen=True)
class Trained:
    """What a task has trained on an encoder.

    run: the workdir. step: of the checkpoint. record: what it says of the run. config: the run's. encoder: the module.
    state: the parts of the train state that were asked for, whole on each device.
    """

    run: Path
    step: int
    record: dict[str, Any]
    config: ConfigDict
    encoder: Encoder
    state: Params

    @property
    def mean(self) -> tuple[float, ...]:
        return tuple(self.record["pixels"]["mean"])

    @property
    def std(self) -> tuple[float, ...]:
        return tuple(self.record["pixels"]["std"])


def _command(task: str, encoder: Path) -> str:
    """That trains one on the encoder of a run."""
    return f"{shipped.program()} --config configs/{task}.py " + shlex.quote(f"--config.init_from={encoder}")


def trained(
    task: str,
    parts: Sequence[str],
    run: str | Path,
    step: int | None,
    mesh: Mesh,
    *,
    dtype: str | None,
    attention: str,
    keys: str,
) -> Trained:
    """The newest checkpoint of a run of this task, or that of `step`.

    parts: of the train state, such as 'params'. dtype: of matrix products, else the run's. attention: how it is
    computed, whatever the run was trained by (models/vit.py). keys: how the flag of `step` begins, for messages. Raises
    UserError where there is no such thing.
    """
    path = config_paths.absolute(run)
    step, record, shapes = saved_run.chosen(path, step, keys=keys)
    if record["config"].get("task") != task:
        pre_trained = "framework" in record["config"]
        raise UserError(
            f"{path} is a run of the task {record['config'].get('task')!r}.\n"
            f"  expected: a run of {CALLED[task]}, as configs/{task}.py trains it"
            + (f"\n  train:    {_command(task, path)}" if pre_trained else "")
        )
    config = ConfigDict(backbone.tuples(record["config"]))
    config.encoder.attention = "xla"  # which any machine has
    asked = config.copy_and_resolve_references()
    asked.dtype, asked.encoder.attention = dtype or config.dtype, attention
    encoder = methods.encoder_of(asked, augmentation.image_size(config))
    wanted = {part: shapes[part] for part in parts}
    places = jax.tree.map(lambda _: sharding.replicated(mesh), wanted)
    with contextlib.closing(Checkpoints(path / run_files.CHECKPOINTS)) as checkpoints, resume.still_there(path, step):
        state = checkpoints.restore_part(step, wanted, places)
    return Trained(path, step, record, config, encoder, state)


def read_as(config: ConfigDict, found: Backbone, encoder: Encoder) -> Backbone:
    """A trained encoder as `encoder` reads it: with other blocks in the pyramid, or without the class token. Of a ViT
    the config then says so."""
    before = found.encoder
    if not isinstance(encoder, ViT) or not isinstance(before, ViT):
        return found
    config.encoder.pyramid_blocks, config.encoder.pyramid_levels = encoder.pyramid_blocks, None
    config.encoder.class_token = encoder.class_token
    if encoder.class_token == before.class_token:
        return dataclasses.replace(found, encoder=encoder)

    def without(load: Callable[..., Any]) -> Callable[..., Any]:
        return lambda mesh, *seed: vit.without_class_token(encoder, load(mesh, *seed))

    return dataclasses.replace(found, encoder=encoder, load=without(found.load), untrained=without(found.untrained))
