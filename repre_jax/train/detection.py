"""The step of detection: images with boxes and masks -> anchors, proposals, regions -> five losses -> all parameters.

Mask R-CNN's two stages are trained at once: the proposals of a step are those of its own anchor head, and no gradient
passes through them (SwinOD mmdet/models/detectors/two_stage.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from repre_jax.core import optim, sharding
from repre_jax.core.schedules import Schedule
from repre_jax.core.types import ObjectImages, TrainState
from repre_jax.data import dense_augment
from repre_jax.losses import detection as losses
from repre_jax.models.detection import targets
from repre_jax.models.detection.mask_rcnn import Detecting, Found, MaskRcnn
from repre_jax.models.detection.mask_targets import mask_targets
from repre_jax.models.detection.proposals import propose
from repre_jax.train import microbatches, update

Params = dict[str, Any]
Metrics = dict[str, jax.Array]
SAMPLE, DROP_PATH = range(2)  # a step's key is folded with one constant per use


@dataclass(frozen=True)
class Detection:
    """A detector trained end to end.

    model:     with its mask head, or without for boxes alone.
    optimizer: core/optim.py's, by `rules`. lr: what it goes by.
    mean, std: per channel, of pixels in 0..1.
    sampling:  what a step learns from. testing: what a test finds.
    accumulate: microbatches that a batch is computed in. Each divides its losses by what it holds itself, as
               mmdetection does with the images of a GPU (losses/detection.py).
    mesh:      of the devices, each of which samples from its own images; None: the compiler decides.
    """

    model: MaskRcnn
    optimizer: optax.GradientTransformationExtraArgs
    rules: Sequence[optim.Rule]
    lr: Schedule
    mean: Sequence[float]
    std: Sequence[float]
    sampling: targets.Sampling = field(default_factory=targets.Sampling)
    testing: Detecting = field(default_factory=Detecting)
    accumulate: int = 1
    mesh: Mesh | None = None

    def new_state(self, encoder: Params, key: jax.Array) -> TrainState:
        """Step 0 with these weights of the encoder and fresh heads. key: uint32 [2]. To be jitted."""
        params = self.model.init(encoder, jax.random.fold_in(key, 0))
        optim.check_rules(params, self.rules)
        return TrainState.begin(key, params, self.optimizer.init(params))

    def train_step(self, state: TrainState, batch: ObjectImages) -> tuple[TrainState, Metrics]:
        """One optimiser step: the new state, and float32 scalars to log."""
        gradients, carried, metrics = microbatches.mean(self.gradients, state, batch, self.accumulate)
        how = {"optimizer": self.optimizer, "rules": self.rules}
        new_state, metrics = update.update(state, gradients, carried, metrics, **how)
        return new_state, metrics | {"lr": jnp.float32(self.lr(state.step))}

    def gradients(
        self, state: TrainState, batch: ObjectImages, rows: jax.Array, key: jax.Array
    ) -> microbatches.Gradients:
        """Of the loss. rows: int32 [B], places in the batch. key: the microbatch's base key, state.rng for a whole
        batch."""
        key = jax.random.fold_in(key, state.step)
        drop = jax.random.fold_in(key, DROP_PATH)
        sample = jax.random.fold_in(key, SAMPLE)
        keys = jax.vmap(lambda row: jax.random.split(jax.random.fold_in(sample, row)))(rows)
        images = self.normalised(batch)
        loss = jax.value_and_grad(lambda params: self._losses(params, batch, images, keys, drop), has_aux=True)
        (_, metrics), gradients = loss(state.params)
        return gradients, {}, metrics

    def normalised(self, batch: ObjectImages) -> jax.Array:
        """float32 [B, H, W, C], 0 where there is no image."""
        return dense_augment.normalised(batch.images, batch.extents, self.mean, self.std)

    def detections(self, params: Params, batch: ObjectImages) -> Found:
        """What is found in a batch of a test."""
        return self.model.detections(params, self.normalised(batch), batch.extents, batch.scale, self.testing)

    def _losses(
        self, params: Params, batch: ObjectImages, images: jax.Array, keys: jax.Array, drop: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """(Their sum, each of them and what else is logged). keys: uint32 [B, 2, 2], two of each image."""
        model, canvas = self.model, (images.shape[1], images.shape[2])
        objects = targets.Objects(batch.boxes, batch.classes, batch.valid)
        levels = model.levels(params, images, drop)
        logits, deltas = model.of_anchors(params, levels)

        wanted = self.anchors(keys[:, 0], batch.extents, objects, canvas)
        chosen = jnp.take_along_axis(logits, wanted.indices, axis=1)
        moved = jnp.take_along_axis(deltas, wanted.indices[..., None], axis=1)
        found = losses.anchors(chosen, moved, wanted.deltas, wanted.positive, wanted.used)
        parts = dict(zip(("objectness_loss", "anchor_box_loss"), found, strict=True))

        regions = self.regions(keys[:, 1], logits, deltas, batch.extents, objects, canvas)
        said, moved = model.of_regions(params, levels, regions.boxes)
        found = losses.regions(said, moved, regions.classes, regions.deltas, regions.used)
        parts |= zip(("class_loss", "box_loss"), found, strict=True)
        if model.mask_head is not None:
            parts["mask_loss"] = self._mask_loss(params, levels, regions, batch)
        right = (said.argmax(-1) == regions.classes) & regions.used
        total = jnp.stack(list(parts.values())).sum()
        metrics = parts | {
            "loss": total,
            "region_accuracy": right.sum() / jnp.maximum(regions.used.sum(), 1),
            "positive_regions": regions.positive.sum(axis=1).mean(dtype=jnp.float32),
        }
        return total, metrics

    def anchors(
        self, keys: jax.Array, extents: jax.Array, objects: targets.Objects, canvas: tuple[int, int]
    ) -> targets.Anchors:
        """What the anchor head learns from, of each image. keys: uint32 [B, 2]."""

        def of_image(key: jax.Array, extent: jax.Array, objects: targets.Objects) -> targets.Anchors:
            return targets.of_anchors(key, canvas, extent, objects, self.sampling)

        return sharding.of_each(of_image, self.mesh)(keys, extents, objects)

    def regions(
        self,
        keys: jax.Array,
        logits: jax.Array,
        deltas: jax.Array,
        extents: jax.Array,
        objects: targets.Objects,
        canvas: tuple[int, int],
    ) -> targets.Regions:
        """What the second stage learns from, of each image. keys: uint32 [B, 2]. logits [B, A], deltas [B, A, 4]: the
        anchor head's, to which no gradient passes."""
        settings = self.sampling

        def of_image(
            key: jax.Array, logits: jax.Array, deltas: jax.Array, extent: jax.Array, objects: targets.Objects
        ) -> targets.Regions:
            numbers = (settings.per_level, settings.proposals, settings.threshold)
            proposals = propose(logits, deltas, canvas, extent, *numbers)
            return targets.of_regions(key, proposals, objects, self.model.classes, settings)

        logits, deltas = jax.lax.stop_gradient((logits, deltas))
        return sharding.of_each(of_image, self.mesh)(keys, logits, deltas, extents, objects)

    def _mask_loss(
        self, params: Params, levels: tuple[jax.Array, ...], regions: targets.Regions, batch: ObjectImages
    ) -> jax.Array:
        """Of the slots that positive regions can stand in, which are the first."""
        first = jax.tree.map(lambda x: x[:, : self.sampling.region_positives], regions)
        logits = self.model.of_masks(params, levels, first.boxes)
        wanted = jax.vmap(mask_targets)(batch.masks, first.objects, first.boxes, batch.extents)
        return losses.masks(logits, wanted, first.classes, first.positive)
