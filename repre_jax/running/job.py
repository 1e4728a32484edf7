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
from repre_jax.running.loop import Values
from repre_jax.running.signals import StopRequest

ShouldStop = Callable[[], bool]  # asked before each batch of an evaluation


@dataclass(frozen=True)
class Training:
    """What one task trains.

    batches:  (start_step, on_unreadable) -> batches on the devices from that step on, without an end.
    train_step: (state, batch, *frozen) -> (state, scalars), not jitted.
    fresh():  the state of a new run. state_sharding: a layout for each array of it.
    measure:  (state, should_stop) -> metrics computed after each step in `eval_steps`; empty if interrupted.
    conclude: (state, seconds, should_stop) -> what result.json holds.
    pixels:   'mean' and 'std' per channel that the encoder's input is normalised by.
    prepare:  (stop, should_stop), what must be there before the first batch; raises Stopped after a signal.
    collapse: what would look like one in the log, if the task knows collapses.
    origin:   what the record of this start says besides, as which weights it began with.
    weights:  SHA-256 of those, which a run that goes on must find again; None where it does not need them any more.
    kept:     keys, or groups of them, that must stay as they are once a step was taken, whatever may_change says.
    frozen:   arguments of train_step behind the batch that no step changes, such as a frozen encoder's parameters.
    """

    mesh: Mesh
    dataset: DataSet
    plan: Plan
    batches: Callable[[int, Callable[[int], None]], Iterator[Any]]
    train_step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    fresh: Callable[[], TrainState]
    state_sharding: TrainState
    measure: Callable[[TrainState, ShouldStop], Values]
    eval_steps: frozenset[int]
    conclude: Callable[[TrainState, float, ShouldStop], dict[str, Any]]
    pixels: dict[str, Sequence[float]]
    description: Sequence[Row]
    prepare: Callable[[StopRequest, ShouldStop], None] | None = None
    collapse: Collapse | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    kept: tuple[str, ...] = ()
    frozen: tuple[Any, ...] = ()
