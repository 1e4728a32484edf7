"""Grain pipelines from records to batches of host arrays: order, workers, and records that cannot be read.

The training stream is a function of (seed, epoch, record) alone: the order of records is f(seed, epoch), the randomness
of a sample f(seed, epoch, record). So there is no iterator state to save, a run continues by starting at its step, and
the same batches come from any number of workers and hosts. What is taken of a record is the view's (data/views.py).
"""

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from absl import flags

from repre_jax.core import passing
from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import crops, shared_memory
from repre_jax.data.order import Order, Shuffled
from repre_jax.data.views import EvalView, Sample, View
from repre_jax.system import end_signals

Batch = dict[str, np.ndarray]  # a view's samples, stacked

NO_RECORD = -1
CROPS = 2  # which of an epoch's random streams it is; data/order.py has the order's
UNREADABLE = "unreadable"  # a sample's key beside the view's
# Signals that end a worker -> why, and what helps.
KILLED: dict[int, tuple[str, str]] = {
    signal.SIGKILL: (
        "most likely the machine ran out of memory",
        "--config.data.workers to a smaller number; each takes 0.2 GB and the batches that it holds",
    ),
    signal.SIGBUS: (
        f"shared memory, {shared_memory.PLACE}, is full, or a file became shorter while it was read",
        "docker run --shm-size=8g, or elsewhere a larger /dev/shm; or --config.data.workers to a smaller number;\n"
        "            0 needs none, and reads by threads of this process",
    ),
}
OTHERWISE = "most likely a library that decodes images failed"


@dataclass(frozen=True)
class _Samples:
    """The samples of one host, by their place in its own stream. A class, because workers pickle it.

    A record that cannot be read is replaced by the next one that the order names; 'unreadable' then holds its number,
    else -1.
    """

    source: Records
    view: View
    order: Order
    seed: int
    batch_size: int
    host: int
    hosts: int

    def __call__(self, index: int, _: object) -> Sample:
        rows = self.batch_size // self.hosts
        step, row = divmod(index, rows)
        epoch, place = divmod(step * self.batch_size + self.host * rows + row, len(self.order))
        unreadable = NO_RECORD
        for offset, number in enumerate(self.order.from_place(self.seed, epoch, place)):
            rng = draws(self.seed, epoch, number)
            try:
                sample = self.view(self.source[number], rng)
            except (crops.UnreadableImage, OSError, MemoryError) as error:  # no whole image, or a file that is gone
                passing.check(error, "A record cannot be read", passing.WORKERS)
                unreadable = number if offset == 0 else unreadable
                continue
            return sample | {UNREADABLE: np.int64(unreadable)}
        raise UserError(f"None of the {len(self.source):,} training records{self.order.alike} is a readable image.")


def draws(seed: int, epoch: int, number: int) -> np.random.Generator:
    """What a view draws from for record `number`: for whoever has to know it before the record is read."""
    return np.random.default_rng((*seed_of_draws(seed, epoch), number))


def seed_of_draws(seed: int, epoch: int) -> tuple[int, ...]:
    """What stands before the number of a record in the seed of its draws."""
    return seed, epoch, CROPS


