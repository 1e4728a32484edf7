"""The trained encoder that an evaluation looks at: of a run's checkpoint, or of a file of weights."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, methods
from repre_jax.core import config_paths, run_files, sharding
from repre_jax.core.errors import Gone, UserError
from repre_jax.data import deep
from repre_jax.models import vit
from repre_jax.models.encoders import Encoder
from repre_jax.models.vit import VIT_VARIANTS, ViT
from repre_jax.pretrained import saved_run, weight_file
from repre_jax.pretrained.saved_run import Params, Saved
from repre_jax.pretrained.weight_file import CARD
from repre_jax.system import terminal

NETWORKS = ("online", "target", "untrained")
# Keys of config.data that a run brings, and what a file without a card beside it stands for.
DATA = {"image_size": (224, 224), "test_crop": 0.875, "channels": 3}
OF_RUNS = (*DATA, "name", "dir", "train_split", "test_split", "mean", "std", "value_range")

Values = tuple[float, ...]


@dataclass(frozen=True)
class Backbone:
    """An encoder, and where its weights come from.

    origin: what result.json says of them: init_from, framework, network, step, and of a file its SHA-256.
    mean, std: per channel, of pixels in 0..1, that it was trained with; None where nobody says.
    load(mesh): the parameters, float32, whole on each device. untrained(mesh, seed): those before the first step of the
    run, of a file freshly drawn ones; with a seed those that it gives. trained: the config of the run that trained it,
    None where nobody says. value_range: of images of more than 8 bits, that it was trained with (data/deep.py); None
    where there were none, or nobody says.
    """

    encoder: Encoder
    origin: dict[str, Any]
    mean: Values | None
    std: Values | None
    load: Callable[[Mesh], Params]
    untrained: Callable[..., Params]
    trained: ConfigDict | None = None
    value_range: deep.Ranges | None = None
    resized: str | None = None  # from which grid of learned positions to which, where they were resized once

    def at_size(self, image_size: tuple[int, int]) -> "Backbone":
        """The same for images of another size, learned positions resized once, when they are loaded; a Swin as it is.

        Raises UserError when the patch does not divide the image.
        """
        trained = self.encoder
        if not isinstance(trained, ViT):
            return self

        def resized(load: Callable[..., Params]) -> Callable[..., Params]:
            def load_resized(mesh: Mesh, *seed: int | None) -> Params:
                def resize(params: Params) -> Params:
                    return vit.resize_positions(trained, params, image_size)

                return jax.jit(resize, out_shardings=sharding.replicated(mesh))(load(mesh, *seed))

            return load_resized

        encoder, said = vit.at_size(trained, image_size), None
        if not trained.fixed_positions and encoder.grid != trained.grid:
            (rows, columns), (new_rows, new_columns) = trained.grid, encoder.grid
            said = f"learned ones of {rows} x {columns} patches, resized once to {new_rows} x {new_columns}"
        return dataclasses.replace(
            self, encoder=encoder, load=resized(self.load), untrained=resized(self.untrained), resized=said
        )


def find(
    config: ConfigDict, workdir: Path, scratch: bool = False, needs_data: bool = True, resize_positions: bool = False
) -> Backbone:
    """What config.init_from names; nothing is written.

    Keys that are not set become the run's: network, step, dtype, encoder.* and data.*; network becomes the one that the
    framework's authors evaluate. An evaluation that goes on keeps the step that it began with.
    scratch: let network 'untrained' do without init_from. needs_data: refuse a file when nothing names a data set.
    resize_positions: learned ones, once, to config.data.image_size; else each pass resizes them.
    Raises Gone when there is no such thing, and UserError when the config contradicts it.
    """
    if config.network not in (None, *NETWORKS):
        raise UserError(f"Unknown network {config.network!r}.\n  expected: {', '.join(NETWORKS)}")
    if not config.init_from and scratch and config.network == "untrained":
        return _of_nothing(config)  # its positions are drawn for these images
    if not config.init_from:
        raise UserError(
            "init_from is not set: which encoder?\n"
            "  change:   --config.init_from=RUN, the workdir of a run, or a file of weights"
        )
    source = config_paths.absolute(config.init_from)
    if source == workdir:
        raise UserError(f"init_from is the workdir itself, {workdir}.\n  change:   --workdir, to another folder")
    config.init_from = str(source)
    found = _of_file(config, source, needs_data) if run_files.is_file(source) else _of_run(config, source, workdir)
    return found.at_size(augmentation.image_size(config)) if resize_positions else found


def _of_run(config: ConfigDict, run: Path, workdir: Path) -> Backbone:
    if not run_files.has_checkpoints(run):
        raise Gone(
            f"{run} is neither a run, with a folder checkpoints, nor a file of weights.\n"
            "  change:   --config.init_from=RUN, the workdir of a run, or a file"
        )
    step, before = config.step, run_files.read_config(workdir, ("init_from", "step")) or {}
    if step is None and before.get("init_from") == str(run):
        step = before["step"]
    found = saved_run.saved(
        run, config.network, step, hint=", and --workdir if this evaluation has begun with another one"
    )
    config.step, config.network = found.step, found.network
    pixels = found.record.get("pixels", {})
    value_range = _seen_range(found.config, pixels)
    encoder = _fill(config, found.config, run)

    def untrained(mesh: Mesh, seed: int | None = None) -> Params:
        return _drawn(encoder, found.config, mesh, seed)

    load = untrained if found.network == "untrained" else _fitting(encoder, found)
    step = None if found.network == "untrained" else found.step
    origin = {"init_from": str(run), "framework": found.framework, "branch": found.network, "step": step}
    mean, std = tuples(pixels.get("mean")), tuples(pixels.get("std"))
    return Backbone(encoder, origin, mean, std, load, untrained, found.config, value_range)


def _fitting(encoder: Encoder, found: Saved) -> Callable[..., Params]:
    """The saved encoder's `load`; without a class token where ours has none and the saved one does."""
    if not isinstance(encoder, ViT) or encoder.class_token or found.config.encoder.get("class_token") is False:
        return found.load

    def load(mesh: Mesh, part: str = "encoder") -> Params:
        params = found.load(mesh, part)
        return vit.without_class_token(encoder, params) if part == "encoder" else params

    return load


