"""What a pre-training run measures of itself: k-NN or effective rank on the way, and reconstruction at the end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders.compiled_step import Step
from repre_jax.core import sharding
from repre_jax.core.types import Records, TrainState
from repre_jax.data import photometric
from repre_jax.data.sources import DataSet
from repre_jax.data.views import CentreView
from repre_jax.evaluation import features, hog, knn, rank
from repre_jax.evaluation.batches import Batch, eval_batches, images_and_labels, never
from repre_jax.losses import reconstruction
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.train.pretrain import Pretraining

INTERPOLATION = "bilinear"  # of test images; configs/knn.py has DINO's bicubic
EXAMPLES = 8  # reconstructions that are drawn
PIXEL_SIDE = 32  # raw-pixel features of larger images are shrunk to this


@dataclass(frozen=True)
class Reconstructions:
    """L1 means over all test images, in 0..1: of the decoder, and of each image's mean colour; some examples."""

    l1: float
    l1_mean_colour: float
    views: np.ndarray
    rebuilt: np.ndarray


class Monitor:
    """Measures a state on un-augmented images; shapes never change, so each function compiles once."""

    def __init__(
        self,
        method: Pretraining,
        dataset: DataSet,
        mesh: Mesh,
        *,
        size: tuple[int, int],
        channels: int,
        crop_fraction: float,
        batch_size: int,
        k: int,
        train_records: int,
        test_records: int,
    ):
        """k-NN compares at most `test_records` of test with `train_records` of train, evenly spaced over each."""
        self.method, self.dataset, self.mesh = method, dataset, mesh
        self.size, self.channels, self.crop_fraction, self.batch_size = size, channels, crop_fraction, batch_size
        self.k, self.train_records, self.test_records = k, train_records, test_records
        everywhere = sharding.replicated(mesh)
        self._encode = jax.jit(self._pooled, out_shardings=everywhere)
        self._pixels = jax.jit(small_pixels, out_shardings=everywhere)
        self._hog = jax.jit(hog.descriptors, out_shardings=everywhere)
        self._rebuild = jax.jit(self._reconstruct, out_shardings=everywhere)

    def evaluate(self, state: TrainState, should_stop: ShouldStop) -> dict[str, float]:
        """{'knn_top1': 0..1}, or where there are no labels {'effective_rank': 1..D}. Raises Interrupted."""
        top1 = self.knn(state, should_stop)
        return {"effective_rank": self.effective_rank(state, should_stop)} if top1 is None else {"knn_top1": top1}

    def effective_rank(self, state: TrainState, should_stop: ShouldStop = never) -> float:
        """RankMe of the online encoder's pooled features of `test_records` training images, which need no labels.

        RankMe's authors prefer the projector's outputs; these normalise by the batch and may be 65,536 wide (DINO).
        """
        batches = self._batches(self.dataset.train, self.test_records, "effective rank", should_stop)
        found, _ = features.extract(lambda images: self._encode(state.params["encoder"], images), batches, self.mesh)
        return rank.effective_rank(found)

    def knn(self, state: TrainState, should_stop: ShouldStop = never) -> float | None:
        """Top-1 of the online encoder's pooled feature, 0..1: with every framework the same, also where the authors
        evaluate the target (DINO); MoCo v3's evaluate the online encoder. None without labels or a test split."""
        return self._vote(lambda images: self._encode(state.params["encoder"], images), should_stop)

    def no_knn(self) -> str:
        """Why `knn` is None, for people."""
        if not self.dataset.classes:
            return "there are no labels"
        return "there is no test split" if self.dataset.test is None else "a split has no labels"

    def knn_pixels(self, should_stop: ShouldStop = never) -> float | None:
        """The same vote on raw pixels, of images shrunk to 32 x 32 if they are larger."""
        return self._vote(self._pixels, should_stop)

    def knn_hog(self, should_stop: ShouldStop = never) -> float | None:
        """The same vote on histograms of oriented gradients, of images as they are: what edges alone reach."""
        return self._vote(self._hog, should_stop)

    def reconstruction(
        self, state: TrainState, should_stop: ShouldStop = never, limit: int | None = None
    ) -> Reconstructions:
        """Over the test split, or without one as many training images as k-NN would test, at most `limit`; to be asked
        only of a method that reconstructs."""
        errors, errors_mean = [], []
        views: list[np.ndarray] = []
        rebuilt: list[np.ndarray] = []
        train, test = self.dataset.train, self.dataset.test
        chosen = (train, limit or self.test_records) if test is None else (test, limit)
        for images, labels in self._batches(*chosen, "reconstructing", should_stop):
            pixels, output, error, error_mean = self._rebuild(state.params, sharding.shard_batch(images, self.mesh))
            counts = features.all_labels(labels, len(images), self.mesh) != features.EMPTY
            errors.append(np.asarray(error)[counts])
            errors_mean.append(np.asarray(error_mean)[counts])
            if not views:
                views.append(np.asarray(pixels)[counts][:EXAMPLES])
                rebuilt.append(np.asarray(output)[counts][:EXAMPLES])
        return Reconstructions(
            l1=float(np.concatenate(errors).mean()),
            l1_mean_colour=float(np.concatenate(errors_mean).mean()),
            views=views[0],
            rebuilt=rebuilt[0],
        )

    def _vote(self, encode: Callable[[jax.Array], jax.Array], should_stop: ShouldStop = never) -> float | None:
        if not self.dataset.classes or self.dataset.test is None:
            return None
        splits = ((self.dataset.train, self.train_records, "training"), (self.dataset.test, self.test_records, "test"))
        train, test = (
            features.extract(encode, self._batches(source, limit, f"k-NN, {split} images", should_stop), self.mesh)
            for source, limit, split in splits
        )
        if min(labels.min() for _, labels in (train, test)) < 0:  # a split without labels, as ImageNet's 'test'
            return None
        (top1,) = knn.accuracy(*train, *test, classes=self.dataset.classes, ks=(self.k,), mesh=self.mesh).values()
        return top1

    def _batches(
        self, source: Records, limit: int | None, what: str, should_stop: ShouldStop = never
    ) -> Iterator[Batch]:
        view = CentreView(self.size, self.crop_fraction, self.channels, INTERPOLATION)
        return images_and_labels(eval_batches(source, view, self.batch_size, what, should_stop, limit=limit))

    def _normalized(self, images: jax.Array) -> jax.Array:
        return photometric.normalize(images.astype(jnp.float32) / 255, self.method.mean, self.method.std)

    def _pooled(self, encoder_params: dict[str, Any], images: jax.Array) -> jax.Array:
        return self.method.encode(self.method.gather(encoder_params), self._normalized(images)).pooled

    def _reconstruct(self, params: dict[str, Any], images: jax.Array) -> tuple[jax.Array, ...]:
        pixels, params = images.astype(jnp.float32) / 255, self.method.gather(params)
        output = self.method.encode(params["encoder"], self._normalized(images))
        if self.method.reconstruction is None:
            raise ValueError("This method reconstructs nothing.")
        rebuilt = self.method.reconstruction.reconstruct(params, output.pyramid)
        flat = jnp.broadcast_to(pixels.mean(axis=(1, 2), keepdims=True), pixels.shape)
        l1 = jax.vmap(reconstruction.l1)
        return pixels, rebuilt, l1(rebuilt, pixels), l1(flat, pixels)


def small_pixels(images: jax.Array) -> jax.Array:
    """What is called raw pixels: uint8 [B, H, W, C] -> float32 [B, values] in 0..1, at most 32 x 32 of each image."""
    count, height, width, channels = images.shape
    small = (count, min(height, PIXEL_SIDE), min(width, PIXEL_SIDE), channels)
    pixels = jax.image.resize(images.astype(jnp.float32) / 255, small, "linear")
    return pixels.reshape(count, -1)


def build(config: ConfigDict, step: Step, dataset: DataSet) -> Monitor:
    """By the config's keys knn.* and data.*."""
    return Monitor(
        step.method,
        dataset,
        step.mesh,
        size=step.image_shape[:2],
        channels=config.data.channels,
        crop_fraction=config.data.test_crop,
        batch_size=config.batch_size,
        k=config.knn.k,
        train_records=config.knn.train_records,
        test_records=config.knn.test_records,
    )
