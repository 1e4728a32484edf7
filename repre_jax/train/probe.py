"""Linear heads on frozen features: one for each learning rate of a grid, all trained in one pass over the data.

A head never reaches the encoder, and heads never reach each other: they share the images, the features and the first
draw, so that each ends as it would if it were trained alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from repre_jax.core import sharding
from repre_jax.core.schedules import Schedule
from repre_jax.core.types import LabelledImages, TrainState
from repre_jax.data import photometric
from repre_jax.models import features
from repre_jax.models.batch_norm import BatchNorm
from repre_jax.models.encoders import Encoder
from repre_jax.train.update import advance, counters

Params = dict[str, Any]
Metrics = dict[str, jax.Array]
AUGMENT, DROP_PATH = 0, 1  # a step's key is folded with one constant per use


@dataclass(frozen=True)
class Probe:
    """Letters beside core/types.py's: S encoders (the trained one, and perhaps the untrained), G learning rates,
    F numbers in a feature.

    optimizer:  core/optim.py's, of one head. lr: what it goes by.
    factors:    what that rate is multiplied by, a head each; 1 is among them, whose loss is logged.
    batch_norm: normalise features by the batch, without affine parameters, and in evaluations by running statistics
                (mae main_linprobe.py:218-222).
    init_std:   of the heads' first weights.
    drop_paths: run the encoder as in training (MoBY moby_linear.py:189).
    mesh:       of the devices, each of which encodes some images of a batch after the others (MAE's has 16,384), but
                for dropped paths; None: all at once.
    mean, std:  per channel, of pixels in 0..1.
    """

    encoder: Encoder
    feature: str
    classes: int
    optimizer: optax.GradientTransformationExtraArgs
    factors: tuple[float, ...]
    lr: Schedule
    mean: Sequence[float]
    std: Sequence[float]
    flip_probability: float
    init_std: float = 0.01
    batch_norm: bool = False
    label_smoothing: float = 0.0
    drop_paths: bool = False
    mesh: Mesh | None = None

    def init_state(self, key: jax.Array, encoders: int, width: int) -> TrainState:
        """Fresh heads for `encoders` encoders whose features are `width` wide. key: uint32 [2]. To be jitted."""
        kernel = self.init_std * jax.random.normal(jax.random.fold_in(key, 0), (width, self.classes), jnp.float32)
        head = {"kernel": kernel, "bias": jnp.zeros(self.classes, jnp.float32)}
        grid = (encoders, len(self.factors))
        heads = jax.tree.map(lambda x: jnp.broadcast_to(x, (*grid, *x.shape)), head)
        batch_stats = {}
        if self.batch_norm:
            shape = (encoders, width)
            batch_stats = {"mean": jnp.zeros(shape, jnp.float32), "var": jnp.ones(shape, jnp.float32)}
        return TrainState.begin(key, heads, jax.vmap(jax.vmap(self.optimizer.init))(heads), batch_stats=batch_stats)

    def features(self, encoders: Sequence[Params], images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """images [B, H, W, C], normalised -> float32 [S, B, F]. With a key, paths are dropped."""
        found = [features.extract(self.encoder, self.feature, params, images, key) for params in encoders]
        return jax.lax.stop_gradient(jnp.stack(found))

    def encode(self, encoders: Sequence[Params], images: jax.Array) -> jax.Array:
        """images uint8 [B, H, W, C], as they are -> float32 [S, B, F]."""

        def rows_of(encoders: Sequence[Params], images: jax.Array) -> jax.Array:
            pixels = photometric.normalize(images.astype(jnp.float32) / 255, self.mean, self.std)
            return self.features(encoders, pixels).swapaxes(0, 1)

        return self._chunked(rows_of)(encoders, images).swapaxes(0, 1)

    def augment_and_encode(self, encoders: Sequence[Params], images: jax.Array, key: jax.Array) -> jax.Array:
        """images uint8 [B, H, W, C], cropped -> float32 [S, B, F]."""
        flip = photometric.flip_only(self.flip_probability)

        def rows_of(whole: tuple[Sequence[Params], jax.Array], rows: tuple[jax.Array, jax.Array]) -> jax.Array:
            (encoders, key), (images, places) = whole, rows
            views = images[:, None]  # one view of each, [B, V, H, W, C]
            pixels = photometric.augment(jax.random.fold_in(key, AUGMENT), views, (flip,), rows=places)[:, 0]
            drop = jax.random.fold_in(key, DROP_PATH) if self.drop_paths else None
            return self.features(encoders, photometric.normalize(pixels, self.mean, self.std), drop).swapaxes(0, 1)

        run = rows_of if self.drop_paths else self._chunked(rows_of)  # which paths are dropped depends on all rows
        return run((encoders, key), (images, jnp.arange(len(images)))).swapaxes(0, 1)

    def _chunked(self, function: Callable[[Any, Any], jax.Array]) -> Callable[[Any, Any], jax.Array]:
        return function if self.mesh is None else sharding.in_chunks(function, self.mesh)

    def train_step(self, state: TrainState, batch: LabelledImages, *encoders: Params) -> tuple[TrainState, Metrics]:
        """One step of every head on randomly cropped images, flipped here. batch.images: uint8 [B, H, W, C]."""
        key = jax.random.fold_in(state.rng, state.step)
        return self.step(state, self.augment_and_encode(encoders, batch.images, key), batch.labels)

    def cached_step(self, state: TrainState, batch: tuple[jax.Array, jax.Array]) -> tuple[TrainState, Metrics]:
        """The same on features [B, S, F] that were extracted before; labels [B]."""
        return self.step(state, batch[0].swapaxes(0, 1), batch[1])

    def step(self, state: TrainState, found: jax.Array, labels: jax.Array) -> tuple[TrainState, Metrics]:
        """found: features [S, B, F]; labels: int32 [B].

        A step with features that are not finite is skipped, as in train/update.py: the heads and the running statistics
        stay. A head that diverges at its own learning rate does not concern the others.
        """
        finite = jnp.isfinite(found).all()
        targets = optax.smooth_labels(jax.nn.one_hot(labels, self.classes, dtype=jnp.float32), self.label_smoothing)
        found, batch_stats = self._normalised(found, state.batch_stats, train=True)

        def loss_of(head: Params, found: jax.Array) -> jax.Array:
            return optax.softmax_cross_entropy(_logits(head, found), targets).mean()

        def one(head: Params, opt_state: Any, factor: jax.Array, found: jax.Array) -> tuple[Params, Any, jax.Array]:
            loss, grads = jax.value_and_grad(loss_of)(head, found)
            updates, opt_state = self.optimizer.update(grads, opt_state, head, at_step=state.step)
            # The rate is the last factor of every optimiser's update.
            return optax.apply_updates(head, jax.tree.map(lambda u: factor * u, updates)), opt_state, loss

        each = jax.vmap(jax.vmap(one, in_axes=(0, 0, 0, None)), in_axes=(0, 0, None, 0))
        heads, opt_state, losses = each(state.params, state.opt_state, jnp.asarray(self.factors, jnp.float32), found)
        new_state = advance(state, {"params": heads, "opt_state": opt_state, "batch_stats": batch_stats}, finite)
        metrics = {"loss": losses[0, self.factors.index(1.0)], "lr": jnp.float32(self.lr(state.step))}
        return new_state, metrics | counters(new_state)

    def correct(self, state: TrainState, found: jax.Array, labels: jax.Array) -> jax.Array:
        """Whether each head's class of each image is correct: bool [S, G, B]. found: [S, B, F]; labels: int32 [B]."""
        found, _ = self._normalised(found, state.batch_stats, train=False)
        logits = jax.vmap(jax.vmap(_logits, in_axes=(0, None)))(state.params, found)
        return logits.argmax(axis=-1) == labels

    def _normalised(self, found: jax.Array, batch_stats: dict[str, jax.Array], *, train: bool) -> tuple[jax.Array, Any]:
        if not self.batch_norm:
            return found, batch_stats
        norm = BatchNorm(epsilon=1e-6, use_scale=False, use_bias=False)

        def of_one(found: jax.Array, statistics: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
            normalised, changed = norm.apply({"batch_stats": statistics}, found, train=train, mutable=["batch_stats"])
            return normalised, changed["batch_stats"]

        return jax.vmap(of_one)(found, batch_stats)


def _logits(head: Params, found: jax.Array) -> jax.Array:
    return found @ head["kernel"] + head["bias"]
