"""Applies Linen modules, whose own `apply` may also return changed collections: none of ours changes any here."""

from typing import Any

from flax import linen as nn


def apply(module: nn.Module, params: Any, *inputs: Any, **settings: Any) -> Any:
    """The module's output for these parameters. settings: keyword arguments of its call, and `rngs`."""
    return module.apply({"params": params}, *inputs, **settings)
