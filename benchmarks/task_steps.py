"""The training step of any task's config, for devices that need not be here: from shapes, without weights or data.

An encoder is what the config describes, as where one is trained from random weights; `encoder.name` is vit_s unless
set, for Semantic FPN and Mask R-CNN swin_t. Classes and records are those of ImageNet, Cityscapes and COCO.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import main
from benchmarks import detection_program, flops, products, segment_program, steps
from repre_jax.builders import attention, attention_kinds, augmentation, compiled_step, methods
from repre_jax.builders import detection as detection_builder
from repre_jax.builders.attention_kinds import Attention
from repre_jax.core import sharding
from repre_jax.core.errors import UserError
from repre_jax.core.types import LabelledImages, TrainState
from repre_jax.models import features
from repre_jax.models.encoders import Encoder
from repre_jax.pretrained import detector, finished
from repre_jax.pretrained.backbone import Backbone
from repre_jax.tasks import finetune, linear

CLASSES, RECORDS = 1000, 1_281_167  # ImageNet's
NOWHERE = Path("no workdir")

Shape = jax.ShapeDtypeStruct


@dataclass(frozen=True)
class Step:
    """train_step: (state, batch, *frozen) -> (state, metrics); of state, batch and frozen their shapes, laid out.
    flops: of a whole step, by formula. encoder: that is trained, or read. learnt: of a record, how many images of which
    size a gradient passes the encoder for."""

    config: ConfigDict
    mesh: Mesh
    train_step: Callable[..., Any]
    state: TrainState
    batch: Any
    frozen: tuple[Any, ...]
    flops: int
    encoder: Encoder
    learnt: dict[tuple[int, int], int]

    def shares_of_remat(self) -> dict[str, float]:
        """flops.shares_of_remat's."""
        return flops.shares_of_remat(self.encoder, self.learnt, self.config.batch_size, self.flops)

    def compile(self) -> jax.stages.Compiled:
        """Never from a cache."""
        jax.config.update("jax_enable_compilation_cache", False)
        layout = jax.tree.map(lambda x: x.sharding, self.state)
        step = sharding.jit_step(self.train_step, layout, self.mesh)
        return step.lower(self.state, self.batch, *self.frozen).compile()


def parse(path: str, overrides: list[str]) -> ConfigDict:
    """The config of a command line, with what a run would have brought. Raises UserError."""
    config, _ = main.parse(["benchmark", f"--config={path}", *overrides])
    if config.task not in BUILDERS:
        raise UserError(f"The task {config.task} trains nothing.\n  expected: {', '.join(BUILDERS)}")
    if config.task == "pretrain":
        return steps.parse(path, overrides)
    if config.task == "segment":
        return segment_program.completed(config)
    config.encoder.name = config.encoder.name or ("swin_t" if config.task == "detect" else "vit_s")
    config.init_from, config.network, config.data.channels = None, "untrained", augmentation.RGB
    for key, values in methods.IMAGENET.items():
        config.data[key] = values
    return config


def build(config: ConfigDict, devices: Sequence[jax.Device] = ()) -> Step:
    """devices: to compile for; else those that are here. Raises UserError for a config that does not fit together."""
    mesh = sharding.mesh_of(devices) if devices else sharding.make_mesh(config.batch_size, config.get("accumulate", 1))
    return BUILDERS[config.task](config, mesh)


def called(config: ConfigDict) -> str:
    """The framework; of another task that, and what is trained."""
    if config.task == "pretrain":
        return config.framework.name
    of_task = {"segment": "head", "finetune": "recipe", "linear": "protocol"}
    name = config[config.task][of_task[config.task]] if config.task in of_task else "Mask R-CNN"
    return f"{config.task} {name}"


def attentions(config: ConfigDict) -> list[Attention]:
    """Of which a start would choose the kind."""
    if config.task == "pretrain":
        return attention.attentions(config)
    learns = not (config.task == "linear" or (config.task == "segment" and config.segment.frozen))
    config = config.copy_and_resolve_references()
    encoder = segment_program.encoder_of(config) if config.task == "segment" else _encoder(config).encoder
    size = detection_builder.largest_canvas(config) if config.task == "detect" else augmentation.image_size(config)
    return attention_kinds.of_encoder(encoder, size, learns=learns)


def _pretrain(config: ConfigDict, mesh: Mesh) -> Step:
    step = compiled_step.build(config, devices=list(mesh.devices.flat))
    state = jax.tree.map(lambda x, at: Shape(x.shape, x.dtype, sharding=at), step.shapes, step.state_sharding)
    work, views = flops.of_step(step.method, config), flops.learnt_views(step.method, config)
    batch = compiled_step.batch_of(config, mesh)
    return Step(config, mesh, step.method.train_step, state, batch, (), work, step.method.encoder, views)


