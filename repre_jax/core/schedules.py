"""Epochs, fractions and rates per 256 images become steps and rates per step here, and nowhere else.

Everything is a pure function of the step, so a continued run cannot lose its place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import optax

from repre_jax.core.errors import UserError

Schedule = Callable[[jax.Array | int], jax.Array]


@dataclass(frozen=True)
class Plan:
    """The resolved run: `lr` and `momentum` take the number of finished steps."""

    total_steps: int
    warmup_steps: int
    steps_per_epoch: float
    peak_lr: float
    lr: Schedule
    momentum: Schedule


def resolve(
    *,
    records: int,
    batch_size: int,
    epochs: float,
    total_steps: int | None,
    warmup_epochs: float,
    lr_per_256: float,
    momentum_start: float,
) -> Plan:
    """Plan of a run over `records` training records.

    A step takes batch_size records and epochs flow into each other, so an epoch is records / batch_size steps and
    need not be whole. `total_steps` overrides `epochs`; warm-up then keeps its share of the run. The learning rate
    grows linearly with the batch (MoCo v3, main_moco.py:190), rises linearly from 0 and falls as a half cosine to 0
    (main_moco.py:420-428). The target's momentum rises as a half cosine from `momentum_start` to 1
    (main_moco.py:431-434).

    Raises UserError for a run without steps or with a warm-up as long as the run.
    """
    if not 0 <= warmup_epochs < epochs:
        raise UserError(
            f"optim.warmup_epochs must be at least 0 and below epochs ({epochs:g}), got {warmup_epochs:g}.\n"
            f"  change:   --config.optim.warmup_epochs={epochs / 10:g}"
        )
    if total_steps is not None and total_steps < 1:
        raise UserError(f"total_steps must be at least 1, got {total_steps}.\n  change:   --config.total_steps=...")
    per_epoch = records / batch_size
    if total_steps is None:
        steps = max(1, round(epochs * per_epoch))
        warmup_steps = round(warmup_epochs * per_epoch)
    else:
        steps = total_steps
        warmup_steps = round(total_steps * warmup_epochs / epochs)
    peak_lr = lr_per_256 * batch_size / 256
    remaining = optax.cosine_decay_schedule(1 - momentum_start, steps)
    return Plan(
        total_steps=steps,
        warmup_steps=warmup_steps,
        steps_per_epoch=per_epoch,
        peak_lr=peak_lr,
        lr=warmup_cosine(peak_lr, warmup_steps, steps),
        momentum=lambda step: 1 - remaining(step),
    )


def warmup_cosine(peak: float, warmup_steps: int, total_steps: int) -> Schedule:
    """Linear from 0 to `peak` over `warmup_steps`, then a half cosine to 0 at `total_steps`."""
    return optax.warmup_cosine_decay_schedule(
        0.0 if warmup_steps else peak, peak, warmup_steps, max(total_steps, warmup_steps + 1)
    )
