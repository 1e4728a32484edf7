"""The update that ends every training step: gradients -> optimiser -> parameters, target and counters.

A step with a non-finite loss, gradient or update is skipped on the device: only `step` and the skip counters advance.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from repre_jax.core import optim
from repre_jax.core.types import TrainState
from repre_jax.train import joined
from repre_jax.train.microbatches import Carried, Metrics

COUNTERS = ("skipped", "skipped_in_a_row", "first_bad_step")  # of TrainState, logged
MOVED = ("params", "target", "opt_state", "framework_state", "batch_stats")  # what a skipped step leaves alone


def update(
    state: TrainState,
    gradients: Any,
    carried: Carried,
    metrics: Metrics,
    *,
    optimizer: optax.GradientTransformation,
    rules: Sequence[optim.Rule] = (),
    momentum: jax.Array | float = 1.0,
    in_groups: bool = False,
) -> tuple[TrainState, Metrics]:
    """The next state, and `metrics` with gradient_norm and the counters of skipped steps.

    gradients: like state.params; those of frozen tensors (lr_scale 0 in `rules`) count as zero.
    carried: fields of the state that the forward pass has moved. metrics: 'loss' among them.
    optimizer: any optax transformation; gets at_step=<finished steps>, which others than core/optim.py's ignore.
    momentum: of the moving average, where the state has a target; 1 leaves it as it is.
    in_groups: the same in few kernels (train/joined.py), for an optimiser that treats each number by itself.
    """
    if in_groups:
        groups = joined.groups_of(state.params, rules, apart=tuple(state.target))
        together, gradients = joined.join(state, gradients, groups)
        how = {"optimizer": optimizer, "rules": rules, "momentum": momentum}
        new_state, metrics = update(together, gradients, carried, metrics, **how)
        return joined.part(new_state, state, groups), metrics
    gradients = optim.zero_frozen(gradients, rules)
    optimizer = optax.with_extra_args_support(optimizer)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, at_step=state.step)
    moved = {"params": optax.apply_updates(state.params, updates), "opt_state": opt_state, **carried}
    if state.target:
        online = {name: moved["params"][name] for name in state.target}
        moved["target"] = optax.incremental_update(online, state.target, 1 - momentum)
    metrics = metrics | {"gradient_norm": optax.tree.norm(gradients)}
    finite = jnp.isfinite(jnp.stack([metrics["loss"], metrics["gradient_norm"], optax.tree.norm(updates)])).all()
    new_state = advance(state, moved, finite)
    return new_state, metrics | counters(new_state)


def counters(state: TrainState) -> Metrics:
    """Those of skipped steps, as they are logged."""
    return {name: jnp.float32(getattr(state, name)) for name in COUNTERS}


def advance(state: TrainState, moved: dict[str, Any], finite: jax.Array) -> TrainState:
    """The state after a step: with the fields in `moved` if `finite`, else with its own; counters always count."""
    bad = (~finite).astype(jnp.int32)
    first_of_row = jnp.logical_and(bad, state.skipped_in_a_row == 0)
    fields = {
        name: jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved[name], getattr(state, name))
        if name in moved
        else getattr(state, name)
        for name in MOVED
    }
    return TrainState(
        step=state.step + 1,
        rng=state.rng,
        skipped=state.skipped + bad,
        skipped_in_a_row=(state.skipped_in_a_row + 1) * bad,
        first_bad_step=jnp.where(first_of_row, state.step + 1, state.first_bad_step),
        **fields,
    )
