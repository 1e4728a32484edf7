"""Features of the training and test images, extracted once, and batches of them for the linear probe.

It trains on the same view of an image each time: much faster than the published protocols, and not their figure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from repre_jax.core import sharding
from repre_jax.core.errors import UserError
from repre_jax.data import subset
from repre_jax.data.order import epoch_order
from repre_jax.evaluation import store
from repre_jax.evaluation.batches import Batch, watched
from repre_jax.probing import frozen
from repre_jax.probing.begun_with import Begun
from repre_jax.probing.frozen import FrozenEncoder
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.running.signals import StopRequest


@dataclass(frozen=True)
class Rows:
    """Some records' features under each of S encoders, each [records, F], and their labels, int32 [records]."""

    features: Sequence[np.ndarray]
    labels: np.ndarray
    numbers: np.ndarray  # of the records that count

    def take(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 [places, S, F], int32 [places]."""
        chosen = self.numbers[places]
        return np.stack([features[chosen] for features in self.features], axis=1), self.labels[chosen]


@dataclass
class Cache:
    """train, held_out, test: there after `prepare`. held_out is None unless config.linear.held_out is above 0.

    begun: whether heads were trained on them before this start: then records that could not be read stay left out, or
    the order of the others, and which are held out, would be another. begun_without: their numbers by split, as the
    heads' checkpoint has them; None where it does not say, and the files of the features are asked.
    """

    config: ConfigDict
    jobs: Sequence[FrozenEncoder]  # one for each encoder, on the same data and devices
    folders: Sequence[Path]  # whose 'features' hold each one's
    train: Rows = field(init=False)
    held_out: Rows | None = field(init=False, default=None)
    test: Rows = field(init=False)
    begun: bool = False
    begun_without: Mapping[str, Sequence[int]] | None = None
    _left_out: dict[str, list[int]] = field(init=False, default_factory=dict)

    def prepare(self, stop: StopRequest, should_stop: ShouldStop) -> None:
        """Extracts what is not in the files yet. Raises Stopped after a signal, and UserError where the encoders have
        features of different records, or of others than the heads were begun with."""
        without = self.begun_without or {}
        splits: dict[str, list[store.Split]] = {"train": [], "test": []}
        with frozen.stoppable(stop):
            for job, folder in zip(self.jobs, self.folders, strict=True):
                for split, found in splits.items():
                    known = Begun(without.get(split)) if self.begun else None
                    found.append(frozen.extract(self.config, job, folder, split, should_stop, begun=known))
                    frozen.check_labels(split, found[-1])
        self.fill(**splits)

    def left_out(self) -> dict[str, list[int]]:
        """The numbers of the records that have no features, by split, as far as they are known, after `prepare`."""
        return self._left_out

    def fill(self, train: Sequence[store.Split], test: Sequence[store.Split]) -> None:
        """Takes the features of each encoder, and holds out what is to be held out."""
        self._left_out = {}
        for split, found in (("train", train), ("test", test)):
            if len(found[0].left_out) == found[0].unreadable:  # else earlier versions did not write it down
                self._left_out[split] = list(found[0].left_out)
            if any((each.unreadable, each.left_out) != (found[0].unreadable, found[0].left_out) for each in found):
                raise UserError(
                    f"Some {split} records could be read for one encoder and not for another: their disk fails now and "
                    "then.\n  change:   the same command again, which tries those that have no features"
                )
        self.train, self.test = _rows(train), _rows(test)
        if fraction := self.config.linear.held_out:
            kept, held = subset.held_out_numbers(len(self.train.labels), fraction, self.config.seed)
            self.train, self.held_out = _rows(train, kept), _rows(train, held)

    def batches(self, start_step: int, on_unreadable: Callable[[int], None]) -> Iterator[tuple[jax.Array, jax.Array]]:
        """Endless batches on the devices from that step on, in the order of data/loader.train_batches: features
        [B, S, F], labels [B]."""
        del on_unreadable  # they have no features
        mesh, batch_size, seed = self.jobs[0].mesh, self.config.batch_size, self.config.seed
        records, rows = len(self.train.numbers), batch_size // jax.process_count()
        begin = start_step * batch_size + jax.process_index() * rows
        while True:
            epochs, places = np.divmod(np.arange(begin, begin + rows), records)
            for epoch in np.unique(epochs):
                mine = epochs == epoch
                places[mine] = epoch_order(records, seed, int(epoch))[places[mine]]
            yield sharding.shard_batch(self.train.take(places), mesh)
            begin += batch_size

    def tested(self, should_stop: ShouldStop) -> tuple[int, Iterator[Batch]]:
        """One pass over the test images: see `once`."""
        return self.once(self.test, should_stop)

    def chosen_by(self, should_stop: ShouldStop) -> tuple[int, Iterator[Batch]]:
        """One pass over the held-out training images, of which there must be some: see `once`."""
        if self.held_out is None:
            raise ValueError("No training images are held out.")
        return self.once(self.held_out, should_stop)

    def once(self, rows: Rows, should_stop: ShouldStop) -> tuple[int, Iterator[Batch]]:
        """How many they are, and one pass, shaped as data/loader.test_batches: this process's features [rows, S, F],
        labels of the first n. Raises Interrupted."""
        records = len(rows.numbers)
        return records, watched(self._once(rows), records, self.config.batch_size, "evaluating", should_stop)

    def _once(self, rows: Rows) -> Iterator[Batch]:
        size = self.config.batch_size // jax.process_count()
        for start in range(0, len(rows.numbers), self.config.batch_size):
            begin = start + jax.process_index() * size
            found, labels = rows.take(np.arange(begin, max(begin, min(begin + size, len(rows.numbers)))))
            yield np.pad(found, ((0, size - len(found)), (0, 0), (0, 0))), labels


def _rows(splits: Sequence[store.Split], numbers: np.ndarray | None = None) -> Rows:
    labels = splits[0].labels
    return Rows([split.features for split in splits], labels, np.arange(len(labels)) if numbers is None else numbers)