def _of_file(config: ConfigDict, path: Path, needs_data: bool) -> Backbone:
    source = weight_file.read(path, None if config.network == "untrained" else config.network)
    if config.step is not None and config.step != source.step:
        raise UserError(f"step is {config.step}, and {path} is one file of weights.\n  change:   leave step out")
    network = config.network = config.network or source.network
    config.step = source.step
    theirs = ConfigDict(source.card["config"]) if source.card else _stated(config, source)
    value_range = _seen_range(theirs, source.card.get("preprocessing", {}))
    encoder = _fill(config, theirs, path)
    if config.data.name is None and needs_data:
        raise UserError(
            f"data.name is not set, and nothing beside {path} says what to evaluate on.\n"
            "  change:   --config.data.name=imagenet2012, folder:PATH or another data set"
        )
    mean, std = _pixels(config, source)
    trained = theirs if source.card else None

    def untrained(mesh: Mesh, seed: int | None = None) -> Params:
        return _drawn(encoder, theirs, mesh, seed)

    origin = {"init_from": str(path), "framework": source.framework, "branch": network, "step": None}
    if network == "untrained":
        return Backbone(encoder, origin, mean, std, untrained, untrained, trained, value_range)
    origin |= {"step": source.step, "sha256": source.sha256}
    params = source.load(encoder, augmentation.image_size(theirs))

    def load(mesh: Mesh) -> Params:
        return jax.device_put(params, sharding.replicated(mesh))

    return Backbone(encoder, origin, mean, std, load, untrained, trained, value_range)


def _seen_range(theirs: ConfigDict, pixels: Mapping[str, Any]) -> deep.Ranges | None:
    """The range of values by which an encoder saw images of more than 8 bits, also where nobody had set it and
    `prepare` had measured it: then its config says so from here on. pixels: what a checkpoint or a card has of them."""
    if (known := tuples(pixels.get("value_range"))) and not theirs.data.get("value_range"):
        theirs.data.value_range = known
    return augmentation.value_range(theirs)


def _stated(config: ConfigDict, source: weight_file.WeightFile) -> ConfigDict:
    """What a card would say, from the config's own keys."""
    if config.encoder.name is None:
        raise UserError(
            f"encoder.name is not set, and {source.path} has no card beside it, {source.path.name}{CARD}.\n"
            "  change:   --config.encoder.name=vit_s, and whatever else differs: encoder.variant, patch, width ...;\n"
            "            --config.data.name, what to evaluate on"
        )
    theirs = _named(config)
    if theirs.encoder.variant is None and source.framework in VIT_VARIANTS:
        theirs.encoder.variant = source.framework  # 'moco_v3' and 'dino': of their own files
    return theirs


