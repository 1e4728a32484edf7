"""Dense measures of a frozen encoder: what lines read off its patch tokens (evaluation/dense_measures.py)."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import augmentation, config_checks
from repre_jax.builders import segmentation as builder
from repre_jax.core import sharding
from repre_jax.core.errors import UserError
from repre_jax.core.types import LabelMaps
from repre_jax.data import photometric
from repre_jax.data.segmentation import SegmentationData
from repre_jax.data.segmentation_views import SegmentationCentreView
from repre_jax.evaluation import dense_measures, patches
from repre_jax.evaluation.dense_measures import Split
from repre_jax.evaluation.patches import Encode, Patches
from repre_jax.models import encoders, patch_tokens
from repre_jax.pretrained import dense, finished
from repre_jax.pretrained.backbone import Backbone
from repre_jax.probing import evaluations, frozen, measured_again, segmenting
from repre_jax.report import console, evaluated
from repre_jax.running import lifecycle
from repre_jax.running.lifecycle import ShouldStop

UNTRAINED = "untrained"


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Measures, or just reports a finished evaluation; returns what result.json holds. One that is interrupted keeps
    nothing.

    Raises UserError for what cannot work, before anything is measured or written, also for a finished one of other
    weights, and Stopped after a signal.
    """
    config_checks.ranges(config)
    _check_held_out(config)
    config.data.image_size = augmentation.image_size(config)  # one number stands for a square
    mesh = sharding.make_mesh(config.batch_size)
    found: list[Backbone] = []
    with lifecycle.begun(
        config, workdir, kind="evaluation", look=frozen.look, complete=lambda: found.append(_find(config, workdir))
    ) as session:
        (source,) = found
        if session.past.result is not None:
            return session.report(
                evaluated.dense_probe, lambda: frozen.weights(source), lambda: builder.open_data(config).dataset
            )
        data = segmenting.open_data(config, source.mean, source.std)
        _check_background(config, data)
        weights = source.load(mesh)
        sha256 = frozen.digest(weights)
        compared = config.dense_probe.untrained and config.network != UNTRAINED
        params = [weights, source.untrained(mesh)] if compared else [weights]
        session.announce(data.dataset, _rows(config, source, data))
        session.record(data.dataset, step=0)
        with measured_again.measuring(
            session, mesh, images=config.batch_size // mesh.size, dtype=config.dtype
        ) as should_stop:
            measured = _measure(config, source, data, params, mesh, should_stop)
        record = evaluations.dense_record(config, source.origin, data.dataset, "dense_probe", segmenting.OF_DATA)
        record |= {"weights_sha256": sha256, "seconds": session.seconds(), **config.dense_probe.to_dict()}
        return session.finish(record | measured, evaluated.dense_probe)


def _find(config: ConfigDict, workdir: Path) -> Backbone:
    """The encoder with the pyramid that is read, whatever its own run fused."""
    chosen = any(config.encoder[key] is not None for key in ("pyramid_blocks", "pyramid_levels"))
    source = finished.find(config, workdir, resize_positions=True)
    return dense.read_as(config, source, patch_tokens.with_levels(source.encoder, chosen))


def _check_held_out(config: ConfigDict) -> None:
    """Raises UserError where no training image would be held out."""
    settings = config.dense_probe
    if not patches.held_out(settings.train_images, settings.held_out).any():
        raise UserError(
            f"dense_probe.train_images is {settings.train_images}, and held_out {settings.held_out:g} of it is none.\n"
            f"  expected: at least {math.ceil(1 / settings.held_out)} images, one of which chooses the penalties\n"
            "  change:   --config.dense_probe.train_images, or dense_probe.held_out to a larger share"
        )


def _check_background(config: ConfigDict, data: SegmentationData) -> None:
    classes, given = len(data.classes), config.dense_probe.background
    if not all(type(number) is int and 0 <= number < classes for number in given):
        raise UserError(
            f"dense_probe.background is {given}, and {data.dataset.name} has {classes} classes.\n"
            f"  expected: numbers from 0 to {classes - 1}, of the classes that are no objects\n"
            "  change:   --config.dense_probe.background='(0,)', or '()' where all are objects"
        )


