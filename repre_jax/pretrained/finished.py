"""Evaluations that have begun, or are finished: the same command again finds the same encoder and settings, and a
figure is not reported as that of other weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import Gone
from repre_jax.pretrained import backbone
from repre_jax.pretrained.backbone import Backbone, tuples

OF_DATA = ("train_split", "mean", "std")  # keys of config.data that nobody need set: the data set may bring them


def find(config: ConfigDict, workdir: Path, scratch: bool = False, resize_positions: bool = False) -> Backbone:
    """The encoder to evaluate: backbone.find's. Where that is gone and an evaluation of it is finished in the workdir,
    the encoder that config.json describes, with which the config is completed: without weights, since `load` raises
    Gone."""
    before = run_files.read_config(workdir, ("init_from", "step", "network", "encoder", "data"))
    try:
        found = backbone.find(config, workdir, scratch, resize_positions=resize_positions)
        if before and _begun_with(config, before):
            _complete(config.data, before["data"], OF_DATA)
        return found
    except Gone as gone:
        there = run_files.read_json(workdir / run_files.RESULT, ("origin",)) is not None
        if not there or before is None or not config_paths.same("init_from", before["init_from"], config.init_from):
            raise
        error = gone
    _complete(config, before, ("step", "network", "dtype"))
    _complete(config.encoder, before["encoder"], (*methods.ARCHITECTURE, *methods.PYRAMID))
    _complete(config.data, before["data"], backbone.OF_RUNS)

    def load(mesh: Mesh, seed: int | None = None) -> dict[str, Any]:
        raise error

    return Backbone(methods.encoder_of(config, augmentation.image_size(config)), {}, None, None, load, load)


def _begun_with(config: ConfigDict, before: Mapping[str, Any]) -> bool:
    """Whether an evaluation that was begun is of the encoder and the data set that the config names."""
    pairs = (
        ("init_from", before["init_from"], config.init_from),
        ("data.name", before["data"]["name"], config.data.name),
    )
    return all(config_paths.same(key, theirs, ours) for key, theirs, ours in pairs)


def _complete(config: ConfigDict, before: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Sets those of `keys` that nobody has set to what they were."""
    for key in keys:
        if key in config and config[key] is None:
            config[key] = tuples(before.get(key))
