"""Builds the method that a run trains from its config: encoder, framework, reconstruction, augmentation, optimiser."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Collection, Mapping
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, config_checks
from repre_jax.core import optim, schedules, sharding
from repre_jax.core.errors import UserError
from repre_jax.data.sources import DataSet
from repre_jax.frameworks import FRAMEWORKS
from repre_jax.frameworks.base import Framework
from repre_jax.losses import weighting
from repre_jax.models import build_encoder, decoder, encoders, platform
from repre_jax.train import wide_gradients
from repre_jax.train.pretrain import Pretraining
from repre_jax.train.reconstruction import Reconstruction

# Keys of config.encoder that a forward pass depends on and shapes do not always tell apart.
ARCHITECTURE = ("name", "variant", "patch", "width", "depth", "heads", "window", "class_token")
PYRAMID = ("pyramid_levels", "pyramid_blocks")  # of config.encoder; the features do not depend on them
DECODER_KEYS = ("preset", "views", "single", "operator", "fusion_layers")
SCHEDULE_KEYS = ("momentum", "momentum_end")  # of config.framework; they are in the plan
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # of pixels in 0..1
OPTIMIZER_KEYS = ("b1", "b2", "eps", "momentum", "trust_coefficient", "clip_norm", "clip_each")


def choose(kind: str, name: str, known: Collection[str]) -> str:
    """`name` itself, or a UserError that lists what is known."""
    if name not in known:
        raise UserError(f"Unknown {kind} {name!r}.\n  expected: {', '.join(sorted(known))}")
    return name


def architecture(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a config's encoder settings that ARCHITECTURE names. Without class_token where there is one, as in
    earlier versions, which did not have the key."""
    return {key: settings.get(key) for key in ARCHITECTURE if key != "class_token" or settings.get(key) is False}


def encoder_of(config: ConfigDict, size: tuple[int, int] | None = None) -> encoders.Encoder:
    """The encoder for images of `size` (the config's): its name, and whatever else is set."""
    settings = {key: value for key, value in config.encoder.items() if value is not None}
    name = settings.pop("name")
    if name in encoders.VITS:  # a tuple in the config, since Swin has a number a stage
        for key in {"depth", "heads"} & settings.keys():
            if len(settings[key]) != 1:
                raise UserError(f"encoder.{key} is {settings[key]}.\n  expected: one number; stages are Swin's")
            settings[key] = settings[key][0]
    else:
        settings.pop("variant", None)  # every config has one, for ViT
    size = size or augmentation.image_size(config)
    return build_encoder(name, image_size=size, channels=config.data.channels, dtype=config.dtype, **settings)


def build_plan(config: ConfigDict, records: int) -> schedules.Plan:
    """Steps, learning rate and momentum for a data set of `records` training records."""
    framework = config.get("framework", {})  # an evaluation has none
    return schedules.resolve(
        records=records,
        batch_size=config.batch_size,
        epochs=config.epochs,
        total_steps=config.total_steps,
        accumulate=config.get("accumulate", 1),
        warmup_epochs=config.optim.warmup_epochs,
        lr_per_256=config.optim.lr,
        warmup_steps=config.optim.get("warmup_steps"),
        lr_start=config.optim.lr_start,
        lr_end=config.optim.lr_end,
        shape=config.optim.schedule,
        power=config.optim.get("power"),
        decay_epochs=config.optim.get("decay_epochs"),
        decay_factor=config.optim.get("decay_factor"),
        weight_decay=config.optim.weight_decay,
        weight_decay_end=config.optim.weight_decay_end,
        momentum_start=framework.get("momentum", 1.0),
        momentum_end=framework.get("momentum_end", 1.0),
    )


def build_framework(config: ConfigDict, plan: schedules.Plan) -> Framework:
    """The framework that config.framework names, with its other keys. Raises UserError when they do not fit it."""
    settings = config.framework.to_dict()
    if "name" not in settings:
        raise UserError(
            f"The config has no framework.name.\n  given:    {', '.join(sorted(settings)) or 'no keys of framework'}\n"
            f"  expected: one of {', '.join(sorted(FRAMEWORKS))}\n"
            '  change:   config.framework.name = "moco_v3", or another one of these, in the config file'
        )
    build = FRAMEWORKS[choose("framework", settings.pop("name"), FRAMEWORKS)].build
    given = {key: value for key, value in settings.items() if key not in SCHEDULE_KEYS}
    wanted = set(inspect.signature(build).parameters) - {"plan", "dtype"}
    framework = build(plan, **given, dtype=config.dtype) if wanted == set(given) else None
    if framework is None or any((key in settings) != (framework.target == "ema") for key in SCHEDULE_KEYS):
        if framework is not None:
            wanted |= set(SCHEDULE_KEYS if framework.target == "ema" else ())
            given = settings
        differ = (("missing:  ", wanted - set(given)), ("unknown:  ", set(given) - wanted))
        raise UserError(
            f"framework {config.framework.name} does not have the settings of this config.\n"
            + "".join(
                f"  {what}{', '.join(f'framework.{key}' for key in sorted(keys))}\n" for what, keys in differ if keys
            )
            + f"  given:    {', '.join(sorted(settings))}\n"
            f"  expected: {', '.join(sorted(wanted))}; momentum and momentum_end if its target is a moving average\n"
            "  change:   --config to a config file of that framework; or these keys, in a file of one's own"
        )
    return framework


