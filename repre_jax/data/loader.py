"""Grain pipelines from records to batches of host arrays.

The training stream is a function of (seed, epoch, record) alone: the order of records is f(seed, epoch), a crop's
randomness f(seed, epoch, record). So there is no iterator state to save, a run continues by starting at its step, and
the same batches come from any number of workers and hosts.
"""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import grain
import numpy as np
from absl import flags

from repre_jax.core.errors import UserError
from repre_jax.core.types import Views
from repre_jax.data import crops
from repre_jax.data.randaugment import RandAugment

NO_LABEL = NO_RECORD = -1
ORDER, CROPS = 1, 2  # what an epoch draws, each from a stream of its own


@dataclass(frozen=True)
class TrainView:
    """Image uint8 [h, w, C] -> {'images': uint8 [V, H, W, C]}, with local views 'local', uint8 [L, h, w, C], too.

    randaugment: what happens to each crop after it was cut, for 3 channels; the crops are the same with and without it.
                 timm flips before RandAugment, we after it, on the device. That gives the same distribution, since the
                 signs of what knows left from right are drawn evenly, but for ShearY: timm always keeps the left edge
                 in its place, we the left or the right one.
    """

    seed: int
    views: crops.RandomCrops
    local: crops.RandomCrops | None = None
    channels: int = 3
    randaugment: RandAugment | None = None

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        sample = {"images": self.views(image, rng)}
        if self.local is not None:
            sample["local"] = self.local(image, rng)
        if self.randaugment is not None:
            for cut in sample.values():
                for number in range(len(cut)):
                    cut[number] = self.randaugment(cut[number], rng)
        return sample


@functools.lru_cache(maxsize=2)
def epoch_order(records: int, seed: int, epoch: int) -> np.ndarray:
    """The numbers of all records, int64 [records], in the order of this epoch."""
    return np.random.default_rng((seed, epoch, ORDER)).permutation(records)


@dataclass(frozen=True)
class _Samples:
    """The samples of one host, by their place in its own stream. A class, because workers pickle it.

    A record that cannot be read is replaced by the next one of the epoch's order that can; 'unreadable' then holds its
    number, else -1.
    """

    source: Sequence[Mapping]
    view: TrainView
    batch_size: int
    host: int
    hosts: int

    def __call__(self, index: int, _: object) -> dict[str, np.ndarray]:
        rows = self.batch_size // self.hosts
        step, row = divmod(index, rows)
        epoch, place = divmod(step * self.batch_size + self.host * rows + row, len(self.source))
        order = epoch_order(len(self.source), self.view.seed, epoch)
        unreadable = NO_RECORD
        for offset in range(len(order)):
            number = int(order[(place + offset) % len(order)])
            try:
                record = self.source[number]
                image = crops.decode(record["image"], self.view.channels)
            except (crops.UnreadableImage, OSError):  # no whole image, or a file that is gone
                unreadable = number if offset == 0 else unreadable
                continue
            sample = self.view(image, np.random.default_rng((self.view.seed, epoch, CROPS, number)))
            return sample | {"labels": label_of(record), "unreadable": np.int64(unreadable)}
        raise UserError(f"None of the {len(self.source):,} training records is a readable image.")


def label_of(record: Mapping) -> np.int32:
    """Its class; -1 without one, or where 'label' is something else, such as a text."""
    label = record.get("label", NO_LABEL)
    return np.int32(label if isinstance(label, int | np.integer) else NO_LABEL)


def train_batches(
    source: Sequence[Mapping],
    view: TrainView,
    *,
    batch_size: int,
    start_step: int,
    workers: int,
    on_unreadable: Callable[[int], None] = lambda number: None,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[Views]:
    """Endless batches from step `start_step` on: host h of H gets rows h * B / H ... of each global batch of B.

    Each epoch is a new permutation, and epochs flow into each other without a short batch.
    workers:       processes that decode and crop; 0 uses two threads of this process.
    on_unreadable: called with the number of each record that had to be replaced, each time.

    Raises UserError when a worker was killed, no record can be read or the hosts do not divide the batch.
    """
    if batch_size % hosts:
        raise UserError(f"batch_size {batch_size} cannot be split evenly over {hosts} hosts.")
    samples = _Samples(source, view, batch_size, host, hosts)
    dataset = (
        grain.MapDataset.range(1)
        .repeat()
        .map_with_index(samples)
        .batch(batch_size // hosts, drop_remainder=True)[start_step:]
    )
    threads = grain.ReadOptions(num_threads=1 if workers else 2, prefetch_buffer_size=2)
    batches = dataset.to_iter_dataset(threads)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags, which a plain script never parses
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_start_worker)
    crops.set_up_process()
    for batch in _survived(batches):
        for number in batch.pop("unreadable"):
            if number != NO_RECORD:
                on_unreadable(int(number))
        yield Views(**batch)


def _survived(batches: Iterator) -> Iterator:
    """The same; a worker that the kernel killed becomes a message."""
    try:
        yield from batches
    except RuntimeError as error:
        if "exit code -9" not in str(error):
            raise
        raise UserError(
            "A process that reads data was killed (signal 9): most likely the machine ran out of memory.\n"
            "  change:   --config.data.workers to a smaller number; each takes 0.2 GB and the batches that it holds\n"
            "  The same command goes on from the last checkpoint."
        ) from error


def _start_worker(index: int, count: int) -> None:
    del index, count
    crops.set_up_process()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C and schedulers reach the whole process group; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers, and they would wait for it for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def test_batches(
    source: Sequence[Mapping],
    *,
    size: Sequence[int],
    fraction: float,
    batch_size: int,
    channels: int = 3,
    interpolation: str = "bilinear",
    limit: int | None = None,
    start: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One pass over at most `limit` records, evenly spaced: (uint8 [rows, H, W, C], int32 labels [n]).

    Each host gets its rows = batch_size / hosts of every batch, as in training, and as many batches as the others. Only
    the first n rows are records; the rest is black, so that shapes never change. Records that cannot be read are left
    out. Labels are -1 where there are none. The pass begins at batch `start`.
    """
    rows = batch_size // hosts
    count = len(source) if limit is None else min(limit, len(source))
    chosen = np.linspace(0, len(source) - 1, count).astype(int)  # a stored order may be sorted by class
    places = np.arange(start * batch_size, count)
    mine = chosen[places[places // rows % hosts == host]]

    def view(number: int) -> dict[str, np.ndarray]:
        try:
            record = source[number]
            image = crops.decode(record["image"], channels)
        except (crops.UnreadableImage, OSError):
            black = np.zeros((*size, channels), np.uint8)
            return {"images": black, "labels": np.int32(NO_LABEL), "readable": np.bool_(False)}
        view = crops.center_crop(image, size=size, fraction=fraction, interpolation=interpolation)
        return {"images": view, "labels": label_of(record), "readable": np.bool_(True)}

    crops.set_up_process()
    read: Iterator = iter(())
    if len(mine):
        dataset = grain.MapDataset.source(mine.tolist()).map(view).batch(rows)
        read = iter(dataset.to_iter_dataset(grain.ReadOptions(min(16, os.cpu_count() or 1), prefetch_buffer_size=16)))
    for _ in range(start * batch_size, count, batch_size):
        filled, labels = np.zeros((rows, *size, channels), np.uint8), np.zeros(0, np.int32)
        if (batch := next(read, None)) is not None:  # else the last batch ends with another host's rows
            labels = batch["labels"][batch["readable"]]
            filled[: len(labels)] = batch["images"][batch["readable"]]
        yield filled, labels
