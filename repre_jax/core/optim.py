"""The optimiser, with exceptions by parameter path instead of by code."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from repre_jax.core.errors import UserError
from repre_jax.core.schedules import Schedule

PROPERTIES = ("lr_scale", "weight_decay")

# (regular expression searched for in paths such as 'encoder/patch_embed/kernel', property, value).
# lr_scale multiplies the learning rate, 0 freezes; weight_decay replaces the default. The last match wins.
Rule = tuple[str, str, float]


def adamw(
    lr: Schedule, *, b1: float, b2: float, eps: float, weight_decay: float, rules: Sequence[Rule] = ()
) -> optax.GradientTransformation:
    """AdamW (decoupled decay, as torch.optim.AdamW) with `rules`.

    Every tensor decays by `weight_decay` unless a rule says otherwise: MoCo v3 decays biases, norms and the class
    token too (main_moco.py:229-230).
    """

    def decay_and_scale(updates: Any, params: Any) -> Any:
        decay = values_by_path(params, rules, "weight_decay", weight_decay)
        scale = values_by_path(params, rules, "lr_scale", 1.0)
        return jax.tree.map(lambda update, p, d, s: (update + d * p) * s, updates, params, decay, scale)

    return optax.chain(
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.stateless(decay_and_scale),
        optax.scale_by_learning_rate(lr),
    )


def values_by_path(params: Any, rules: Sequence[Rule], name: str, default: float) -> Any:
    """A tree like `params` holding, for each leaf, the value of property `name` after `rules`."""

    def value(path: tuple, _: Any) -> float:
        matching = [v for pattern, prop, v in rules if prop == name and re.search(pattern, _joined(path))]
        return matching[-1] if matching else default

    return jax.tree_util.tree_map_with_path(value, params)


def zero_frozen(grads: Any, rules: Sequence[Rule]) -> Any:
    """Gradients with those of frozen tensors (lr_scale 0) set to zero, so that norms and moments ignore them."""
    scale = values_by_path(grads, rules, "lr_scale", 1.0)
    return jax.tree.map(lambda grad, factor: jnp.zeros_like(grad) if factor == 0 else grad, grads, scale)


def check_rules(params: Any, rules: Sequence[Rule]) -> None:
    """Raises UserError for an unknown property, a broken pattern or a pattern that no parameter matches."""
    paths = [_joined(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for rule in rules:
        if not _is_rule(rule):
            raise UserError(f"optim.rules: expected (path pattern, {' or '.join(PROPERTIES)}, value), got {rule!r}.")
        try:
            found = any(re.search(rule[0], path) for path in paths)
        except re.error as error:
            raise UserError(f"optim.rules: {rule[0]!r} is not a regular expression: {error}.") from None
        if not found:
            raise UserError(
                f"optim.rules: no parameter's path matches {rule[0]!r}.\n"
                f"  expected: a pattern that is found in paths such as {paths[0]!r}"
            )


def _is_rule(rule: Any) -> bool:
    fits = isinstance(rule, tuple | list) and len(rule) == 3 and isinstance(rule[0], str)
    return fits and rule[1] in PROPERTIES and isinstance(rule[2], int | float)


def _joined(path: tuple) -> str:
    return "/".join(str(key.key) for key in path)
