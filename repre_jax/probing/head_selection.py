"""Selects a linear probe's head: the accuracy of each, and the one that held-out images choose."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from repre_jax.core import sharding
from repre_jax.core.errors import UserError
from repre_jax.core.types import TrainState
from repre_jax.evaluation.batches import Batch
from repre_jax.probing import labelled
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.running.loop import Values
from repre_jax.train.probe import Probe

WHOSE = ("trained", "untrained")
Pass = tuple[int, Iterator[Batch]]  # how many records there should be, and their batches


@dataclass(frozen=True)
class Accuracies:
    """test: accuracy of each head on the test images, float [S, G], NaN for a head that has diverged.
    held_out: the same of held-out training images, None where there are none. records: test images that were read."""

    test: np.ndarray
    held_out: np.ndarray | None
    records: int


class HeadSelection:
    """Accuracies of a probe's heads, and the one that is named."""

    def __init__(
        self,
        probe: Probe,
        mesh: Mesh,
        encoders: Sequence[Any],
        test: Callable[[ShouldStop], Pass],
        held_out: Callable[[ShouldStop], Pass] | None,
        max_unreadable: float,
    ):
        """encoders: what turns images into features; none where batches hold features. test, held_out: one pass each,
        over test images, and over training images that choose the head, None to let the protocol's learning rate be.
        max_unreadable: share of the images that may be."""
        self.probe, self.mesh, self.encoders, self.max_unreadable = probe, mesh, encoders, max_unreadable
        self._test, self._held_out = test, held_out
        self._correct = jax.jit(self._count, out_shardings=sharding.replicated(mesh))
        self._last: tuple[int, Accuracies] | None = None

    def evaluate(self, state: TrainState, should_stop: ShouldStop) -> Values:
        """Of the trained encoder's head that the held-out images choose: 'held_out_top1', where there are some, and
        'top1', each 0..1; {} if all have diverged. Raises Interrupted."""
        found = self.accuracies(state, should_stop)
        head = self.chosen(found)[0]
        if head is None:
            return {}
        held_out: Values = {} if found.held_out is None else {"held_out_top1": float(found.held_out[0, head])}
        return held_out | {"top1": float(found.test[0, head])}

    def heads(self, state: TrainState, lr: float, should_stop: ShouldStop) -> dict[str, Any]:
        """Each head's accuracy, None for one that has diverged, and the head that is named. lr: the protocol's learning
        rate. Raises UserError when all heads on the trained encoder have diverged."""
        found, factors = self.accuracies(state, should_stop), self.probe.factors
        chosen = self.chosen(found)
        if chosen[0] is None:
            raise UserError(
                "All heads have diverged: their weights are not finite.\n  change:   --config.optim.lr to a smaller one"
            )
        heads = [
            {
                "encoder": WHOSE[s],
                "factor": factor,
                "lr": lr * factor,
                "held_out_top1": None if found.held_out is None else _number(found.held_out[s, g]),
                "top1": _number(found.test[s, g]),
            }
            for s in range(len(found.test))
            for g, factor in enumerate(factors)
        ]
        untrained = chosen[1] if len(chosen) > 1 else None
        return {
            "top1": float(found.test[0, chosen[0]]),
            "factor": factors[chosen[0]],
            "top1_protocol": _number(found.test[0, factors.index(1.0)]),
            "top1_untrained": None if untrained is None else float(found.test[1, untrained]),
            "test_images": found.records,
            "heads": heads,
        }

    def accuracies(self, state: TrainState, should_stop: ShouldStop) -> Accuracies:
        """Of every head. A state that was just evaluated is not evaluated again. Raises Interrupted."""
        step = int(state.step)
        if self._last is not None and self._last[0] == step:
            return self._last[1]
        finite = np.isfinite(jax.device_get(state.params["kernel"])).all(axis=(2, 3))
        held_out = None
        if self._held_out is not None:
            held_out = np.where(finite, self._accuracy(state, *self._held_out(should_stop))[0], np.nan)
        test, records = self._accuracy(state, *self._test(should_stop))
        found = Accuracies(np.where(finite, test, np.nan), held_out, records)
        self._last = step, found
        return found

    def chosen(self, found: Accuracies) -> list[int | None]:
        """The head of each encoder: the best on held-out images, of equals the nearest to the protocol's; the nearest
        where none are held out. Heads that have diverged are not chosen; None where all have."""
        distance = np.abs(np.log(self.probe.factors))
        heads: list[int | None] = []
        for s, test in enumerate(found.test):
            held_out = np.zeros(len(test)) if found.held_out is None else found.held_out[s]
            best_first = [int(head) for head in np.lexsort((distance, -held_out)) if not np.isnan(test[head])]
            heads.append(best_first[0] if best_first else None)
        return heads

    def _accuracy(self, state: TrainState, records: int, batches: Iterator[Batch]) -> tuple[np.ndarray, int]:
        def count(rows: jax.Array, labels: np.ndarray) -> jax.Array:
            return self._correct(state, rows, labels, *self.encoders)

        return labelled.accuracy(batches, records, self.max_unreadable, self.mesh, count)

    def _count(self, state: TrainState, rows: jax.Array, labels: jax.Array, *encoders: Any) -> jax.Array:
        found = self.probe.encode(encoders, rows) if encoders else rows.swapaxes(0, 1)
        return self.probe.correct(state, found, labels).sum(axis=-1)


def _number(share: float) -> float | None:
    return None if np.isnan(share) else float(share)