def _finetune(config: ConfigDict, mesh: Mesh) -> Step:
    source = _encoder(config)
    finetune.check(config, source)
    method = finetune.method_of(config, source, CLASSES, methods.build_plan(config, records=RECORDS))
    state = _state(mesh, method.new_state, _params(source.encoder, config))
    size, batch = augmentation.image_size(config), _labelled(config, mesh)
    work = _flops(config, 3 * flops.encoder_macs(source.encoder, size))
    return Step(config, mesh, method.train_step, state, batch, (), work, source.encoder, {size: 1})


def _linear(config: ConfigDict, mesh: Mesh) -> Step:
    """On images; of cached features nothing of an encoder is left."""
    source = _encoder(config)
    linear.check(config, source)
    probe = linear.probe_of(config, source, CLASSES, methods.build_plan(config, records=RECORDS), mesh)
    params = _laid_out(_params(source.encoder, config), sharding.replicated(mesh))
    images = Shape((1, *augmentation.image_size(config), config.data.channels), np.float32)
    extract = functools.partial(features.extract, source.encoder, config.feature)
    encoded = jax.eval_shape(extract, params, images)
    state = _state(mesh, lambda key: probe.init_state(key, 1, encoded.shape[1]))
    work = _flops(config, flops.encoder_macs(source.encoder, augmentation.image_size(config)))
    return Step(config, mesh, probe.train_step, state, _labelled(config, mesh), (params,), work, source.encoder, {})


def _segment(config: ConfigDict, mesh: Mesh) -> Step:
    found = segment_program.build(config, devices=list(mesh.devices.flat))
    work, encoder = int(1e9 * found.gflop()), found.method.encoder
    learnt = {} if config.segment.frozen else {augmentation.image_size(config): 1}
    return Step(config, mesh, found.method.train_step, found.state, found.batch, found.frozen, work, encoder, learnt)


def _detect(config: ConfigDict, mesh: Mesh) -> Step:
    """On the canvas of images that are wider than high."""
    source = _encoder(config)
    canvas, slots, masks = detection_builder.resizing(config).canvases[0], config.detect.slots, config.detect.masks
    model = detection_builder.build_model(config, source.encoder, detection_program.CLASSES)
    plan = methods.build_plan(config, records=detection_program.RECORDS)
    method = detection_builder.build_method(config, model, plan, mesh)
    state = _state(mesh, method.new_state, _params(source.encoder, config))
    batch = _laid_out(
        detection_program.batch(config.batch_size, canvas, slots, masks=masks), sharding.along_batch(mesh)
    )
    listed = [each for each in detection_program.parts(method, canvas, slots) if each.name != "backbone"]
    macs = 3 * flops.encoder_macs(source.encoder, canvas)
    macs += sum(products.macs(part.with_gradient(), *part.given) for part in listed)
    return Step(config, mesh, method.train_step, state, batch, (), _flops(config, macs), source.encoder, {canvas: 1})


BUILDERS: dict[str, Callable[[ConfigDict, Mesh], Step]] = {
    "pretrain": _pretrain,
    "linear": _linear,
    "finetune": _finetune,
    "segment": _segment,
    "detect": _detect,
}


def _encoder(config: ConfigDict) -> Backbone:
    """As its task reads it; completes the config."""
    found = finished.find(config, NOWHERE, scratch=True)
    if config.task != "detect":
        return found
    detection_builder.check(config)
    return detector.for_detector(config, found, config.encoder.pyramid_blocks)


def _params(encoder: Encoder, config: ConfigDict) -> Any:
    images = Shape((2, *augmentation.image_size(config), config.data.channels), jnp.float32)
    return jax.eval_shape(encoder.init, jax.random.PRNGKey(0), images)["params"]


def _state(mesh: Mesh, new_state: Callable[..., TrainState], *weights: Any) -> TrainState:
    key = Shape((2,), np.uint32)
    shapes = jax.eval_shape(new_state, *weights, key)
    layout = sharding.of_state(shapes, mesh, split=False)
    return jax.tree.map(lambda x, at: Shape(x.shape, x.dtype, sharding=at), shapes, layout)


def _laid_out(shapes: Any, sharding: Any) -> Any:
    return jax.tree.map(lambda x: Shape(x.shape, x.dtype, sharding=sharding), shapes)


def _labelled(config: ConfigDict, mesh: Mesh) -> LabelledImages:
    shape = (config.batch_size, *augmentation.image_size(config), config.data.channels)
    found: Any = LabelledImages(Shape(shape, np.uint8), Shape(shape[:1], np.int32))  # type: ignore[arg-type]
    return _laid_out(found, sharding.along_batch(mesh))


def _flops(config: ConfigDict, macs: int) -> int:
    """macs: multiply-adds of one image."""
    return 2 * config.batch_size * macs
