"""Shapes of the learning rate over a run: functions of (start, peak, end, warm-up, total, epoch) -> the rate by step.

start, peak, end: absolute rates; warmup, total: steps; epoch: steps of an epoch. core/schedules.py works these out.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

Schedule = Callable[[jax.Array | int], jax.Array]


def half_cosine(start: float, end: float, steps: int) -> Schedule:
    """From `start` at step 0 to `end` at `steps`."""
    remaining = optax.cosine_decay_schedule(1.0, steps)
    return lambda step: end - (end - start) * remaining(step)


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
    """A half cosine over all steps that changes once an epoch (simsiam main_simsiam.py:359-366; MoCo v2 alike). SimSiam
    has no warm-up; one in steps goes before what is left of the cosine."""
    falling = half_cosine(peak, end, total)
    return _after_warmup(start, peak, warmup, lambda step: falling(jnp.floor(step / epoch) * epoch))


def _poly(start: float, peak: float, end: float, warmup: int, total: int, epoch: float, *, power: float) -> Schedule:
    """A power of the share of the steps after the warm-up that is left, down to the floor `end`."""
    del epoch
    falling = optax.polynomial_schedule(peak, end, power, max(total - warmup, 1), warmup)
    return _after_warmup(start, peak, warmup, falling)


def _step(
    start: float,
    peak: float,
    end: float,
    warmup: int,
    total: int,
    epoch: float,
    *,
    decay_epochs: Sequence[float],
    factor: float,
) -> Schedule:
    """Constant but for a factor at the first step of each of decay_epochs, which count from the run's begin."""
    del end, total
    places = jnp.array([math.ceil(place * epoch) for place in decay_epochs])
    return _after_warmup(start, peak, warmup, lambda step: peak * factor ** (step >= places).sum())


def _after_warmup(start: float, peak: float, warmup: int, falling: Schedule) -> Schedule:
    """Linear from start to peak in `warmup` steps, then `falling`, which sees the run's steps."""
    if not warmup:
        return falling
    rising = optax.linear_schedule(start, peak, warmup)
    return lambda step: jnp.where(step < warmup, rising(step), falling(step))


SHAPES: dict[str, Callable[..., Schedule]] = {
    "moco_v3": _moco_v3,
    "moby": _moby,
    "dino": _dino,
    "simsiam": _simsiam,
    "poly": _poly,
    "step": _step,
}
