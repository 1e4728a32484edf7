"""The fine-tuning step: labelled crops -> augmentation -> loss -> gradients -> parameters of encoder and head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from repre_jax.core import optim
from repre_jax.core.linen import apply
from repre_jax.core.schedules import Schedule
from repre_jax.core.types import LabelledImages, TrainState
from repre_jax.data import mixing, photometric
from repre_jax.models.classifier import Classifier
from repre_jax.models.encoders import Encoder
from repre_jax.models.swin import Swin
from repre_jax.train import microbatches, update

Params = dict[str, Any]
Metrics = dict[str, jax.Array]
FLIP, ERASE, MIX, DROP_PATH = range(4)  # a step's key is folded with one constant per use


@dataclass(frozen=True)
class Supervised:
    """An encoder and a classifier, trained end to end.

    optimizer: core/optim.py's, by `rules`. lr: what it goes by. mixing: of images and labels within a batch.
    erase_probability: of an image's random erasing. mean, std: per channel, of pixels in 0..1.
    accumulate: microbatches that a batch is computed in; images are mixed within one.
    """

    encoder: Encoder
    classifier: Classifier
    optimizer: optax.GradientTransformationExtraArgs
    rules: Sequence[optim.Rule]
    lr: Schedule
    mixing: mixing.Mixing
    erase_probability: float
    flip_probability: float
    mean: Sequence[float]
    std: Sequence[float]
    accumulate: int = 1

    def new_state(self, encoder: Params, key: jax.Array) -> TrainState:
        """Step 0 with these weights of the encoder and a fresh head. key: uint32 [2]. To be jitted."""
        channels, side = self.encoder.channels, self.encoder.patch * 2
        output = jax.eval_shape(self._encode, encoder, jnp.zeros((1, side, side, channels), jnp.float32))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), output)
        head = self.classifier.init(jax.random.fold_in(key, 0), zeros)["params"]
        params = {"encoder": encoder, "head": head}
        optim.check_rules(params, self.rules)
        return TrainState.begin(key, params, self.optimizer.init(params))

    def logits(self, params: Params, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """images [N, H, W, C], normalised -> [N, classes]. With a key, paths are dropped."""
        return apply(self.classifier, params["head"], self._encode(params["encoder"], images, key))

    def train_step(self, state: TrainState, batch: LabelledImages) -> tuple[TrainState, Metrics]:
        """One optimiser step: the new state, and float32 scalars to log. batch.images: uint8 [B, H, W, C]."""
        gradients, carried, metrics = microbatches.mean(self.gradients, state, batch, self.accumulate)
        how = {"optimizer": self.optimizer, "rules": self.rules}
        new_state, metrics = update.update(state, gradients, carried, metrics, **how)
        return new_state, metrics | {"lr": jnp.float32(self.lr(state.step))}

    def gradients(
        self, state: TrainState, batch: LabelledImages, rows: jax.Array, key: jax.Array
    ) -> microbatches.Gradients:
        """Of the cross-entropy. The order is timm's: flip, normalise, erase, then mix.

        rows: int32 [B], places in the batch. key: the microbatch's base key, state.rng for a whole batch.
        """
        key = jax.random.fold_in(key, state.step)
        images, targets = self.augment(key, batch, rows)

        def loss_of(params: Params) -> tuple[jax.Array, jax.Array]:
            logits = self.logits(params, images, jax.random.fold_in(key, DROP_PATH))
            loss = optax.softmax_cross_entropy(logits, targets).mean()
            return loss, (logits.argmax(-1) == targets.argmax(-1)).mean(dtype=jnp.float32)

        (loss, accuracy), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        return gradients, {}, {"loss": loss, "train_top1": accuracy}

    def augment(self, key: jax.Array, batch: LabelledImages, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(images [B, H, W, C], normalised; targets [B, classes], rows summing to 1). rows: places in the batch."""
        flip = photometric.flip_only(self.flip_probability)
        views = batch.images[:, None]  # one view of each, [B, V, H, W, C]
        pixels = photometric.augment(jax.random.fold_in(key, FLIP), views, (flip,), rows=rows)[:, 0]
        images = photometric.normalize(pixels, self.mean, self.std)
        images = mixing.erase(jax.random.fold_in(key, ERASE), images, self.erase_probability, rows)
        classes = self.classifier.classes
        return mixing.mix(jax.random.fold_in(key, MIX), images, batch.labels, classes, self.mixing)

    def _encode(self, encoder: Params, images: jax.Array, key: jax.Array | None = None) -> Any:
        rngs = None if key is None else {"drop_path": key}
        return apply(self.encoder, encoder, images, train=key is not None, rngs=rngs)


def layer_decay(encoder: Encoder, decay: float) -> tuple[optim.Rule, ...]:
    """Learning rates that fall towards the input: decay^(L + 1 - i) for layer i (mae util/lr_decay.py:15-76).

    L is the number of blocks; patches, positions and the class token are layer 0, block b is layer b, all else, the
    head too, L + 1. Of a Swin, blocks count through all stages, and merging belongs to the block before it.
    """
    if decay == 1:
        return ()
    if isinstance(encoder, Swin):
        stages = enumerate(encoder.depth, start=1)
        blocks = [f"stage_{s}_(block_{b}{'|merge' if b == n else ''})" for s, n in stages for b in range(1, n + 1)]
    else:
        blocks = [f"block_{b}" for b in range(1, encoder.depth + 1)]
    layers = ["(patch_embed|patch_norm|pos_embed|cls_token)", *blocks]
    return tuple((f"^encoder/{name}(/|$)", "lr_scale", decay ** (len(layers) - i)) for i, name in enumerate(layers))
