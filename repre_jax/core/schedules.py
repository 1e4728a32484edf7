"""Epochs, fractions and rates per 256 images become steps and rates per step here, and nowhere else.

Everything is a pure function of the step, so a continued run cannot lose its place.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax

from repre_jax.core.errors import UserError
from repre_jax.core.lr_shapes import SHAPES, Schedule, half_cosine
from repre_jax.core.numerics import single

POWER, DECAY_FACTOR = 0.9, 0.1  # what optim.power and optim.decay_factor are unless they are set
OF_SHAPES = {"power": "poly", "decay_epochs": "step", "decay_factor": "step"}  # whose settings these are


@dataclass(frozen=True)
class Plan:
    """The resolved run. Schedules take the number of finished steps.

    microbatch_size: records that a framework's loss sees at once: batch_size, or its share of it (config.accumulate).
    steps_per_epoch: records / batch_size. planned_epoch: steps that an epoch of the config's `epochs` has; the same
    unless total_steps overrides epochs, and what warm-ups and frozen epochs are measured in. floor: what the learning
    rate falls to.
    """

    batch_size: int
    microbatch_size: int
    total_steps: int
    warmup_steps: int
    steps_per_epoch: float
    planned_epoch: float
    peak_lr: float
    lr: Schedule
    weight_decay: Schedule
    momentum: Schedule
    floor: float = 0.0

    @property
    def records(self) -> int:
        """That are trained on."""
        return round(self.steps_per_epoch * self.batch_size)

    @property
    def seen_at_once(self) -> str:
        """What microbatch_size is called in formulas."""
        return "batch" if self.microbatch_size == self.batch_size else "microbatch"


def resolve(
    *,
    records: int,
    batch_size: int,
    epochs: float,
    lr_per_256: float,
    total_steps: int | None = None,
    accumulate: int = 1,
    warmup_epochs: float = 0.0,
    warmup_steps: int | None = None,
    lr_start: float = 0.0,
    lr_end: float = 0.0,
    shape: str = "moco_v3",
    power: float | None = None,
    decay_epochs: Sequence[float] | None = None,
    decay_factor: float | None = None,
    weight_decay: float = 0.0,
    weight_decay_end: float | None = None,
    momentum_start: float = 1.0,
    momentum_end: float = 1.0,
) -> Plan:
    """Plan of a run over `records` training records.

    A step takes batch_size records and epochs flow into each other, so an epoch is records / batch_size steps and
    need not be whole. `total_steps` overrides `epochs`; warm-up then keeps its share of the run. `accumulate` is the
    number of microbatches that a batch is computed in; the learning rate and all else go by the whole batch.

    The learning rate grows linearly with the batch; its course over the run is SHAPES[shape], from lr_start over the
    peak to lr_end. These two are absolute, as DINO's floor is (main_dino.py:234-240), but per 256 images for 'moby'
    (moby_main.py:152-163). `warmup_steps`, instead of warmup_epochs, stays what it is whatever total_steps are. `power`
    is that of 'poly', POWER unless set; 'step' multiplies the rate by `decay_factor`, DECAY_FACTOR unless set, at each
    of `decay_epochs`. Weight decay and the target's momentum go from start to end as a half cosine
    (dino main_dino.py:241-251, moco-v3 main_moco.py:431-434); weight_decay_end None keeps the first.

    Raises UserError for a run without steps, a warm-up as long as the run, an unknown shape or what belongs to another.
    """
    _check_shape(shape, power, decay_epochs, decay_factor, epochs, lr_end)
    _check_warmup(shape, warmup_epochs, warmup_steps, epochs)
    if total_steps is not None and total_steps < 1:
        raise UserError(f"total_steps must be at least 1, got {total_steps}.\n  change:   --config.total_steps=...")
    per_epoch = records / batch_size
    steps = max(1, round(epochs * per_epoch)) if total_steps is None else total_steps
    planned_epoch = per_epoch if total_steps is None else total_steps / epochs
    warmup = round(warmup_epochs * planned_epoch) if warmup_steps is None else warmup_steps
    if warmup_steps is not None and warmup_steps >= steps:
        raise UserError(
            f"optim.warmup_steps must be below the run's {steps:,} steps, got {warmup_steps:,}.\n"
            f"  change:   --config.optim.warmup_steps={steps // 10}"
        )
    peak = lr_per_256 * batch_size / 256
    ends = batch_size / 256 if shape == "moby" else 1.0
    course = SHAPES[shape]
    if shape == "poly":
        course = functools.partial(course, power=POWER if power is None else power)
    elif shape == "step":
        factor = DECAY_FACTOR if decay_factor is None else decay_factor
        course = functools.partial(course, decay_epochs=tuple(decay_epochs or ()), factor=factor)
    return Plan(
        batch_size=batch_size,
        microbatch_size=batch_size // accumulate,
        total_steps=steps,
        warmup_steps=warmup,
        steps_per_epoch=per_epoch,
        planned_epoch=planned_epoch,
        peak_lr=peak,
        lr=course(lr_start * ends, peak, lr_end * ends, warmup, steps, planned_epoch),
        weight_decay=half_cosine(weight_decay, weight_decay if weight_decay_end is None else weight_decay_end, steps),
        momentum=half_cosine(momentum_start, momentum_end, steps),
        floor=lr_end * ends,
    )


def _check_shape(
    shape: str,
    power: float | None,
    decay_epochs: Sequence[float] | None,
    decay_factor: float | None,
    epochs: float,
    lr_end: float,
) -> None:
    """Raises UserError for an unknown shape, settings of another one, or numbers out of range."""
    if shape not in SHAPES:
        raise UserError(f"Unknown optim.schedule {shape!r}.\n  expected: {', '.join(sorted(SHAPES))}")
    given = {"power": power, "decay_epochs": decay_epochs, "decay_factor": decay_factor}
    for key, whose in OF_SHAPES.items():
        if given[key] is not None and shape != whose:
            raise UserError(
                f"optim.{key} is for optim.schedule {whose}, and the schedule is {shape}.\n"
                f"  change:   leave it out, or --config.optim.schedule={whose}"
            )
    if power is not None and not 0 < power < math.inf:
        raise UserError(f"optim.power must be above 0, got {power:g}.\n  change:   --config.optim.power={POWER}")
    if decay_factor is not None and not 0 < decay_factor < 1:
        raise UserError(
            f"optim.decay_factor must lie between 0 and 1, got {decay_factor:g}.\n"
            f"  change:   --config.optim.decay_factor={DECAY_FACTOR}"
        )
    if shape != "step":
        return
    places = (0.0, *(decay_epochs or ()), epochs)
    if len(places) < 3 or not all(one < other for one, other in itertools.pairwise(places)):
        raise UserError(
            f"optim.decay_epochs is {decay_epochs}.\n"
            f"  expected: rising numbers above 0 and below epochs ({epochs:g})\n"
            f"  change:   --config.optim.decay_epochs='({epochs * 2 / 3:g}, {epochs * 8 / 9:g})'"
        )
    if lr_end:
        raise UserError(
            f"optim.schedule step ends where its decays lead, got optim.lr_end {lr_end:g}.\n"
            "  change:   --config.optim.lr_end=0.0"
        )


def _check_warmup(shape: str, warmup_epochs: float, warmup_steps: Any, epochs: float) -> None:
    """Raises UserError for a warm-up as long as the run, of both kinds, or where the schedule has none."""
    if not 0 <= warmup_epochs < epochs:
        raise UserError(
            f"optim.warmup_epochs must be at least 0 and below epochs ({epochs:g}), got {warmup_epochs:g}.\n"
            f"  change:   --config.optim.warmup_epochs={epochs / 10:g}"
        )
    if shape == "simsiam" and warmup_epochs:
        raise UserError(
            f"optim.schedule simsiam has no warm-up, got {warmup_epochs:g} epochs of it.\n"
            "  change:   --config.optim.warmup_epochs=0"
        )
    if warmup_steps is None:
        return
    if isinstance(warmup_steps, bool) or not isinstance(warmup_steps, int) or warmup_steps < 0:
        raise UserError(f"optim.warmup_steps must be a whole number of at least 0, got {warmup_steps!r}.")
    if warmup_epochs:
        raise UserError(
            f"optim.warmup_steps ({warmup_steps:,}) and optim.warmup_epochs ({warmup_epochs:g}) exclude each other.\n"
            "  change:   --config.optim.warmup_epochs=0.0, or leave optim.warmup_steps out"
        )


def linear_by_epoch(start: float, end: float, epochs: float, planned_epoch: float) -> Schedule:
    """DINO's warm-up of the teacher's temperature (main_dino.py:374-378): `epochs` values from start to end, one an
    epoch, both ends among them; then `end`."""
    course = optax.linear_schedule(start, end, max(1, round(epochs) - 1)) if epochs else optax.constant_schedule(end)
    return lambda step: single(course(jnp.floor(step / planned_epoch)))
