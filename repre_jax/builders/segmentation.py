"""From a ConfigDict to what segmentation is trained and tested by: its data, views, head and step."""

from collections.abc import Collection, Sequence
from typing import Any

from ml_collections import ConfigDict

from repre_jax.builders import augmentation, config_checks, methods
from repre_jax.core import optim
from repre_jax.core.errors import UserError
from repre_jax.core.schedules import Plan
from repre_jax.core.types import Records
from repre_jax.data import decoded, segmentation
from repre_jax.data.dense_augment import Distortion
from repre_jax.data.segmentation import SegmentationData
from repre_jax.data.segmentation_views import SegmentationView
from repre_jax.evaluation.windows import Size, SlidingTest
from repre_jax.losses.segmentation import OVER
from repre_jax.models.encoders import Encoder
from repre_jax.models.segmentation import build
from repre_jax.models.segmentation.build import Head
from repre_jax.models.vit import ViT
from repre_jax.train.segmentation import Segmentation

PLAIN: dict[str, Any] = {"brightness": 0.0, "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": 0}  # no colours


def check(config: ConfigDict) -> None:
    """Raises UserError for what can be seen to be wrong without the encoder and the data."""
    config_checks.ranges(config)
    methods.choose("segmentation head", config.segment.head, build.NAMES)
    methods.choose("segment.loss_over", config.segment.loss_over, OVER)
    config_checks.span("segment.ratios", config.segment.ratios, 100)
    augmentation.image_size(config)
    for key in ("train_size", "test_size"):
        if config.segment[key]:
            _two_sides(f"segment.{key}", config.segment[key])
    sliding_test(config)


def follow_epochs(config: ConfigDict, typed: Collection[str]) -> None:
    """Lets a length in epochs that the command line sets go before the protocol's in steps. typed: its keys."""
    if "epochs" in typed and "total_steps" not in typed:
        config.total_steps = None


def sliding_test(config: ConfigDict) -> SlidingTest:
    """How whole images are tested. Raises UserError for strides beyond the crop, between whose windows would be gaps,
    and for scales that are no numbers above 0."""
    settings, crop = config.segment, augmentation.image_size(config)
    stride = _two_sides("segment.test_stride", settings.test_stride)
    if stride[0] > crop[0] or stride[1] > crop[1]:
        raise UserError(
            f"segment.test_stride is {stride[0]} x {stride[1]}, for windows of {crop[0]} x {crop[1]} pixels: there "
            "would be gaps.\n  expected: at most the crop, data.image_size\n"
            f"  change:   --config.segment.test_stride='({min(stride[0], crop[0])}, {min(stride[1], crop[1])})'"
        )
    scales = tuple(settings.test_scales)
    if not scales or not all(isinstance(scale, int | float) and 0.01 <= scale <= 100 for scale in scales):
        raise UserError(
            f"segment.test_scales is {scales}.\n  expected: one number or several from 0.01 to 100\n"
            "  change:   --config.segment.test_scales='(1.0,)', for images as they are"
        )
    resize_to = _two_sides("segment.test_size", settings.test_size) if settings.test_size else None
    return SlidingTest(crop, stride, resize_to, scales, settings.test_flip)


def _two_sides(name: str, given: Sequence[int]) -> Size:
    if len(given) != 2 or not all(isinstance(side, int) and side > 0 for side in given):
        raise UserError(
            f"{name} is {given}.\n  expected: height and width in pixels, such as --config.{name}='(512, 512)'"
        )
    return (given[0], given[1])


def open_data(config: ConfigDict) -> SegmentationData:
    """The images with label maps that config.data names. Raises UserError where they cannot be had."""
    data = config.data
    return segmentation.open_dataset(
        data.name,
        data.dir,
        data.train_split,
        data.test_split,
        segmentation.Asked(
            image_key=data.image_key,
            label_map_key=data.label_map_key,
            num_classes=data.num_classes,
            first_value=data.first_value,
            channels=data.channels,
            value_range=augmentation.value_range(config),
        ),
    )


def train_view(config: ConfigDict, found: SegmentationData) -> SegmentationView:
    """The host's half of the augmentation: resize and crop."""
    settings = config.segment
    low, high = config_checks.span("segment.ratios", settings.ratios, 100)
    return SegmentationView(
        augmentation.image_size(config),
        found.classes,
        config.data.channels,
        scale_to=scale_to(settings.train_size),
        ratios=(low, high),
        largest_share=settings.largest_share,
        tries=settings.tries,
    )


def train_records(config: ConfigDict, found: SegmentationData) -> tuple[Records, str | None]:
    """What train_view's records are read from, and, with data.decoded_cache, what is to be said of that folder.

    Raises UserError where it cannot be used.
    """
    data = config.data
    if not data.decoded_cache:
        return found.dataset.train, None
    asked = [f"{key} {data[key]}" for key in ("train_split", "image_key", "label_map_key")]
    return decoded.kept(found.dataset, found.classes, data.channels, asked, data.decoded_cache)


def scale_to(size: Sequence[int]) -> tuple[int, int] | None:
    """(Longer, shorter) side, as views take it, of height and width; None for none, which leaves images as they are."""
    return (max(size), min(size)) if size else None


def of_head(encoder: Encoder, name: str, blocks: Sequence[int] | None) -> Encoder:
    """The encoder with the pyramid and the class token that a head wants. blocks: those that the config asks for.

    Raises UserError for a head that it cannot feed, or blocks other than the head's.
    """
    if not isinstance(encoder, ViT) or name in build.OF_SWIN:
        return encoder  # one that does not fit is refused when the head is built
    wanted = build.blocks(name, encoder.depth)
    if name in build.OF_BOTH and blocks is not None:
        wanted = tuple(blocks)  # any are fit for it
    if blocks is not None and tuple(blocks) != wanted:
        raise UserError(
            f"encoder.pyramid_blocks is {tuple(blocks)}, and the segmentation head {name!r} reads {wanted}.\n"
            "  change:   leave it out"
        )
    return encoder.clone(pyramid_blocks=wanted, class_token=encoder.class_token and build.needs_class_token(name))


def build_method(config: ConfigDict, encoder: Encoder, head: Head, plan: Plan) -> Segmentation:
    """The step. encoder: of_head's. Raises UserError for a fault of the optimiser's settings."""
    settings = config.segment
    colours = settings.colours and config.data.channels == augmentation.RGB
    rules = tuple(config.optim.rules)
    chosen: dict[str, Any] = {key: config.optim[key] for key in (*methods.OPTIMIZER_KEYS, "nesterov")}
    return Segmentation(
        encoder=encoder,
        head=head,
        optimizer=optim.build(config.optim.name, plan, **chosen, rules=rules),
        rules=rules,
        lr=plan.lr,
        augmentation=Distortion(flip_probability=config.augment.flip_probability, **({} if colours else PLAIN)),
        mean=config.data.mean,
        std=config.data.std,
        auxiliary_weight=settings.auxiliary_weight,
        over=settings.loss_over,
        frozen=settings.frozen,
        accumulate=config.accumulate,
    )