def train_batches(
    source: Records,
    view: View,
    *,
    seed: int,
    batch_size: int,
    start_step: int,
    workers: int,
    order: Order | None = None,
    on_unreadable: Callable[[int], None] = lambda number: None,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[Any]:
    """Endless batches from step `start_step` on: host h of H gets rows h * B / H ... of each global batch of B.

    A batch is what view.batch makes of the samples' arrays, stacked: [B / H, ...].
    order:         of the records; None: each epoch is a new permutation, and epochs flow into each other without a
                   short batch.
    workers:       processes that decode and crop; 0 uses two threads of this process.
    on_unreadable: called with the number of each record that had to be replaced, each time.

    Raises UserError, at once, when the hosts do not divide the batch or shared memory has no room for the workers'
    batches, and ValueError for an order of batches of another size; later, UserError when a worker was killed or no
    record can be read.
    """
    if batch_size % hosts:
        raise UserError(f"batch_size {batch_size} cannot be split evenly over {hosts} hosts.")
    if order is not None and order.batch_size not in (None, batch_size):
        raise ValueError(f"These records are grouped into batches of {order.batch_size}, not {batch_size}.")
    samples = _Samples(source, view, order or Shuffled(len(source)), seed, batch_size, host, hosts)
    crops.set_up_process()
    if workers:
        rows = batch_size // hosts
        first = samples(start_step * rows, None)
        shared_memory.check(rows * sum(value.nbytes for value in first.values()), workers)
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
    return _told(batches, view, on_unreadable)


def _told(batches: Iterable[Batch], view: View, on_unreadable: Callable[[int], None]) -> Iterator[Any]:
    """The view's batches; the numbers of records that were replaced are told."""
    for batch in _survived(batches):
        for number in batch.pop(UNREADABLE):
            if number != NO_RECORD:
                on_unreadable(int(number))
        yield view.batch(**batch)


def _survived(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same; a worker that a signal killed becomes a message."""
    try:
        yield from batches
    except RuntimeError as error:
        killed = re.search(r"exit code -(\d+)", str(error))
        if killed is None:
            raise
        number = int(killed[1])
        why, change = KILLED.get(number, (OTHERWISE, "--config.data.workers=0, to see where it happens"))
        raise UserError(
            f"A process that reads data was killed (signal {number}): {why}.\n"
            f"  change:   {change}\n"
            "  The same command goes on from the last checkpoint."
        ) from error


def _start_worker(index: int, count: int) -> None:
    del index, count
    crops.set_up_process()
    for number in end_signals.SIGNALS:  # which reach the whole process group: the parent decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers, and they would wait for it for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def test_batches(
    source: Records,
    view: EvalView,
    *,
    batch_size: int,
    limit: int | None = None,
    start: int = 0,
    on_unreadable: Callable[[int], None] = lambda number: None,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[tuple[Any, int]]:
    """One pass over at most `limit` records, evenly spaced: (what view.batch makes of `rows` samples, stacked; n).

    Each host gets its rows = batch_size / hosts of every batch, as in training, and as many batches as the others. Only
    the first n rows are records; the rest is view.filler, so that shapes never change. Records that cannot be read are
    left out, and on_unreadable is called with the number of each before the batch that lacks it. The pass begins at
    batch `start`. What a view draws is f(record).
    """
    rows = batch_size // hosts
    chosen = numbers(len(source), limit)
    count = len(chosen)
    places = np.arange(start * batch_size, count)
    mine = chosen[places[places // rows % hosts == host]]

    def sample_of(number: int) -> tuple[Sample | None, int]:
        """In a tuple, since Grain leaves None out."""
        return test_sample(source, view, number), number

    crops.set_up_process()
    read: Iterator = iter(())
    if len(mine):
        dataset = grain.MapDataset.source(mine.tolist()).map(sample_of).batch(rows, batch_fn=list)
        read = iter(dataset.to_iter_dataset(grain.ReadOptions(min(16, os.cpu_count() or 1), prefetch_buffer_size=16)))
    for _ in range(start * batch_size, count, batch_size):
        # None is left where the last batch ends with another host's rows.
        found = next(read, ())
        samples = [sample for sample, _ in found if sample is not None]
        for number in (number for sample, number in found if sample is None):
            on_unreadable(number)
        filled = samples + [view.filler] * (rows - len(samples))
        yield view.batch(**{name: np.stack([sample[name] for sample in filled]) for name in view.filler}), len(samples)


def test_sample(source: Records, view: EvalView, number: int) -> Sample | None:
    """What a view takes of a record, None where it cannot be read."""
    try:
        return view(source[number], np.random.default_rng(number))
    except (crops.UnreadableImage, OSError, MemoryError) as error:
        passing.check(error, "A record cannot be read", passing.WORKERS)
        return None


def numbers(records: int, limit: int | None) -> np.ndarray:
    """Of at most `limit` of so many records, evenly spaced over them, rising: a stored order may be sorted by class."""
    return np.linspace(0, records - 1, records if limit is None else min(limit, records)).astype(int)
