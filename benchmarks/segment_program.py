"""The whole step of `configs/segment.py`, built and compiled without data, weights or a run of an encoder."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import main
from benchmarks import products
from repre_jax.builders import attention, attention_kinds, augmentation, methods
from repre_jax.builders import segmentation as builder
from repre_jax.core import sharding
from repre_jax.core.types import LabelMaps, TrainState
from repre_jax.losses import segmentation as losses
from repre_jax.models import resize
from repre_jax.models.encoders import Encoder
from repre_jax.models.segmentation import build as heads
from repre_jax.train.segmentation import Segmentation

CLASSES, RECORDS = 19, 2975  # Cityscapes'
ENCODERS = {"fpn": "swin_t"}  # by head; the others' is ViT-S


class AtOnce(Segmentation):
    """The same step with all logits at full size in memory at the same time, to compare with."""

    def _summed(self, logits: jax.Array, label_maps: jax.Array) -> tuple[jax.Array, jax.Array]:
        full = resize.bilinear(logits, (label_maps.shape[1], label_maps.shape[2]), self.head.align_corners)
        return losses.cross_entropy(full, label_maps).sum(), losses.correct(full, label_maps)


@dataclass(frozen=True)
class Program:
    """state, batch, frozen: shapes with their layout; frozen: (), or the encoder's parameters, given to each step."""

    config: ConfigDict
    method: Segmentation
    mesh: Mesh
    state: TrainState
    batch: LabelMaps
    frozen: tuple[Any, ...]

    def compile(self) -> jax.stages.Compiled:
        """(state, batch, *frozen) -> (state, metrics); never from a cache."""
        jax.config.update("jax_enable_compilation_cache", False)
        layout = jax.tree.map(lambda x: x.sharding, self.state)
        step = sharding.jit_step(self.method.train_step, layout, self.mesh)
        return step.lower(self.state, self.batch, *self.frozen).compile()

    def images(self, count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *self.batch.images.shape[1:]), jnp.float32)

    def init(self) -> tuple[TrainState, tuple[Any, ...]]:
        """(The state of step 0, what is frozen) from the config's seed. To be jitted."""
        return _init(self.config, self.method)

    def gflop(self) -> float:
        """Of a whole step by its products, two FLOPs to a multiply-add, backward twice as many as forward. What remat
        computes again, and resizing to full size, is not counted."""
        of_encoder = products.macs(self._encode, self._encoder, self.images(1))
        of_head = products.macs(self._head, self._of_head, self._output)
        return 2 * self.config.batch_size * ((1 if self.frozen else 3) * of_encoder + 3 * of_head) / 1e9

    def full_size_bytes(self) -> int:
        """Of the logits at full size of all heads, float32. A loss of all at once holds them several times."""
        auxiliary = jax.eval_shape(self._head, self._of_head, self._output).auxiliary
        return 4 * CLASSES * (1 + len(auxiliary)) * math.prod(self.batch.label_maps.shape)

    @property
    def _encoder(self) -> Any:
        return self.frozen[0] if self.frozen else self.state.params["encoder"]

    @property
    def _of_head(self) -> dict[str, Any]:
        return {"params": self.state.params["head"], "batch_stats": self.state.batch_stats["head"]}

    @property
    def _output(self) -> Any:
        return jax.eval_shape(self._encode, self._encoder, self.images(1))

    def _encode(self, params: Any, images: jax.Array) -> Any:
        """By products that can be counted, whatever kernel the step takes."""
        return self.method.encoder.clone(attention="xla").apply({"params": params}, images)

    def _head(self, variables: Any, output: Any) -> Any:
        return self.method.head.apply(variables, output, train=True, mutable=["batch_stats"])[0]


def parse(variants: str, overrides: list[str]) -> ConfigDict:
    """The config of `configs/segment.py:variants` for the head's encoder, ViT-S or Swin-T. Raises UserError."""
    path = "configs/segment.py" + (f":{variants}" if variants else "")
    config, _ = main.parse(["benchmark", f"--config={path}", *overrides])
    return completed(config)


def completed(config: ConfigDict) -> ConfigDict:
    """The same of a parsed config. Raises UserError."""
    config.encoder.name = config.encoder.name or ENCODERS.get(config.segment.head, "vit_s")
    config.dtype = config.dtype or "float32"
    config.data.channels = augmentation.RGB
    for key, values in methods.IMAGENET.items():
        config.data[key] = values
    builder.check(config)
    return config


def build(config: ConfigDict, *, at_once: bool = False, devices: Sequence[jax.Device] = ()) -> Program:
    """For Cityscapes' classes. at_once: AtOnce's step. devices: to compile for; else those that are here."""
    mesh = sharding.mesh_of(devices) if devices else sharding.make_mesh(config.batch_size, config.accumulate)
    size = augmentation.image_size(config)
    encoder = encoder_of(config)
    if config.encoder.attention == attention.AUTO and not devices:
        kind, _ = attention.choose(attention_kinds.of_encoder(encoder, size, learns=not config.segment.frozen))
        encoder = encoder.clone(attention=kind)
    head = heads.build(config.segment.head, CLASSES, encoder)
    method = builder.build_method(config, encoder, head, methods.build_plan(config, records=RECORDS))
    if at_once:
        method = AtOnce(**{field.name: getattr(method, field.name) for field in dataclasses.fields(method)})
    rows, everywhere = sharding.along_batch(mesh), sharding.replicated(mesh)

    def placed(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere)

    shapes = (((*size, 3), np.uint8), (size, np.uint8), ((2,), np.int32))
    arrays: list[Any] = [
        jax.ShapeDtypeStruct((config.batch_size, *shape), dtype, sharding=rows) for shape, dtype in shapes
    ]
    batch = LabelMaps(*arrays)
    state, frozen = jax.tree.map(placed, jax.eval_shape(lambda: _init(config, method)))
    return Program(config, method, mesh, state, batch, frozen)


def encoder_of(config: ConfigDict) -> Encoder:
    """As the head reads it."""
    return builder.of_head(methods.encoder_of(config), config.segment.head, None)


def _init(config: ConfigDict, method: Segmentation) -> tuple[TrainState, tuple[Any, ...]]:
    images = jnp.zeros((2, *augmentation.image_size(config), config.data.channels), jnp.float32)
    key = jax.random.PRNGKey(config.seed)
    encoder = method.encoder.init(key, images)["params"]
    return method.new_state(encoder, key), (encoder,) if config.segment.frozen else ()