def _pixels(config: ConfigDict, source: weight_file.WeightFile) -> tuple[Values, Values]:
    """Mean and deviation of the pixels: the config's, the card's, or ImageNet's for a file of others and RGB."""
    known = source.card.get("preprocessing", methods.IMAGENET if config.data.channels == augmentation.RGB else {})
    found = {key: config.data[key] or tuples(known.get(key)) for key in methods.IMAGENET}
    if known is methods.IMAGENET and None in (config.data.mean, config.data.std):
        terminal.warn(
            "Assumed: pixels normalised as ImageNet's; of timm's own ViTs --config.data.mean and std='(.5, .5, .5)'."
        )
    for key, values in found.items():
        if values is None:
            raise UserError(
                f"data.{key} is not set, and nobody says what {source.path}, for images of {config.data.channels} "
                f"channels, was trained with.\n  change:   --config.data.{key}='(...)', a number a channel"
            )
    return found["mean"], found["std"]


def _of_nothing(config: ConfigDict) -> Backbone:
    if config.encoder.name is None:
        raise UserError("encoder.name is not set.\n  change:   --config.encoder.name=vit_s")
    theirs = _named(config)
    encoder = _fill(config, theirs, Path("this config"))

    def untrained(mesh: Mesh, seed: int | None = None) -> Params:
        return _drawn(encoder, theirs, mesh, seed)

    origin = {"init_from": None, "framework": None, "branch": "untrained", "step": None}
    return Backbone(encoder, origin, None, None, untrained, untrained)


def _named(config: ConfigDict) -> ConfigDict:
    """An encoder that only the config describes, in the form of a run's config."""
    data = {key: config.data.get(key) or usual for key, usual in DATA.items()}
    return ConfigDict({"encoder": config.encoder.to_dict(), "data": data, "seed": config.seed})


def _fill(config: ConfigDict, theirs: ConfigDict, source: Path) -> Encoder:
    """Sets what the config leaves open to the run's; returns the encoder, for the size of its own images.

    The config may choose other blocks for the pyramid, and leave the class token out. Raises UserError for any other
    encoder, or channels, than the run's.
    """
    chosen = any(config.encoder.get(key) is not None for key in methods.PYRAMID)
    for group, keys in (("encoder", (*methods.ARCHITECTURE, *methods.PYRAMID)), ("data", ("channels",))):
        for key in keys:
            ours, known = config[group].get(key), tuples(theirs[group].get(key))
            if key in methods.PYRAMID and chosen:
                continue  # which blocks form the pyramid is nothing that was trained
            if key == "class_token" and ours is not None and known is not False:
                continue  # it can be left out
            if ours is not None and ours != known:
                raise UserError(f"{group}.{key} is {ours!r}, and {source} has {known!r}.\n  change:   leave it out")
            config[group][key] = known
    for key in OF_RUNS:
        if key in config.data and config.data[key] is None:
            config.data[key] = _read(f"data.{key}", tuples(theirs.data.get(key)), source)
    config.dtype = config.dtype or theirs.get("dtype", "float32")
    return methods.encoder_of(config, augmentation.image_size(theirs))


def _read(key: str, value: Any, source: Path) -> Any:
    """A key's value as `source` has it, paths made absolute."""
    place = config_paths.stored(key, value)
    if config_paths.is_relative(key, value):
        terminal.warn(
            f"Note: {source} says {key}={value}, a path from the folder in which it was started; here it is {place}.\n"
            f"  change:   --config.{key}=..., if that is another place"
        )
    return place


def _drawn(encoder: Encoder, theirs: ConfigDict, mesh: Mesh, seed: int | None) -> Params:
    """As train/pretrain.py draws a run's first encoder."""
    images = jnp.zeros((2, *augmentation.image_size(theirs), theirs.data.channels), jnp.float32)

    def init(key: jax.Array) -> Params:
        return encoder.init(jax.random.split(key, 4)[0], images)["params"]

    return jax.jit(init, out_shardings=sharding.replicated(mesh))(
        np.asarray(jax.random.PRNGKey(theirs.seed if seed is None else seed))
    )


def tuples(value: Any) -> Any:
    """JSON has lists where configs have tuples."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value
