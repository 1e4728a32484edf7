"""What a function computes, counted in what JAX traces: nothing is run."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

Count = Callable[[core.JaxprEqn], int]

# What moves numbers or describes them and computes none. Of all others each result counts as one operation.
MOVING = {
    *("broadcast_in_dim", "concatenate", "convert_element_type", "copy", "dynamic_slice", "dynamic_update_slice"),
    *("gather", "iota", "optimization_barrier", "pad", "reshape", "rev", "slice", "split", "squeeze", "stop_gradient"),
    *("transpose", "bitcast_convert_type", "random_bits", "random_unwrap", "random_wrap", "random_seed", "scatter"),
}
SORTING = {"sort", "top_k"}


def macs(function: Callable, *given: Any) -> int:
    """Multiply-adds of one call's matrix products and convolutions. given: arrays, or their shapes. A loop counts as
    often as it runs, of a condition its dearest branch; elementwise work is left out."""
    return _of(jax.make_jaxpr(function)(*given).jaxpr, _product, 1)


def flops(function: Callable, *given: Any, rounds: int = 1) -> int:
    """All of one call: two for a multiply-add, one for each number that anything else computes or sums, n log n to sort
    n. rounds: how often a loop is taken to run whose end depends on values."""
    jaxpr = jax.make_jaxpr(function)(*given).jaxpr
    return 2 * _of(jaxpr, _product, rounds) + _of(jaxpr, _others, rounds)


def _of(jaxpr: core.Jaxpr, count: Count, rounds: int) -> int:
    return sum(_of_equation(equation, count, rounds) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn, count: Count, rounds: int) -> int:
    programs = _inner(list(equation.params.values()))
    name = equation.primitive.name
    if not programs or name.startswith(("scatter", "reduce")):  # these have a function of two numbers
        return count(equation)
    inner = [_of(each, count, rounds) for each in programs]
    if name == "cond":
        return max(inner)
    return equation.params.get("length", rounds if name == "while" else 1) * sum(inner)


def _shapes(variables: Any) -> list[tuple[int, ...]]:
    return [getattr(each.aval, "shape", ()) for each in variables]


def _product(equation: core.JaxprEqn) -> int:
    given, results = _shapes(equation.invars), _shapes(equation.outvars)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return math.prod(results[0]) * math.prod(given[0][axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        kernel = given[1]
        return math.prod(results[0]) * math.prod(kernel) // kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 0


def _others(equation: core.JaxprEqn) -> int:
    name = equation.primitive.name
    if name in MOVING or name in ("dot_general", "conv_general_dilated"):
        return 0
    largest = max(map(math.prod, _shapes(equation.outvars)), default=0)
    if name.startswith(("reduce", "arg", "cum")):
        return math.prod(_shapes(equation.invars)[0])
    if name.startswith("scatter"):
        return math.prod(_shapes(equation.invars)[2])
    if name in SORTING:
        size = math.prod(_shapes(equation.invars)[0])
        return size * max(1, math.ceil(math.log2(max(2, _shapes(equation.invars)[0][-1]))))
    return largest


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
