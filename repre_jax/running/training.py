"""What a task that trains hands to running/training_task.py."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.sharding import Mesh

from repre_jax.core.schedules import Plan
from repre_jax.core.types import TrainState
from repre_jax.data.sources import DataSet
from repre_jax.frameworks.base import Collapse
from repre_jax.report.console import Row
from repre_jax.running import loop
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.running.signals import StopRequest


@dataclass(frozen=True)
class Training:
    """What one task trains.

    batches:    (start_step, on_unreadable) -> endless batches on the devices from that step on.
    train_step: (state, batch, *frozen) -> (state, scalars to log), not jitted.
    fresh:      gives the state of a new run. state_sharding: a layout for each array of it.
    evaluate:   (state, should_stop) -> metrics computed after each step in `eval_steps`, where 0 is before the first;
                raises Interrupted.
    conclude:   (state, seconds, should_stop) -> what result.json holds.
    pixels:     'mean' and 'std' per channel that the encoder's input is normalised by.
    prepare:    (stop, should_stop) -> None, what must be there before the first batch; raises Stopped after a signal.
    collapse:   the loss of a network that tells nothing apart, for frameworks that can come to it.
    source:     what the record of this start says of the weights that it began with.
    weights:    SHA-256 of those, which a run that goes on must find again; None if it does not need them any more.
    fixed_keys: config keys, or groups of them, that cannot change on resume, even if listed in `may_change`.
    left_out:   gives, once all is prepared, the numbers of the records that have no cached features, by split: what the
                run is trained on, in their order, is the others, and so it must stay when it goes on.
    monitors:   whether the run only measures itself by the test split, and goes on where that has changed.
    frozen:     arguments of train_step behind the batch that no step changes, such as a frozen encoder's parameters.
    """

    mesh: Mesh
    dataset: DataSet
    plan: Plan
    batches: Callable[[int, Callable[[int], None]], Iterator[Any]]
    train_step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    fresh: Callable[[], TrainState]
    state_sharding: TrainState
    evaluate: Callable[[TrainState, ShouldStop], loop.Values]
    eval_steps: frozenset[int]
    conclude: Callable[[TrainState, float, ShouldStop], dict[str, Any]]
    pixels: dict[str, Sequence[float]]
    description: Sequence[Row]
    prepare: Callable[[StopRequest, ShouldStop], None] | None = None
    collapse: Collapse | None = None
    source: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    fixed_keys: tuple[str, ...] = ()
    left_out: Callable[[], dict[str, list[int]]] | None = None
    monitors: bool = False
    frozen: tuple[Any, ...] = ()
