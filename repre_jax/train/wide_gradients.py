"""Gradients of weights as float32 sums where products run in a narrower dtype (config.gradient_reduction).

A layer casts its kernel to its dtype, and so its gradient comes out in it: a sum over a device's images, rounded, which
devices then add up in this dtype, too. `float32_sums` computes the same products with sums in float32: what a device
finds is not rounded, nor what they add up. What layers hand each other stays as it is.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from repre_jax.core.linen import apply
from repre_jax.models.layers import SplitDense

KINDS = ("float32",)  # of config.gradient_reduction, beside None
LAYERS = (nn.Dense, nn.Conv, SplitDense)  # with a dtype; DINO's prototypes are none of them
Params = Any


def float32_sums() -> AbstractContextManager:
    """Inside of it, while a function is traced, layers have gradients of this kind."""
    return nn.intercept_methods(_intercept)


def _intercept(call: Callable, args: tuple, settings: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
    module = context.module
    if type(module) not in LAYERS or context.method_name != "__call__" or module.is_initializing():
        return call(*args, **settings)
    params = module.variables["params"]
    if all(array.dtype == module.dtype for array in jax.tree.leaves(params)):  # in float32, or inside of _layer
        return call(*args, **settings)
    return _layer(module.clone(parent=None, name=None), *args, params)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _layer(module: nn.Module, x: jax.Array, params: Params) -> Any:
    return apply(module, _narrow(module, params), x)


def _forward(module: Any, x: jax.Array, params: Params) -> tuple[Any, tuple[jax.Array, Params]]:
    params = _narrow(module, params)
    return apply(module, params, x), (x, params)


def _backward(module: Any, kept: tuple[jax.Array, Params], gradient: Any) -> tuple[jax.Array, Params]:
    x, params = kept
    _, of_x = jax.vjp(lambda x: apply(module, params, x), x)
    x = x.astype(module.dtype)  # what the product sees
    if isinstance(module, nn.Conv):  # of which JAX has no sum in float32 but of float32 operands
        wide = module.clone(dtype=jnp.float32)
        start = jax.tree.map(lambda array: array.astype(jnp.float32), params)
        _, of_params = jax.vjp(lambda params: apply(wide, params, x), start)
        return *of_x(gradient), *of_params(gradient.astype(jnp.float32))
    found = [_of_product(x, one) for one in (gradient if isinstance(gradient, list) else [gradient])]
    kernels, biases = zip(*found, strict=True)
    parts = {"kernel": kernels, "bias": biases}
    return *of_x(gradient), {name: jnp.concatenate(parts[name], axis=-1) for name in params}


_layer.defvjp(_forward, _backward)


def _of_product(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float32 gradients of kernel and bias of x @ kernel + bias."""
    leading = tuple(range(x.ndim - 1))
    axes = ((leading, leading), ((), ()))
    of_kernel = jax.lax.dot_general(x, gradient, axes, preferred_element_type=jnp.float32)
    return of_kernel, gradient.sum(leading, dtype=jnp.float32)


def _narrow(module: Any, params: Params) -> Params:
    return jax.tree.map(lambda array: array.astype(module.dtype), params)