def _check_local_views(config: ConfigDict, framework: Framework) -> None:
    if not framework.local_views:
        raise UserError(
            f"framework {config.framework.name} takes no local views, got {config.augment.local_views}.\n"
            "  change:   --config.augment.local_views=0"
        )
    try:
        encoder_of(config, augmentation.local_size(config))
    except UserError as error:
        raise UserError(str(error).replace("data.image_size", "augment.local_size")) from None


def normalisation(config: ConfigDict, dataset: DataSet | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel: the config's, else those measured by `prepare`, else ImageNet's.

    Raises UserError when they do not fit the channels, or there are none for a data set of other channels than RGB.
    """
    channels, found = config.data.channels, {}
    for key, usual in IMAGENET.items():
        measured = getattr(dataset, key) if dataset else None
        values = config.data[key] or measured or (usual if channels == augmentation.RGB else None)
        if values is None and dataset:
            raise UserError(
                f"data.{key} is not set, and {dataset.name} has {channels} channels and was not measured.\n"
                f"  change:   --config.data.{key}='(...)', or write it with python -m repre_jax.tools.prepare folder"
            )
        found[key] = tuple(values or (1.0,) * channels)
    config_checks.numbers("data.mean", found["mean"], channels, 0, 1)
    config_checks.numbers("data.std", found["std"], channels, 1e-6, 1)
    return found["mean"], found["std"]


def _fixed_weights(config: ConfigDict) -> tuple[float, float] | None:
    """Raises UserError for what are no two weights. They are stored as log-variances, and limited as those are."""
    if config.repre.fixed_weights is None:
        return None
    if config.repre.weighting_lr_scale != 1:
        raise UserError(
            f"repre.fixed_weights is {config.repre.fixed_weights}, and repre.weighting_lr_scale is of learned ones.\n"
            "  change:   leave one of them out"
        )
    low, high = (math.exp(bound) for bound in weighting.LOG_VARIANCE_RANGE)
    config_checks.numbers("repre.fixed_weights", config.repre.fixed_weights, 2, low, high)
    contrastive, rebuilt = config.repre.fixed_weights
    return contrastive, rebuilt


def build_method(config: ConfigDict, plan: schedules.Plan, dataset: DataSet | None = None) -> Pretraining:
    """Encoder, framework with its heads, RePre's reconstruction unless it is off, augmentations and optimiser.

    dataset: asked for its pixels' mean and deviation; None before it is open, when nothing is trained either.
    """
    framework = build_framework(config, plan)
    encoder = encoder_of(config)
    if config.augment.local_views:
        _check_local_views(config, framework)
    reconstruction = None
    if config.repre.enabled:
        reconstruction = Reconstruction(
            decoder=decoder.build(encoder, **{key: config.repre[key] for key in DECODER_KEYS}),
            views=config.repre.views,
            weighting_lr_scale=config.repre.weighting_lr_scale,
            fixed_weights=_fixed_weights(config),
        )
    mean, std = normalisation(config, dataset)
    if config.gradient_reduction is not None:
        choose("gradient_reduction", config.gradient_reduction, wide_gradients.KINDS)
    rules = tuple(config.optim.rules) + (reconstruction.rules() if reconstruction else ())
    optimizer = optim.build(
        config.optim.name,
        plan,
        **{key: config.optim[key] for key in OPTIMIZER_KEYS},
        rules=rules,
    )
    logged = {"lr": plan.lr}
    if config.optim.weight_decay_end is not None:
        logged["weight_decay"] = plan.weight_decay
    views = augmentation.build_augmentation(config)
    return Pretraining(
        encoder=encoder,
        framework=framework,
        reconstruction=reconstruction,
        optimizer=optimizer,
        momentum=plan.momentum,
        mean=mean,
        std=std,
        augmentation=views[: augmentation.VIEWS],
        local_augmentation=views[augmentation.VIEWS] if config.augment.local_views else None,
        rules=rules,
        schedules=logged,
        accumulate=config.accumulate,
        wide_gradients=config.gradient_reduction is not None,
        in_groups=updated_in_groups(config),
    )


def updated_in_groups(config: ConfigDict) -> bool:
    """Whether parameters are updated in groups (train/joined.py): on a GPU, where starting a kernel for each takes
    longer than the work; not where the state is split over devices, which joining would undo."""
    by_number = config.optim.name in optim.BY_NUMBER and not config.optim.clip_each
    return platform.compiled_for() == "gpu" and by_number and not config.shard_state


def gathered(method: Pretraining, mesh: Mesh) -> Pretraining:
    """The method for a state that is split over the devices (config.shard_state)."""
    return dataclasses.replace(method, gather=functools.partial(sharding.gather, mesh=mesh))
