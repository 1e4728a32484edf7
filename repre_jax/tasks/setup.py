"""From a ConfigDict to the objects that a pre-training run is made of. Below the tasks, nobody sees the config."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from repre_jax.core import optim, schedules
from repre_jax.core.errors import UserError
from repre_jax.data.loader import TrainView
from repre_jax.data.photometric import Photometric
from repre_jax.frameworks import moco_v3
from repre_jax.models import decoder, vit
from repre_jax.train.pretrain import Pretraining
from repre_jax.train.repre import ReconstructionBranch

FRAMEWORKS = {"moco_v3": moco_v3.build}
DTYPES = ("float32", "bfloat16")
CHANNELS = 3
VIEWS = 2


def choose(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """known[name], or a UserError that lists what is known."""
    if name not in known:
        raise UserError(f"Unknown {kind} {name!r}.\n  expected: {', '.join(sorted(known))}")
    return known[name]


def image_size(config: ConfigDict) -> tuple[int, int]:
    """data.image_size as (height, width); one number stands for a square."""
    size = tuple(config.data.image_size)
    size = size * 2 if len(size) == 1 else size
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(
            f"data.image_size is {config.data.image_size}.\n"
            "  expected: height and width in pixels, such as --config.data.image_size='(224, 224)'"
        )
    return size


def build_encoder(config: ConfigDict) -> vit.ViT:
    """The encoder for the config's images."""
    choose("dtype", config.dtype, dict.fromkeys(DTYPES))
    return vit.build(**config.encoder, image_size=image_size(config), dtype=config.dtype)


def build_plan(config: ConfigDict, records: int) -> schedules.Plan:
    """Steps, learning rate and momentum for a data set of `records` training records."""
    return schedules.resolve(
        records=records,
        batch_size=config.batch_size,
        epochs=config.epochs,
        total_steps=config.total_steps,
        warmup_epochs=config.optim.warmup_epochs,
        lr_per_256=config.optim.lr,
        momentum_start=config.framework.momentum,
    )


def build_method(config: ConfigDict, encoder: nn.Module, plan: schedules.Plan) -> Pretraining:
    """The framework with its heads, RePre's branch unless it is off, the augmentations and the optimiser."""
    framework_settings = config.framework.to_dict()
    build_framework = choose("framework", framework_settings.pop("name"), FRAMEWORKS)
    del framework_settings["momentum"]  # a schedule, in the plan
    branch = None
    if config.repre.enabled:
        branch = ReconstructionBranch(
            decoder=decoder.build(
                patch=config.encoder.patch,
                channels=CHANNELS,
                fusion_layers=config.repre.fusion_layers,
                dtype=config.dtype,
            ),
            balance_lr_scale=config.repre.balance_lr_scale,
        )
    rules = tuple(config.optim.rules) + (branch.rules() if branch else ())
    optimizer = optim.adamw(
        plan.lr,
        b1=config.optim.b1,
        b2=config.optim.b2,
        eps=config.optim.eps,
        weight_decay=config.optim.weight_decay,
        rules=rules,
    )
    return Pretraining(
        encoder=encoder,
        framework=build_framework(**framework_settings, dtype=config.dtype),
        branch=branch,
        augmentation=build_augmentation(config),
        mean=config.data.mean,
        std=config.data.std,
        optimizer=optimizer,
        rules=rules,
        lr=plan.lr,
        momentum=plan.momentum,
    )


def build_augmentation(config: ConfigDict) -> tuple[Photometric, ...]:
    """The device's half, one entry per view."""
    augment = config.augment
    for name in ("jitter_probability", "grey_probability", "flip_probability"):
        _check_range(f"augment.{name}", (augment[name],), 1, 0, 1)
    for name in ("blur_probability", "solarize_probability"):
        _check_range(f"augment.{name}", augment[name], VIEWS, 0, 1)
    _check_range("augment.jitter", augment.jitter, 4, 0, 1)
    _check_range("augment.blur_sigma", augment.blur_sigma, 2, 0, 100)
    return tuple(
        Photometric(
            jitter=tuple(augment.jitter),
            jitter_probability=augment.jitter_probability,
            grey_probability=augment.grey_probability,
            blur_probability=augment.blur_probability[view],
            blur_sigma=tuple(augment.blur_sigma),
            solarize_probability=augment.solarize_probability[view],
            flip_probability=augment.flip_probability,
        )
        for view in range(VIEWS)
    )


def build_train_view(config: ConfigDict) -> TrainView:
    """The host's half: decode, random resized crops."""
    _check_range("augment.crop_scale", config.augment.crop_scale, 2, 0, 1)
    _check_range("augment.crop_ratio", config.augment.crop_ratio, 2, 0.01, 100)
    return TrainView(
        seed=config.seed,
        views=VIEWS,
        size=image_size(config),
        scale=tuple(config.augment.crop_scale),
        ratio=tuple(config.augment.crop_ratio),
    )


def _check_range(name: str, values: tuple, count: int, low: float, high: float) -> None:
    fits = len(values) == count and all(isinstance(v, int | float) and low <= v <= high for v in values)
    if not fits:
        numbers = "a number" if count == 1 else f"{count} numbers"
        raise UserError(f"{name} is {values}.\n  expected: {numbers} from {low} to {high}")
