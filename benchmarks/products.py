"""Multiply-adds of a function's matrix products and convolutions, counted in what JAX traces: nothing is run."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


def macs(function: Callable, *given: Any) -> int:
    """Of one call. given: arrays, or their shapes. A loop counts as often as it runs, of a condition its dearest
    branch; elementwise work is left out."""
    return _of(jax.make_jaxpr(function)(*given).jaxpr)


def _of(jaxpr: core.Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn) -> int:
    given, results = (
        [getattr(each.aval, "shape", ()) for each in side] for side in (equation.invars, equation.outvars)
    )
    result = math.prod(results[0]) if results else 0
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return result * math.prod(given[0][axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        kernel = given[1]
        return result * math.prod(kernel) // kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    inner = [_of(each) for each in _inner(list(equation.params.values()))]
    if equation.primitive.name == "cond":
        return max(inner)
    return equation.params.get("length", 1) * sum(inner)


def _inner(values: Any) -> list[core.Jaxpr]:
    """The programs among an equation's parameters."""
    found = []
    for value in values:
        if isinstance(value, core.ClosedJaxpr):
            found.append(value.jaxpr)
        elif isinstance(value, core.Jaxpr):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += _inner(value)
    return found
