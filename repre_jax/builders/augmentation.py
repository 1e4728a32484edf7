"""From a ConfigDict to the data set, with the range of values that images of more than 8 bits are seen by, and to the
two halves of its augmentation: crops on the host, colours on the device."""

import dataclasses
import math
from collections.abc import Sequence

from ml_collections import ConfigDict

from repre_jax.builders import config_checks
from repre_jax.core.errors import UserError
from repre_jax.data import colours, deep, sources
from repre_jax.data.crops import ENLARGE, RandomCrops
from repre_jax.data.photometric import Photometric
from repre_jax.data.sources import DataSet
from repre_jax.data.views import CentreView, PretrainView
from repre_jax.system import terminal

VIEWS = 2
RGB = 3


def image_size(config: ConfigDict) -> tuple[int, int]:
    """data.image_size as (height, width)."""
    return _size("data.image_size", config.data.image_size)


def local_size(config: ConfigDict) -> tuple[int, int]:
    """augment.local_size as (height, width)."""
    return _size("augment.local_size", config.augment.local_size)


def _size(name: str, given: Sequence[int]) -> tuple[int, int]:
    """(height, width); one number stands for a square."""
    size = tuple(given) * 2 if len(given) == 1 else tuple(given)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(
            f"{name} is {given}.\n  expected: height and width in pixels, such as --config.{name}='(224, 224)'"
        )
    return size


def value_range(config: ConfigDict) -> deep.Ranges | None:
    """data.value_range, one (low, high) for all channels or one for each; None where it is not set.

    Raises UserError for anything else.
    """
    given = config.data.get("value_range")
    if given is None:
        return None
    pairs = (given,) if len(given) == 2 and all(isinstance(value, int | float) for value in given) else given
    fits = all(
        isinstance(pair, tuple | list)
        and len(pair) == 2
        and all(isinstance(value, int | float) and math.isfinite(value) for value in pair)
        and pair[0] < pair[1]
        for pair in pairs
    )
    channels = config.data.channels
    if not fits or len(pairs) not in (1, channels or len(pairs)) or not pairs:
        raise UserError(
            f"data.value_range is {given}.\n"
            f"  expected: the values that become black and white, or such a pair for each of {channels} channels\n"
            "  change:   --config.data.value_range='(0, 4095)'"
        )
    return tuple((low, high) for low, high in pairs)


def open_dataset(config: ConfigDict) -> DataSet:
    """The data set that config.data names; warns of images whose values fill a small part of 16 bits."""
    data = config.data
    dataset = sources.open_dataset(
        data.name, data.dir, data.train_split or "train", data.test_split, value_range(config)
    )
    if warning := deep.look(dataset.train, data.channels or RGB, given=dataset.value_range is not None):
        terminal.warn(warning)
    return dataset


def build_augmentation(config: ConfigDict) -> tuple[Photometric, ...]:
    """The device's half, one entry per view, and one for all local views if there are any."""
    augment = config.augment
    kinds = VIEWS + bool(augment.local_views)
    for name in ("blur_probability", "solarize_probability"):
        unused = len(augment[name]) == VIEWS + 1 and not augment.local_views  # the third is that of local views
        config_checks.numbers(f"augment.{name}", augment[name], kinds + unused, 0, 1)
    config_checks.numbers("augment.jitter", augment.jitter, 4, 0, 1)
    config_checks.span("augment.blur_sigma", augment.blur_sigma, 100)
    if augment.colours not in colours.OPERATIONS:
        raise UserError(f"Unknown augment.colours {augment.colours!r}.\n  expected: {' or '.join(colours.OPERATIONS)}")
    coloured = config.data.channels == RGB
    return tuple(
        Photometric(
            jitter=tuple(augment.jitter),
            jitter_probability=augment.jitter_probability if coloured else 0.0,
            grey_probability=augment.grey_probability if coloured else 0.0,
            blur_probability=augment.blur_probability[view],
            blur_sigma=tuple(augment.blur_sigma),
            solarize_probability=augment.solarize_probability[view] if coloured else 0.0,
            flip_probability=augment.flip_probability,
            colours=augment.colours,
        )
        for view in range(kinds)
    )


def check_interpolation(name: str, given: str) -> None:
    """Raises UserError for an unknown one. name: of the key."""
    if given not in ENLARGE:
        raise UserError(f"Unknown {name} {given!r}.\n  expected: {' or '.join(ENLARGE)}")


def build_train_view(config: ConfigDict) -> PretrainView:
    """The host's half: decode, random resized crops."""
    augment = config.augment
    local_scale = config_checks.span("augment.local_scale", augment.local_scale, 1)
    views = build_crops(config, VIEWS)
    local = None
    if augment.local_views:
        local = dataclasses.replace(views, count=augment.local_views, size=local_size(config), scale=local_scale)
    return PretrainView(views, local, config.data.channels)


def build_crops(config: ConfigDict, count: int) -> RandomCrops:
    """`count` random crops of each image, of data.image_size."""
    augment = config.augment
    scale = config_checks.span("augment.crop_scale", augment.crop_scale, 1)
    ratio = config_checks.span("augment.crop_ratio", augment.crop_ratio, 100)
    check_interpolation("augment.interpolation", augment.interpolation)
    return RandomCrops(count, image_size(config), scale, ratio, augment.interpolation)


def build_test_view(config: ConfigDict) -> CentreView:
    """The centre of each image, as evaluations see it."""
    data = config.data
    return CentreView(image_size(config), data.test_crop, data.channels, data.test_interpolation)
