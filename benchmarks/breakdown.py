"""Where a step's time goes: its parts compiled by themselves and taken in turns with the whole.

What XLA fuses across the borders of the parts, and what the parts hand over in memory, makes their sum differ from the
whole: both are given.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from benchmarks import steps


def measure(step: steps.Step, *, turns: int) -> dict[str, float]:
    """Milliseconds by part, medians. The step's state stays."""
    takers = {name: steps.taker(jax.jit(part), *given) for name, (part, given) in _parts(step).items()}
    found = {name: steps.spread(some)["median_ms"] for name, some in steps.in_turns(takers, turns=turns).items()}
    forward, gradients = found.pop("forward"), found.pop("gradients")
    whole = found.pop("whole")
    found |= {"online forward and losses": forward, "their backward": gradients - forward}
    return found | {"sum of parts": sum(found.values()), "whole step": whole}


def _parts(step: steps.Step) -> dict[str, tuple[Callable, tuple[Any, ...]]]:
    """Name -> (function, arguments)."""
    method, state, batch = step.program.method, step.state, step.batch
    bare = dataclasses.replace(method, reconstruction=None)  # the decoder is a part of its own
    pixels = jax.jit(method.augment)(state.rng, state.step, batch)
    target = jax.jit(method.target)(state, pixels)
    grad = jax.jit(jax.grad(method.loss, has_aux=True))
    gradients, (framework_state, metrics) = grad(state.params, state, pixels, target)
    parts: dict[str, tuple[Callable, tuple[Any, ...]]] = {
        "augmentation": (method.augment, (state.rng, state.step, batch)),
        "forward": (lambda *given: bare.loss(*given)[0], (state.params, state, pixels, target)),
        "gradients": (jax.grad(bare.loss, has_aux=True), (state.params, state, pixels, target)),
        "optimiser and moving average": (
            method.update,
            (state, gradients, {"framework_state": framework_state}, metrics),
        ),
        "whole": (method.train_step, (state, batch)),
    }
    if target is not None:
        parts["target forward"] = (method.target, (state, pixels))
    if method.reconstruction is not None:
        encode = jax.jit(lambda params, views: method.encode_views(params, views).pyramid)
        pyramid = encode(state.params["encoder"], pixels.views)
        decode = jax.grad(method.reconstruction.loss, argnums=(0, 1))
        parts["decoder, forward and backward"] = (decode, (state.params, pyramid, pixels.views))
    return parts