def _measure(
    config: ConfigDict,
    source: Backbone,
    data: SegmentationData,
    params: list[dict[str, Any]],
    mesh: Mesh,
    should_stop: ShouldStop,
) -> dict[str, Any]:
    """What result.json says besides what the figures depend on; of the second encoder with names that say so."""
    settings, encoder = config.dense_probe, source.encoder
    numbers = patches.numbers_of(config.data.image_size, encoder.patch, settings.patches)
    encode = _encode(config, source, params, numbers, mesh)
    view = SegmentationCentreView(config.data.image_size, data.classes, config.data.channels)

    def read(split: str) -> Patches:
        return patches.read(
            data.dataset.split(split),
            view,
            encode,
            mesh,
            numbers=numbers,
            side=encoder.patch,
            batch_size=config.batch_size,
            limit=settings[f"{split}_images"],
            what=f"{split} images",
            should_stop=should_stop,
            max_unreadable=config.data.max_unreadable,
        )

    train, test = read("train"), read("test")
    held_out = patches.held_out(len(train.inside), settings.held_out)
    split = Split(train.of_images(~held_out), train.of_images(held_out), test, settings.background)
    widths = patch_tokens.widths(encoder)
    result: dict[str, Any] = {
        "train_images": len(train.inside),
        "test_images": len(test.inside),
        "patch": encoder.patch,
        "test_patches": int(test.scored.sum()),
        "widths": widths,
        **dense_measures.constant(split),
    }
    for number, suffix in zip(range(len(params)), ("", f"_{UNTRAINED}"), strict=False):
        should_stop()  # the watchdog hears of it
        measures, penalties = dense_measures.measure(split, number, widths)
        result |= {f"{name}{suffix}": value for name, value in measures.items()}
        result[f"penalties{suffix}"] = penalties
    return result


def _encode(config: ConfigDict, source: Backbone, params: list[dict[str, Any]], numbers: Any, mesh: Mesh) -> Encode:
    """What each encoder gives of these patches of an image. One after another: in one program they would take twice the
    memory at once."""

    def of_one(params: dict[str, Any], images: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels = photometric.normalize(images.astype(jnp.float32) / 255, config.data.mean, config.data.std)
        tokens, pooled = patch_tokens.extract(source.encoder, params, pixels)
        return tokens[:, numbers], pooled

    everywhere = sharding.replicated(mesh)
    encode = jax.jit(of_one, out_shardings=everywhere)
    shared = jax.jit(lambda arrays: arrays, out_shardings=everywhere)

    def encoded(batch: LabelMaps, there: jax.Array) -> Any:
        return *shared((batch, there)), [encode(each, batch.images) for each in params]

    return encoded


def _rows(config: ConfigDict, source: Backbone, data: SegmentationData) -> list[console.Row]:
    """Of the first table: what is measured, and on what."""
    settings, dataset, widths = config.dense_probe, data.dataset, patch_tokens.widths(source.encoder)
    side = source.encoder.patch
    background = ", ".join(data.classes.names[number] for number in settings.background) or "none"
    return [
        ("devices", console.devices()),
        ("encoder", encoders.describe(source.encoder)),
        ("", f"{console.origin(source.origin)}; matrix products in {config.dtype}"),
        ("tokens", f"last block {widths['last']:,} numbers, all levels {widths['all']:,}; patches of {side} x {side}"),
        *([("positions", source.resized)] if source.resized else []),
        ("data set", console.dataset(dataset.identity(), dataset.directory, dataset.classes)),
        (
            "images",
            f"{settings.train_images:,} to train, of which {settings.held_out:.0%} choose penalties, "
            f"{settings.test_images:,} to test; at most {settings.patches:,} patches each",
        ),
        ("background", background),
    ]
