"""The training step: views -> losses -> gradients -> parameters -> target.

Written as if there were one device: the batch axis is global inside jit, so BatchNorm, queues, centres and the in-batch
negatives span all devices without a word about them.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax

from repre_jax.core import optim
from repre_jax.core.linen import apply
from repre_jax.core.numerics import l2_normalize, single
from repre_jax.core.schedules import Schedule
from repre_jax.core.types import EncoderOutput, Pixels, TrainState, Views
from repre_jax.data import photometric
from repre_jax.frameworks.base import Framework
from repre_jax.losses import weighting
from repre_jax.models.encoders import Encoder
from repre_jax.train import microbatches, update, wide_gradients
from repre_jax.train.reconstruction import Reconstruction

Params = dict[str, Any]
Metrics = dict[str, jax.Array]

AUGMENT, DROP_PATH, LOCAL_DROP_PATH = 0, 1, 2  # a step's key is folded with one constant per use


@dataclass(frozen=True)
class Pretraining:
    """A contrastive framework on an encoder, with RePre's reconstruction, or without it (None: the baseline).

    optimizer: any optax transformation; `update` gets at_step=<finished steps> beside the usual, which
               core/optim.py's need and others ignore.
    momentum:  of the target, for frameworks with a moving average; a function of the finished steps.
    mean, std: per channel, for pixels in 0..1; what the encoder sees is (pixels - mean) / std.
    augmentation, local_augmentation: one entry per view and the one of all local views; only train_step needs them.
    rules:     the optimiser's exceptions; tensors with lr_scale 0 are left out of the gradient's norm.
    schedules: further functions of the finished steps whose values are logged.
    accumulate: microbatches that a batch is computed in (train/microbatches.py). The framework's loss sees one, and
               its framework_state passes from one to the next; all else moves once a step.
    in_groups: parameters are updated in groups (train/joined.py), for optimisers that treat each number by itself.
    gather:    makes parameters whole on each device where the state is split over them (core/sharding.py).
    wide_gradients: weight gradients are sums in float32, whatever dtype products have (train/wide_gradients.py).

    train_step can be called by itself, with views and parameters of one's own: docs/step.md shows it.
    """

    encoder: Encoder
    framework: Framework
    reconstruction: Reconstruction | None
    optimizer: optax.GradientTransformation
    momentum: Schedule
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    augmentation: Sequence[photometric.Photometric] = ()
    local_augmentation: photometric.Photometric | None = None
    rules: Sequence[optim.Rule] = ()
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    accumulate: int = 1
    in_groups: bool = False
    gather: Callable[[Params], Params] = lambda params: params
    wide_gradients: bool = False

    def train_step(self, state: TrainState, batch: Views | Pixels) -> tuple[TrainState, Metrics]:
        """One optimiser step: the new state, and float32 scalars to log (loss, contrastive, reconstruction, weights,
        schedules ...).

        batch: records as the loader gives them, which are augmented here, or Pixels that are augmented already.
        """
        whole = dataclasses.replace(state, params=self.gather(state.params), target=self.gather(state.target))
        gradients, carried, metrics = microbatches.mean(self.gradients, whole, batch, self.accumulate)
        return self.update(state, gradients, carried, metrics)

    def gradients(
        self, state: TrainState, batch: Views | Pixels, rows: jax.Array, key: jax.Array
    ) -> microbatches.Gradients:
        """Gradients of the total loss like state.params, the next framework_state, and what to log.

        rows: int32 [B], where the records stand in the step's batch, if `batch` is a microbatch of it. key: its base
        key, state.rng for a whole batch. What is augmented depends on the record's row alone.
        """
        pixels = batch if isinstance(batch, Pixels) else self.augment(state.rng, state.step, batch, rows)
        target = self.target(state, pixels)
        state = dataclasses.replace(state, rng=key)
        with wide_gradients.float32_sums() if self.wide_gradients else contextlib.nullcontext():
            gradients, (framework_state, metrics) = jax.grad(self.loss, has_aux=True)(
                state.params, state, pixels, target
            )
        return gradients, {"framework_state": framework_state}, metrics

    @jax.named_scope("augmentation")
    def augment(self, rng: jax.Array, step: jax.Array | int, batch: Views, rows: jax.Array | None = None) -> Pixels:
        """The device's half of the augmentation, as in the run with this base key after `step` finished steps.

        rows: int32 [B], where the records stand in the step's batch, if `batch` is a part of it.
        """
        key = jax.random.fold_in(jax.random.fold_in(rng, step), AUGMENT)
        views = photometric.augment(key, batch.images, self.augmentation, rows=rows)
        if batch.local is None:
            return Pixels(views)
        if self.local_augmentation is None:
            raise ValueError("A batch with local views needs local_augmentation.")
        settings = (self.local_augmentation,) * batch.local.shape[1]
        local = photometric.augment(key, batch.local, settings, first=len(self.augmentation), rows=rows)
        return Pixels(views, local)

    @jax.named_scope("target")
    def target(self, state: TrainState, pixels: Pixels) -> jax.Array | None:
        """The moving average's projections of the last target_views views, [B, V, E]; None if there is none."""
        if self.framework.target != "ema":
            return None
        views = pixels.views[:, -self.framework.target_views :]
        pooled = _by_record(self.encode_views(state.target["encoder"], views).pooled, views)
        return apply(self.framework.projector, state.target["projector"], pooled)

    @jax.named_scope("online")
    def loss(
        self, params: Params, state: TrainState, pixels: Pixels, target: jax.Array | None
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Metrics]]:
        """The total loss of `params`, the framework's next framework_state and what to log.

        state: of which step, rng and framework_state are read. target: see `target`.
        """
        key = jax.random.fold_in(state.rng, state.step)
        seen = max(self.framework.online_views, self.reconstruction.views if self.reconstruction else 0)
        views = pixels.views[:, :seen]
        output = self.encode_views(params["encoder"], views, jax.random.fold_in(key, DROP_PATH))
        pooled = _by_record(output.pooled, views)[:, : self.framework.online_views]
        if pixels.local is not None:
            local = self.encode_views(params["encoder"], pixels.local, jax.random.fold_in(key, LOCAL_DROP_PATH))
            pooled = jnp.concatenate([pooled, _by_record(local.pooled, pixels.local)], axis=1)
        projection = prediction = apply(self.framework.projector, params["projector"], pooled)
        if self.framework.predictor is not None:
            prediction = apply(self.framework.predictor, params["predictor"], projection)
        if self.framework.target == "self":
            target = projection
        losses = {}
        losses["contrastive"], framework_state, metrics = self.framework.loss(
            prediction, jax.lax.stop_gradient(target), state.framework_state, state.step
        )
        total = losses["contrastive"]
        if self.reconstruction is not None:
            losses["reconstruction"] = self.reconstruction.loss(params, output.pyramid, views)
            total, weights = self.reconstruction.combine(params, losses)
            metrics |= weights
        embedding = l2_normalize(projection[:, 0])
        metrics["embedding_std"] = embedding.std(axis=0).mean()
        metrics["embedding_std_uniform"] = jnp.float32(embedding.shape[-1] ** -0.5)  # spread evenly over the sphere
        return total, (framework_state, {"loss": total, **losses, **metrics})

    @jax.named_scope("update")
    def update(
        self, state: TrainState, gradients: Params, carried: microbatches.Carried, metrics: Metrics
    ) -> tuple[TrainState, Metrics]:
        """What train_step returns: the optimiser's step, the target's, or neither where something is not finite."""
        momentum = single(self.momentum(state.step + self.framework.ema_lead))
        how = {"optimizer": self.optimizer, "rules": self.rules, "momentum": momentum, "in_groups": self.in_groups}
        new_state, metrics = update.update(state, gradients, carried, metrics, **how)
        if self.reconstruction is not None:
            weights = weighting.clamp(new_state.params["balance"])
            new_state = dataclasses.replace(new_state, params=new_state.params | {"balance": weights})
        metrics |= {name: jnp.float32(schedule(state.step)) for name, schedule in self.schedules.items()}
        return new_state, metrics | ({"momentum": jnp.float32(momentum)} if state.target else {})

    def encode(self, encoder_params: Params, images: jax.Array, key: jax.Array | None = None) -> EncoderOutput:
        """images [N, H, W, C], normalised. With a key, paths are dropped."""
        rngs = None if key is None else {"drop_path": key}
        return apply(self.encoder, encoder_params, images, train=key is not None, rngs=rngs)

    def encode_views(self, encoder_params: Params, pixels: jax.Array, key: jax.Array | None = None) -> EncoderOutput:
        """pixels [B, V, H, W, C] in 0..1; returns the output of all B * V views, batch-major."""
        images = photometric.normalize(pixels, self.mean, self.std)
        return self.encode(encoder_params, images.reshape(-1, *images.shape[2:]), key)

    def init_params(self, key: jax.Array, image_shape: tuple[int, int, int]) -> Params:
        """Fresh parameters for views of `image_shape` (H, W, C)."""
        keys = jax.random.split(key, 4)
        images = jnp.zeros((2, *image_shape), jnp.float32)
        params = {"encoder": self.encoder.init(keys[0], images)["params"]}
        output = self.encode(params["encoder"], images)
        pooled = output.pooled[None]
        params["projector"] = self.framework.projector.init(keys[1], pooled)["params"]
        if self.framework.predictor is not None:
            projected = apply(self.framework.projector, params["projector"], pooled)
            params["predictor"] = self.framework.predictor.init(keys[2], projected)["params"]
        if self.reconstruction is not None:
            params |= self.reconstruction.init_params(keys[3], output.pyramid)
        return params

    def new_state(self, params: Params, key: jax.Array) -> TrainState:
        """Step 0 from given parameters: the target is a copy. To be jitted, so that it is one in memory too.

        key: uint32 [2], of every random draw of the run.
        """
        optim.check_rules(params, self.rules)
        target = {name: params[name] for name in ("encoder", "projector")} if self.framework.target == "ema" else {}
        framework_state = self.framework.init_framework_state(jax.random.fold_in(key, 0))
        return TrainState.begin(key, params, self.optimizer.init(params), target, framework_state)

    def init_state(self, key: jax.Array, image_shape: tuple[int, int, int]) -> TrainState:
        """A fresh state for views of `image_shape` (H, W, C). To be jitted."""
        return self.new_state(self.init_params(key, image_shape), key)


def _by_record(rows: jax.Array, views: jax.Array) -> jax.Array:
    """[N, D], batch-major -> [B, V, D], for views [B, V, ...]."""
    return rows.reshape(*views.shape[:2], -1)
