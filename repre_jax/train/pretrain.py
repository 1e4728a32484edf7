"""The training step: views -> losses -> gradients -> parameters -> target.

Written as if there were one device: the batch axis is global inside jit, so BatchNorm, queues, centres and the in-batch
negatives span all devices without a word about them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from repre_jax.core import optim
from repre_jax.core.numerics import l2_normalize
from repre_jax.core.schedules import Schedule
from repre_jax.core.types import EncoderOutput, Pixels, TrainState, Views
from repre_jax.data import photometric
from repre_jax.frameworks.base import Framework
from repre_jax.losses import balance
from repre_jax.train import parts, skipping
from repre_jax.train.parts import Gradients
from repre_jax.train.repre import ReconstructionBranch

Params = dict[str, Any]
Metrics = dict[str, jax.Array]

AUGMENT, DROP_PATH, LOCAL_DROP_PATH = 0, 1, 2  # a step's key is folded with one constant per use
PARTS = 2**31  # where a batch is computed in parts, part a's base key is folded with PARTS + a, which no step comes to


@dataclass(frozen=True)
class Pretraining:
    """A contrastive framework on an encoder, with RePre's branch, or without it (None: the baseline).

    optimizer: any optax transformation; `update` gets at_step=<finished steps> beside the usual, which
               core/optim.py's need and others ignore.
    momentum:  of the target, for frameworks with a moving average; a function of the finished steps.
    mean, std: per channel, for pixels in 0..1; what the encoder sees is (pixels - mean) / std.
    augmentation, local_augmentation: one entry per view and the one of all local views; only train_step needs them.
    rules:     the optimiser's exceptions; tensors with lr_scale 0 are left out of the gradient's norm.
    schedules: further functions of the finished steps whose values are logged.
    accumulate: parts that a batch is computed in (train/parts.py). The framework's loss sees one part, and its extra
               passes from part to part; all else moves once a step.
    gather:    makes parameters whole on each device where the state is split over them (core/sharding.py).

    train_step augments and calls `step`, which can be called by itself with views and parameters of one's own:
    README.md, "The step from outside", shows it.
    """

    encoder: nn.Module
    framework: Framework
    branch: ReconstructionBranch | None
    optimizer: optax.GradientTransformation
    momentum: Schedule
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    augmentation: Sequence[photometric.Photometric] = ()
    local_augmentation: photometric.Photometric | None = None
    rules: Sequence[optim.Rule] = ()
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    accumulate: int = 1
    gather: Callable[[Params], Params] = lambda params: params

    def init_params(self, key: jax.Array, image_shape: tuple[int, int, int]) -> Params:
        """Fresh parameters for views of `image_shape` (H, W, C)."""
        keys = jax.random.split(key, 4)
        images = jnp.zeros((2, *image_shape))
        params = {"encoder": self.encoder.init(keys[0], images)["params"]}
        output = self.encode(params["encoder"], images)
        pooled = output.pooled[None]
        params["projector"] = self.framework.projector.init(keys[1], pooled)["params"]
        if self.framework.predictor is not None:
            projected = self.framework.projector.apply({"params": params["projector"]}, pooled)
            params["predictor"] = self.framework.predictor.init(keys[2], projected)["params"]
        if self.branch is not None:
            params |= self.branch.init_params(keys[3], output.pyramid)
        return params

    def new_state(self, params: Params, key: jax.Array) -> TrainState:
        """Step 0 from given parameters: the target is a copy. To be jitted, so that it is one in memory too.

        key: uint32 [2], of every random draw of the run.
        """
        optim.check_rules(params, self.rules)
        target = {name: params[name] for name in ("encoder", "projector")} if self.framework.target == "ema" else {}
        extra = self.framework.init_extra(jax.random.fold_in(key, 0))
        return TrainState.begin(key, params, self.optimizer.init(params), target, extra)

    def init_state(self, key: jax.Array, image_shape: tuple[int, int, int]) -> TrainState:
        """A fresh state for views of `image_shape` (H, W, C). To be jitted."""
        return self.new_state(self.init_params(key, image_shape), key)

    def encode(self, encoder_params: Params, images: jax.Array, key: jax.Array | None = None) -> EncoderOutput:
        """images [N, H, W, C], normalised. With a key, paths are dropped."""
        rngs = None if key is None else {"drop_path": key}
        return self.encoder.apply({"params": encoder_params}, images, train=key is not None, rngs=rngs)

    def encode_views(self, encoder_params: Params, pixels: jax.Array, key: jax.Array | None = None) -> EncoderOutput:
        """pixels [B, V, H, W, C] in 0..1; returns the output of all B * V views, batch-major."""
        images = photometric.normalize(pixels, self.mean, self.std)
        return self.encode(encoder_params, images.reshape(-1, *images.shape[2:]), key)

    def target(self, state: TrainState, pixels: Pixels) -> jax.Array | None:
        """The moving average's projections of the last target_views views, [B, V, E]; None if there is none."""
        if self.framework.target != "ema":
            return None
        views = pixels.views[:, -self.framework.target_views :]
        pooled = _by_record(self.encode_views(state.target["encoder"], views).pooled, views)
        return self.framework.projector.apply({"params": state.target["projector"]}, pooled)

    def loss(
        self, params: Params, state: TrainState, pixels: Pixels, target: jax.Array | None
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Metrics]]:
        """The total loss of `params`, the framework's next extra and what to log.

        state: of which step, rng and extra are read. target: see `target`.
        """
        key = jax.random.fold_in(state.rng, state.step)
        seen = max(self.framework.online_views, self.branch.views if self.branch else 0)
        views = pixels.views[:, :seen]
        output = self.encode_views(params["encoder"], views, jax.random.fold_in(key, DROP_PATH))
        pooled = _by_record(output.pooled, views)[:, : self.framework.online_views]
        if pixels.local is not None:
            local = self.encode_views(params["encoder"], pixels.local, jax.random.fold_in(key, LOCAL_DROP_PATH))
            pooled = jnp.concatenate([pooled, _by_record(local.pooled, pixels.local)], axis=1)
        projection = prediction = self.framework.projector.apply({"params": params["projector"]}, pooled)
        if self.framework.predictor is not None:
            prediction = self.framework.predictor.apply({"params": params["predictor"]}, projection)
        if self.framework.target == "self":
            target = projection
        losses = {}
        losses["contrastive"], extra, metrics = self.framework.loss(
            prediction, jax.lax.stop_gradient(target), state.extra, state.step
        )
        total = losses["contrastive"]
        if self.branch is not None:
            losses["reconstruction"] = self.branch.loss(params, output.pyramid, views)
            total, weights = self.branch.join(params, losses)
            metrics |= weights
        embedding = l2_normalize(projection[:, 0])
        metrics["embedding_std"] = embedding.std(axis=0).mean()
        metrics["embedding_std_uniform"] = jnp.float32(embedding.shape[-1] ** -0.5)  # spread evenly over the sphere
        return total, (extra, {"loss": total, **losses, **metrics})

    def step(self, state: TrainState, pixels: Pixels) -> tuple[TrainState, Metrics, Params]:
        """One optimiser step on views that are augmented already.

        Returns the new state, float32 scalars (loss, contrastive, reconstruction, weights, schedules ...) and the
        gradients as the optimiser gets them. A step whose loss, or the norm of whose gradient or update is not finite,
        in any part of the batch, moves nothing but `step` and the counters of skipped steps.
        """
        return self.update(state, self._gradients(state, pixels, lambda part, rows: part))

    def train_step(self, state: TrainState, batch: Views) -> tuple[TrainState, Metrics]:
        """Augmentation and `step`: the new state, and float32 scalars to log."""

        def augmented(part: Views, rows: jax.Array) -> Pixels:
            return self.augment(state.rng, state.step, part, rows)

        new_state, metrics, _ = self.update(state, self._gradients(state, batch, augmented))
        return new_state, metrics

    def _gradients(self, state: TrainState, batch: Any, pixels_of: Callable[[Any, jax.Array], Pixels]) -> Gradients:
        """Of the loss, as its mean over the parts of the batch. pixels_of: (a part, its rows in the batch) -> views."""
        whole = dataclasses.replace(state, params=self.gather(state.params), target=self.gather(state.target))

        def of_part(part: Any, rows: jax.Array, extra: dict[str, jax.Array], number: jax.Array | None) -> Gradients:
            rng = state.rng if number is None else jax.random.fold_in(state.rng, jnp.uint32(PARTS) + number)
            now = dataclasses.replace(whole, extra=extra, rng=rng)
            pixels = pixels_of(part, rows)
            return jax.grad(self.loss, has_aux=True)(now.params, now, pixels, self.target(now, pixels))

        return parts.mean(of_part, state.params, batch, state.extra, self.accumulate)

    def update(self, state: TrainState, gradients: Gradients) -> tuple[TrainState, Metrics, Params]:
        """What `step` returns."""
        grads, (extra, metrics) = gradients
        grads = optim.zero_frozen(grads, self.rules)
        optimizer = optax.with_extra_args_support(self.optimizer)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, at_step=state.step)
        params = optax.apply_updates(state.params, updates)
        if self.branch is not None:
            params = params | {"balance": balance.clamp(params["balance"])}
        metrics["gradient_norm"] = optax.tree.norm(grads)
        finite = jnp.isfinite(jnp.stack([metrics["loss"], metrics["gradient_norm"], optax.tree.norm(updates)])).all()
        momentum = self.momentum(state.step + self.framework.ema_lead)
        online = {name: params[name] for name in state.target}
        target_params = optax.incremental_update(online, state.target, 1 - momentum)
        moved = dataclasses.replace(state, params=params, target=target_params, opt_state=opt_state, extra=extra)
        new_state = skipping.advance(state, moved, finite)
        metrics |= {name: jnp.float32(schedule(state.step)) for name, schedule in self.schedules.items()}
        if self.framework.target == "ema":
            metrics["momentum"] = jnp.float32(momentum)
        return new_state, metrics | skipping.counters(new_state), grads

    def augment(self, rng: jax.Array, step: jax.Array | int, batch: Views, rows: jax.Array | None = None) -> Pixels:
        """The device's half of the augmentation, as in the run with this base key after `step` finished steps.

        rows: int32 [B], where the records stand in the step's batch, if `batch` is a part of it.
        """
        key = jax.random.fold_in(jax.random.fold_in(rng, step), AUGMENT)
        views = photometric.augment(key, batch.images, self.augmentation, rows=rows)
        if batch.local is None:
            return Pixels(views)
        settings = (self.local_augmentation,) * batch.local.shape[1]
        local = photometric.augment(key, batch.local, settings, first=len(self.augmentation), rows=rows)
        return Pixels(views, local)


def _by_record(rows: jax.Array, views: jax.Array) -> jax.Array:
    """[N, D], batch-major -> [B, V, D], for views [B, V, ...]."""
    return rows.reshape(*views.shape[:2], -1)
