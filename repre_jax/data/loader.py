"""Grain pipelines from records to batches of host arrays.

The training stream is a function of (seed, position) alone: record order = f(seed, epoch), crop randomness =
f(seed, position). So there is no iterator state to save; a run continues by starting at its step.
"""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import grain
import numpy as np
from absl import flags

from repre_jax.core.errors import UserError
from repre_jax.core.types import Views
from repre_jax.data import crops


@dataclass(frozen=True)
class TrainView:
    """Record and position -> {'images': uint8 [V, H, W, 3], 'labels': int32}. A class, because workers pickle it.

    With local_views there is 'local', uint8 [L, h, w, 3], too: crops of local_scale at local_size.
    """

    seed: int
    views: int
    size: tuple[int, int]
    scale: tuple[float, float]
    ratio: tuple[float, float]
    local_views: int = 0
    local_size: tuple[int, int] = (0, 0)
    local_scale: tuple[float, float] = (0.0, 0.0)

    def __call__(self, position: int, record: Mapping) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, position))
        try:
            image = crops.decode(record["image"])
        except UserError as error:
            raise UserError(f"{error}\n  It is number {position} of the shuffled training stream.") from None
        views = crops.random_resized_crops(
            image, rng, views=self.views, size=self.size, scale=self.scale, ratio=self.ratio
        )
        sample = {"images": views, "labels": np.int32(record["label"])}
        if self.local_views:
            sample["local"] = crops.random_resized_crops(
                image, rng, views=self.local_views, size=self.local_size, scale=self.local_scale, ratio=self.ratio
            )
        return sample


def train_batches(
    source: Sequence[Mapping], view: TrainView, *, batch_size: int, start_step: int, workers: int
) -> Iterator[Views]:
    """Endless batches from step `start_step` on: the same stream for any number of workers.

    Each epoch is a new permutation, and epochs flow into each other without a short batch.
    workers: processes that decode and crop; 0 uses two threads of this process.
    """
    dataset = (
        grain.MapDataset.source(source)
        .shuffle(seed=view.seed % 2**32)
        .repeat()
        .map_with_index(view)
        .batch(batch_size, drop_remainder=True)[start_step:]
    )
    threads = grain.ReadOptions(num_threads=1 if workers else 2, prefetch_buffer_size=2)
    batches = dataset.to_iter_dataset(threads)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags, which a plain script never parses
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_start_worker)
    cv2.setNumThreads(0)  # parallel over records already
    for batch in batches:
        yield Views(**batch)


def _start_worker(index: int, count: int) -> None:
    del index, count
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides


def test_batches(
    source: Sequence[Mapping],
    *,
    size: Sequence[int],
    fraction: float,
    batch_size: int,
    limit: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One pass over at most `limit` records, evenly spaced: (uint8 [batch_size, H, W, 3], int32 labels [n]).

    The last batch is filled up with black images so that shapes never change; only its first n rows are records.
    """
    count = len(source) if limit is None else min(limit, len(source))
    spacing = len(source) // count  # a stored order may be sorted by class

    def view(record: Mapping) -> dict[str, np.ndarray]:
        image = crops.center_crop(crops.decode(record["image"]), size=size, fraction=fraction)
        return {"images": image, "labels": np.int32(record["label"])}

    dataset = grain.MapDataset.source(source)[: count * spacing : spacing].map(view).batch(batch_size)
    for batch in dataset.to_iter_dataset(grain.ReadOptions(min(16, os.cpu_count() or 1), prefetch_buffer_size=16)):
        filled = np.zeros((batch_size, *size, 3), np.uint8)
        filled[: len(batch["labels"])] = batch["images"]
        yield filled, batch["labels"]
