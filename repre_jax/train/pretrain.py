"""The training step: views -> losses -> gradients -> parameters -> target.

Written as if there were one device: the batch axis is global inside jit, so BatchNorm and the in-batch negatives
span all devices without a word about them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from repre_jax.core import optim
from repre_jax.core.schedules import Schedule
from repre_jax.core.types import EncoderOutput, TrainState, Views
from repre_jax.data import photometric
from repre_jax.frameworks.base import Framework
from repre_jax.losses import balance, contrastive
from repre_jax.train.repre import ReconstructionBranch

Params = dict[str, Any]

AUGMENT, DROP_PATH = 0, 1  # a step's key is folded with one constant per use


@dataclass(frozen=True)
class Pretraining:
    """A contrastive framework on an encoder, with RePre's branch, or without it (None: the baseline).

    augmentation: one entry per view. mean, std: per channel, for pixels in 0..1. rules: the optimiser's exceptions.
    lr, momentum: functions of the number of finished steps.
    """

    encoder: nn.Module
    framework: Framework
    branch: ReconstructionBranch | None
    augmentation: Sequence[photometric.Photometric]
    mean: Sequence[float]
    std: Sequence[float]
    optimizer: optax.GradientTransformation
    rules: Sequence[optim.Rule]
    lr: Schedule
    momentum: Schedule

    def init_state(self, key: jax.Array, image_shape: tuple[int, int, int]) -> TrainState:
        """A fresh state for views of `image_shape` (H, W, C). To be jitted: the target must be a copy in memory."""
        keys = jax.random.split(key, 4)
        views = len(self.augmentation)
        encoder = self.encoder.init(keys[0], jnp.zeros((views, *image_shape)))["params"]
        output = self.encode(encoder, jnp.zeros((views, *image_shape)))
        pooled = output.pooled.reshape(1, views, -1)
        projector = self.framework.projector.init(keys[1], pooled)["params"]
        projected = self.framework.projector.apply({"params": projector}, pooled)
        params = {
            "encoder": encoder,
            "projector": projector,
            "predictor": self.framework.predictor.init(keys[2], projected)["params"],
        }
        if self.branch is not None:
            params |= self.branch.init_params(keys[3], output.pyramid)
        optim.check_rules(params, self.rules)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            rng=key,
            params=params,
            target={"encoder": encoder, "projector": projector},
            opt_state=self.optimizer.init(params),
        )

    def encode(self, encoder_params: Params, images: jax.Array, key: jax.Array | None = None) -> EncoderOutput:
        """images [N, H, W, C], normalised. With a key, paths are dropped."""
        rngs = None if key is None else {"drop_path": key}
        return self.encoder.apply({"params": encoder_params}, images, train=key is not None, rngs=rngs)

    def project(self, params: Params, output: EncoderOutput, views: int) -> jax.Array:
        """The projection of every view, [B, V, E]; `params` holds 'projector'."""
        pooled = output.pooled.reshape(-1, views, output.pooled.shape[-1])
        return self.framework.projector.apply({"params": params["projector"]}, pooled)

    def loss(
        self, params: Params, images: jax.Array, pixels: jax.Array, target: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Total loss and what to log.

        images: [N, H, W, C], the normalised views. pixels: [B, V, H, W, C], the same before normalisation.
        target: [B, V, E], the target branch's projections. key: for the paths that the online encoder drops.
        """
        output = self.encode(params["encoder"], images, key)
        projection = self.project(params, output, views=pixels.shape[1])
        prediction = self.framework.predictor.apply({"params": params["predictor"]}, projection)
        losses = {}
        losses["contrastive"], metrics = self.framework.loss(prediction, jax.lax.stop_gradient(target))
        if self.branch is None:
            total = losses["contrastive"]
        else:
            losses["reconstruction"] = self.branch.loss(params, output.pyramid, pixels)
            total, weights = self.branch.join(params, losses)
            metrics |= weights
        embedding = contrastive.l2_normalize(projection[:, 0])
        metrics["embedding_std"] = embedding.std(axis=0).mean()
        metrics["embedding_std_uniform"] = jnp.float32(embedding.shape[-1] ** -0.5)  # spread evenly over the sphere
        return total, {"loss": total, **losses, **metrics}

    def train_step(self, state: TrainState, batch: Views) -> tuple[TrainState, dict[str, jax.Array]]:
        """One step: the new state, and float32 scalars to log."""
        key = jax.random.fold_in(state.rng, state.step)
        pixels = photometric.augment(jax.random.fold_in(key, AUGMENT), batch.images, self.augmentation)
        images = photometric.normalize(pixels, self.mean, self.std)
        images = images.reshape(-1, *images.shape[2:])

        target = self.project(state.target, self.encode(state.target["encoder"], images), views=pixels.shape[1])
        drop_path = jax.random.fold_in(key, DROP_PATH)
        grads, metrics = jax.grad(self.loss, has_aux=True)(state.params, images, pixels, target, drop_path)
        grads = optim.zero_frozen(grads, self.rules)

        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        if self.branch is not None:
            params = params | {"balance": balance.clamp(params["balance"])}
        # MoCo v3 moves the target before it is used, with the weights and the momentum of that step
        # (builder.py:85-94). Moving it after the step with the next step's momentum gives the same targets.
        momentum = self.momentum(state.step + 1)
        moved = {name: params[name] for name in state.target}
        new_state = TrainState(
            step=state.step + 1,
            rng=state.rng,
            params=params,
            target=optax.incremental_update(moved, state.target, 1 - momentum),
            opt_state=opt_state,
        )
        metrics |= {"lr": self.lr(state.step), "momentum": momentum, "gradient_norm": optax.tree.norm(grads)}
        return new_state, metrics
