"""The step of semantic segmentation: crops with label maps -> augmentation -> loss of each pixel -> encoder and head.

The loss is that of all heads, resized to the label map; the auxiliary ones, which feed from earlier blocks, exist in
training alone (SETR mmseg/models/decode_heads/decode_head.py:206-233).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from repre_jax.core import optim
from repre_jax.core.linen import apply
from repre_jax.core.schedules import Schedule
from repre_jax.core.types import EncoderOutput, LabelMaps, TrainState
from repre_jax.data import dense_augment
from repre_jax.losses import segmentation as losses
from repre_jax.models import resize
from repre_jax.models.encoders import Encoder
from repre_jax.models.segmentation.build import Head
from repre_jax.train import microbatches, update

Params = dict[str, Any]
Metrics = dict[str, jax.Array]
HEAD = "head"  # whose parameters and running statistics they are
AUGMENT, DROP_PATH = range(2)  # a step's key is folded with one constant per use
BAND = 2**24  # logits at full size that exist at once, over all devices: 64 MiB of float32


@dataclass(frozen=True)
class Segmentation:
    """An encoder and a head that gives a map of classes, trained end to end, or the head alone on a frozen encoder.

    head:      of models/segmentation; what it normalises by in tests, running statistics of the batches, is
               TrainState.batch_stats['head'].
    optimizer: core/optim.py's, by `rules`. lr: what it goes by.
    augmentation: flip and colours. mean, std: per channel, of pixels in 0..1.
    auxiliary_weight: of the loss of each auxiliary head. over: 'all' or 'labelled' pixels, see losses/segmentation.py.
    frozen:    whether the encoder's parameters are handed to each step in place of being trained.
    accumulate: microbatches that a batch is computed in. Each normalises by its own statistics, and the running ones
               move once for each of them: that is not what one large batch would do.
    """

    encoder: Encoder
    head: Head
    optimizer: optax.GradientTransformationExtraArgs
    rules: Sequence[optim.Rule]
    lr: Schedule
    augmentation: dense_augment.Distortion
    mean: Sequence[float]
    std: Sequence[float]
    auxiliary_weight: float = 0.4
    over: str = "all"
    frozen: bool = False
    accumulate: int = 1

    def new_state(self, encoder: Params, key: jax.Array) -> TrainState:
        """Step 0 with these weights of the encoder and a fresh head. key: uint32 [2]. To be jitted."""
        channels, side = self.encoder.channels, self.encoder.patch * 2
        output = jax.eval_shape(self._encode, encoder, jnp.zeros((1, side, side, channels), jnp.float32))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), output)
        fresh = self.head.init(jax.random.fold_in(key, 0), zeros, train=True)
        params = {} if self.frozen else {"encoder": encoder}
        params[HEAD] = fresh["params"]
        optim.check_rules(params, self.rules)
        stats = {HEAD: fresh.get("batch_stats", {})}
        return TrainState.begin(key, params, self.optimizer.init(params), batch_stats=stats)

    def train_step(self, state: TrainState, batch: LabelMaps, *encoder: Params) -> tuple[TrainState, Metrics]:
        """One optimiser step: the new state, and float32 scalars to log. encoder: the parameters of a frozen one."""
        of = functools.partial(self.gradients, encoder=encoder[0]) if self.frozen else self.gradients
        gradients, carried, metrics = microbatches.mean(of, state, batch, self.accumulate)
        how = {"optimizer": self.optimizer, "rules": self.rules}
        new_state, metrics = update.update(state, gradients, carried, metrics, **how)
        return new_state, metrics | {"lr": jnp.float32(self.lr(state.step))}

    def gradients(
        self, state: TrainState, batch: LabelMaps, rows: jax.Array, key: jax.Array, encoder: Params | None = None
    ) -> microbatches.Gradients:
        """Of the loss. rows: int32 [B], places in the batch. key: the microbatch's base key, state.rng for a whole
        batch. encoder: as train_step's."""
        key = jax.random.fold_in(key, state.step)
        images, label_maps = self.augment(jax.random.fold_in(key, AUGMENT), batch, rows)
        drop = None if self.frozen else jax.random.fold_in(key, DROP_PATH)

        def loss_of(params: Params) -> tuple[jax.Array, tuple[Any, Metrics]]:
            output = self._encode(params["encoder"] if encoder is None else encoder, images, drop)
            variables = {"params": params[HEAD], "batch_stats": state.batch_stats[HEAD]}
            found, moved = self.head.apply(variables, output, train=True, mutable=["batch_stats"])
            whole = losses.denominator(label_maps, self.over)
            total, correct = self._summed(found.logits, label_maps)
            auxiliary = [self._summed(logits, label_maps)[0] / whole for logits in found.auxiliary]
            loss = total / whole + self.auxiliary_weight * sum(auxiliary)
            labelled = losses.denominator(label_maps, "labelled")
            metrics = {"loss": loss, "pixel_loss": total / whole, "train_pixel_accuracy": correct / labelled}
            return loss, (moved.get("batch_stats", {}), metrics)

        (_, (stats, metrics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        return gradients, {"batch_stats": {HEAD: stats}}, metrics

    def augment(self, key: jax.Array, batch: LabelMaps, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(images float32 [B, H, W, C], normalised, 0 where there is no image; label_maps [B, H, W])."""
        views = (batch.images, batch.label_maps, batch.extents)
        pixels, label_maps = dense_augment.augment(key, *views, self.augmentation, rows)
        return dense_augment.normalise(pixels, batch.extents, self.mean, self.std), label_maps

    def logits(
        self, params: Params, batch_stats: Params, images: jax.Array, encoder: Params | None = None
    ) -> jax.Array:
        """images [N, H, W, C], normalised -> float32 [N, H, W, classes], by running statistics."""
        output = self._encode(params["encoder"] if encoder is None else encoder, images)
        found: Any = self.head.apply({"params": params[HEAD], "batch_stats": batch_stats[HEAD]}, output, train=False)
        return resize.bilinear(found.logits, images.shape[1:3], self.head.align_corners)

    def _summed(self, logits: jax.Array, label_maps: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(Sum of the pixels' losses, number of correct pixels) of logits [B, h, w, classes] at any resolution.

        Logits at full size would be most of a step's memory: bands of rows are resized one after another, and once more
        for the gradient.
        """
        count, height, width = label_maps.shape
        align = self.head.align_corners
        logits = resize.bilinear(logits, (logits.shape[1], width), align)
        whole = count * width * logits.shape[-1]
        bands = next(
            n for n in range(1, height + 1) if height % n == 0 and (whole * height // n <= BAND or n == height)
        )
        unit = jnp.eye(logits.shape[1], dtype=jnp.float32)[None, :, None]
        weights = resize.bilinear(unit, (height, 1), align)[0, :, 0]  # [H, h]: what each row gives to each new one

        @jax.checkpoint
        def band(logits: jax.Array, weights: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
            # A product for each image: as one over all of them XLA cannot compile it for NVIDIA's GPUs.
            flat = logits.reshape(count, logits.shape[1], -1)
            full = jnp.matmul(jnp.broadcast_to(weights, (count, *weights.shape)), flat, precision="highest")
            full = full.reshape(count, -1, width, logits.shape[-1])
            return losses.cross_entropy(full, labels).sum(), losses.correct(full, labels)

        def add(sums: tuple[jax.Array, jax.Array], part: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, band(logits, *part)), None

        parts = (
            weights.reshape(bands, -1, logits.shape[1]),
            label_maps.reshape(count, bands, -1, width).swapaxes(0, 1),
        )
        return jax.lax.scan(add, (jnp.float32(0), jnp.int32(0)), parts)[0]

    def _encode(self, encoder: Params, images: jax.Array, key: jax.Array | None = None) -> EncoderOutput:
        """Without gradients where it is frozen. With a key, paths are dropped."""
        rngs = None if key is None else {"drop_path": key}
        output = apply(self.encoder, encoder, images, train=key is not None, rngs=rngs)
        return jax.lax.stop_gradient(output) if self.frozen else output
