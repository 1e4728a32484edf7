"""What a step does that is not finite: it counts, and moves nothing else."""

import jax
import jax.numpy as jnp

from repre_jax.core.types import TrainState

COUNTERS = ("skipped", "skipped_in_a_row", "first_bad_step")  # of TrainState, logged


def advance(state: TrainState, new: TrainState, finite: jax.Array) -> TrainState:
    """The state after a step: `new`'s params, target, opt_state and extra if `finite`, else those of `state`."""
    names = ("params", "target", "opt_state", "extra")
    kept = {
        name: jax.tree.map(lambda a, b: jnp.where(finite, a, b), getattr(new, name), getattr(state, name))
        for name in names
    }
    bad = (~finite).astype(jnp.int32)
    first_of_row = jnp.logical_and(bad, state.skipped_in_a_row == 0)
    return TrainState(
        step=state.step + 1,
        rng=state.rng,
        skipped=state.skipped + bad,
        skipped_in_a_row=(state.skipped_in_a_row + 1) * bad,
        first_bad_step=jnp.where(first_of_row, state.step + 1, state.first_bad_step),
        **kept,
    )


def counters(state: TrainState) -> dict[str, jax.Array]:
    """For the log."""
    return {name: jnp.float32(getattr(state, name)) for name in COUNTERS}
