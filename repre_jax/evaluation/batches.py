"""Batches for evaluations: one pass over the records, with a progress bar, that a stop request interrupts."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from repre_jax.core.errors import Interrupted, UserError
from repre_jax.core.types import LabelledImages, Records
from repre_jax.data import loader
from repre_jax.data.views import EvalView
from repre_jax.system import runtime, terminal

Item = TypeVar("Item")
Batch = tuple[np.ndarray, np.ndarray]  # this process's rows, of which the first n count; labels or the like, [n]


def never() -> bool:
    """Nobody asks for the end."""
    return False


def eval_batches(
    source: Records,
    view: EvalView,
    batch_size: int,
    what: str,
    should_stop: Callable[[], bool] = never,
    *,
    limit: int | None = None,
    start: int = 0,
    on_unreadable: Callable[[int], None] = lambda number: None,
) -> Iterator[tuple[Any, int]]:
    """This process's (batch, n) of at most `limit` records, as data/loader.test_batches.

    batch_size: over all processes. start: the batch to begin at. on_unreadable: called with the number of each record
    of this process that cannot be read, before the batch without it comes. The rest is that of `watched`, which raises
    Interrupted.
    """
    batches = loader.test_batches(
        source,
        view,
        batch_size=batch_size,
        limit=limit,
        start=start,
        on_unreadable=on_unreadable,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    records = len(source) if limit is None else min(limit, len(source))
    return watched(batches, records, batch_size, what, should_stop, done=min(start * batch_size, records))


def check_readable(records: int, seen: int, largest_share: float) -> None:
    """Raises UserError when more than this share of the records could not be read, or all."""
    if records - seen > math.floor(largest_share * records) or not seen:
        raise UserError(
            f"{records - seen:,} of {records:,} records to evaluate on could not be read.\n"
            "  change:   the data, or --config.data.max_unreadable to a larger share of the records"
        )


def images_and_labels(batches: Iterable[tuple[LabelledImages, int]]) -> Iterator[Batch]:
    """Of eval_batches with a view of labelled images: (uint8 [rows, H, W, C], int32 labels [n], -1 without one)."""
    for batch, count in batches:
        yield np.asarray(batch.images), np.asarray(batch.labels)[:count]


def watched(
    batches: Iterator[Item],
    records: int,
    batch_size: int,
    what: str,
    should_stop: Callable[[], bool] = never,
    *,
    done: int = 0,
) -> Iterator[Item]:
    """The same batches, with a bar that is called `what`.

    should_stop: asked before each batch is given out; the same in every process. Raises Interrupted when it says so.
    """
    with terminal.bar(records, what, done=done, leave=False, shown=runtime.is_main()) as bar:
        for batch in batches:
            if should_stop():
                raise Interrupted(f"{done:,} of {records:,} {what}")
            yield batch
            bar.update(min(batch_size, records - done))
            done = min(done + batch_size, records)
