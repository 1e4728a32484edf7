"""Epochs, fractions and rates per 256 images become steps and rates per step here, and nowhere else.

Everything is a pure function of the step, so a continued run cannot lose its place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from repre_jax.core.errors import UserError

Schedule = Callable[[jax.Array | int], jax.Array]


@dataclass(frozen=True)
class Plan:
    """The resolved run. Schedules take the number of finished steps.

    microbatch_size: records that a framework's loss sees at once: batch_size, or its share of it (config.accumulate).
    steps_per_epoch: records / batch_size. planned_epoch: steps that an epoch of the config's `epochs` has; the same
    unless total_steps overrides epochs, and what warm-ups and frozen epochs are measured in.
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

    @property
    def seen_at_once(self) -> str:
        """What microbatch_size is called in formulas."""
        return "batch" if self.microbatch_size == self.batch_size else "part"


def resolve(
    *,
    records: int,
    batch_size: int,
    epochs: float,
    lr_per_256: float,
    total_steps: int | None = None,
    accumulate: int = 1,
    warmup_epochs: float = 0.0,
    lr_start: float = 0.0,
    lr_end: float = 0.0,
    shape: str = "moco_v3",
    weight_decay: float = 0.0,
    weight_decay_end: float | None = None,
    momentum_start: float = 1.0,
    momentum_end: float = 1.0,
) -> Plan:
    """Plan of a run over `records` training records.

    A step takes batch_size records and epochs flow into each other, so an epoch is records / batch_size steps and
    need not be whole. `total_steps` overrides `epochs`; warm-up then keeps its share of the run. `accumulate` is the
    number of parts that a batch is computed in; the learning rate and all else go by the whole batch.

    The learning rate grows linearly with the batch; its course over the run is SHAPES[shape], from lr_start over the
    peak to lr_end. These two are absolute, as DINO's floor is (main_dino.py:234-240), but per 256 images for 'moby'
    (moby_main.py:152-163). Weight decay and the target's momentum go from start to end as a half cosine
    (dino main_dino.py:241-251, moco-v3 main_moco.py:431-434); weight_decay_end None keeps the first.

    Raises UserError for a run without steps, a warm-up as long as the run or an unknown shape.
    """
    if shape not in SHAPES:
        raise UserError(f"Unknown optim.schedule {shape!r}.\n  expected: {', '.join(sorted(SHAPES))}")
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
    if total_steps is not None and total_steps < 1:
        raise UserError(f"total_steps must be at least 1, got {total_steps}.\n  change:   --config.total_steps=...")
    per_epoch = records / batch_size
    steps = max(1, round(epochs * per_epoch)) if total_steps is None else total_steps
    planned_epoch = per_epoch if total_steps is None else total_steps / epochs
    warmup_steps = round(warmup_epochs * planned_epoch)
    peak = lr_per_256 * batch_size / 256
    ends = batch_size / 256 if shape == "moby" else 1.0
    return Plan(
        batch_size=batch_size,
        microbatch_size=batch_size // accumulate,
        total_steps=steps,
        warmup_steps=warmup_steps,
        steps_per_epoch=per_epoch,
        planned_epoch=planned_epoch,
        peak_lr=peak,
        lr=SHAPES[shape](lr_start * ends, peak, lr_end * ends, warmup_steps, steps, planned_epoch),
        weight_decay=half_cosine(weight_decay, weight_decay if weight_decay_end is None else weight_decay_end, steps),
        momentum=half_cosine(momentum_start, momentum_end, steps),
    )


def half_cosine(start: float, end: float, steps: int) -> Schedule:
    """From `start` at step 0 to `end` at `steps`."""
    remaining = optax.cosine_decay_schedule(1.0, steps)
    return lambda step: end - (end - start) * remaining(step)


def linear_by_epoch(start: float, end: float, epochs: float, planned_epoch: float) -> Schedule:
    """DINO's warm-up of the teacher's temperature (main_dino.py:374-378): `epochs` values from start to end, one an
    epoch, both ends among them; then `end`."""
    course = optax.linear_schedule(start, end, max(1, round(epochs) - 1)) if epochs else optax.constant_schedule(end)
    return lambda step: course(jnp.floor(step / planned_epoch))


def _moco_v3(start: float, peak: float, end: float, warmup: int, total: int, epoch: float) -> Schedule:
    """Linear over the warm-up, then a half cosine over the rest (moco-v3 main_moco.py:420-428)."""
    del epoch
    total = max(total, warmup + 1)
    return optax.warmup_cosine_decay_schedule(start if warmup else peak, peak, warmup, total, end)


def _moby(start: float, peak: float, end: float, warmup: int, total: int, epoch: float) -> Schedule:
    """The half cosine runs over all steps, so that the rate jumps down a little when the warm-up ends
    (MoBY lr_scheduler.py:21-28)."""
    del epoch
    rising, falling = optax.linear_schedule(start, peak, max(warmup, 1)), half_cosine(peak, end, total)
    return lambda step: jnp.where(step < warmup, rising(step), falling(step))


def _dino(start: float, peak: float, end: float, warmup: int, total: int, epoch: float) -> Schedule:
    """The peak is reached by the warm-up's last step, and held for one more (dino utils.py:187-198)."""
    del epoch
    rising = optax.linear_schedule(start, peak, max(warmup - 1, 1))
    return optax.join_schedules([rising, half_cosine(peak, end, max(total - warmup, 1))], [warmup])


def _simsiam(start: float, peak: float, end: float, warmup: int, total: int, epoch: float) -> Schedule:
    """A half cosine that changes once an epoch, without warm-up (simsiam main_simsiam.py:359-366; MoCo v2 alike)."""
    del start, warmup
    falling = half_cosine(peak, end, total)
    return lambda step: falling(jnp.floor(step / epoch) * epoch)


SHAPES = {"moco_v3": _moco_v3, "moby": _moby, "dino": _dino, "simsiam": _simsiam}
