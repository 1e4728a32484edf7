"""Optimisers put together from optax, with exceptions by parameter path instead of by code.

Rates and decays are functions of the run's step, which `update` takes as at_step, and not of the updates that an
optimiser has counted: a skipped step leaves an optimiser's state alone, yet the schedules go on.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from repre_jax.core.errors import UserError
from repre_jax.core.numerics import single
from repre_jax.core.schedules import Plan, Schedule

# What a rule can set, and what holds without one.
PROPERTIES = {
    "lr_scale": 1.0,  # multiplies the learning rate; 0 freezes
    "constant_lr": 0.0,  # 1: the peak rate throughout
    "peak_scale": 1.0,  # multiplies the peak rate, and not the floor that it falls to, optim.lr_end
    "frozen_epochs": 0.0,  # no update, no decay and no moments before
    "weight_decay": None,  # replaces the schedule, which holds otherwise
    "trust_ratio": 1.0,  # 0: not scaled by LARS
    "clip": 1.0,  # 0: neither clipped nor counted in the norm
}

BY_NUMBER = ("adamw", "sgd")  # they treat each number by itself, whatever tensor it is of

# (regular expression searched for in paths such as 'encoder/patch_embed/kernel', property, value); the last match wins.
Rule = tuple[str, str, float]


def build(
    name: str,
    plan: Plan,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    momentum: float = 0.9,
    nesterov: bool = False,
    trust_coefficient: float = 1e-3,
    clip_norm: float | None = None,
    clip_each: bool = False,
    rules: Sequence[Rule] = (),
) -> optax.GradientTransformationExtraArgs:
    """The optimiser `name` with the plan's rate and decay, to be updated with at_step=<finished steps>.

    adamw: decoupled decay, as torch.optim.AdamW, of every tensor: MoCo v3 decays biases, norms and the class token too
           (main_moco.py:229-230).
    sgd:   decay joins the gradient, then momentum, as torch.optim.SGD (simsiam main_simsiam.py:193-201).
    lars:  decay, trust ratio, momentum, rate, in this order; neither decay nor trust ratio for tensors of fewer than
           two axes (moco-v3 optimizer.py:18-43). optax.lars has the rate inside the momentum, as Google's SimCLR.

    nesterov: of sgd, as MoBY's probe has it (optimizer.py:26).
    clip_norm: the largest norm of all gradients together (MoBY), or with clip_each of each tensor's (DINO).
    Frozen epochs give their tensors an optimiser state of their own, which does not advance meanwhile, as PyTorch
    counts Adam's steps per parameter (dino utils.py:144-149).

    Raises UserError for an unknown name, clip_each without clip_norm and rules of another form.
    """
    _check_form(rules)
    kinds: dict[str, Callable[[], optax.GradientTransformation]] = {
        "adamw": lambda: optax.chain(
            optax.scale_by_adam(b1=b1, b2=b2, eps=eps), _decay(plan.weight_decay, rules, smallest_axes=0)
        ),
        "sgd": lambda: optax.chain(_decay(plan.weight_decay, rules, smallest_axes=0), optax.trace(momentum, nesterov)),
        "lars": lambda: optax.chain(
            _decay(plan.weight_decay, rules, smallest_axes=2),
            optax.masked(
                optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient),
                lambda params: _scaled_by_trust(params, rules),
            ),
            optax.trace(momentum),
        ),
    }
    if name not in kinds:
        raise UserError(f"Unknown optimiser {name!r}.\n  expected: {', '.join(sorted(kinds))}")
    if clip_each and clip_norm is None:
        raise UserError("optim.clip_each needs a norm to clip to.\n  change:   --config.optim.clip_norm=3.0")
    updates = optax.chain(kinds[name](), _learning_rate(plan, rules))
    parts = [_thaw(updates, plan, rules)]
    if clip_norm is not None:
        clip = _clip_each(clip_norm) if clip_each else optax.clip_by_global_norm(clip_norm)
        parts.insert(0, optax.masked(clip, lambda params: jax.tree.map(bool, values_by_path(params, rules, "clip"))))
    return optax.chain(*parts)


def values_by_path(
    params: Any, rules: Sequence[Rule], name: str, default: Callable[[jax.Array], Any] | None = None
) -> Any:
    """A tree like `params` holding, for each leaf, the value of property `name` after `rules`.

    Without a rule it is default(leaf), or PROPERTIES' value.
    """

    def value(path: tuple, leaf: jax.Array) -> Any:
        matching = [v for pattern, prop, v in rules if prop == name and re.search(pattern, joined_path(path))]
        return matching[-1] if matching else default(leaf) if default else PROPERTIES[name]

    return jax.tree_util.tree_map_with_path(value, params)


def zero_frozen(grads: Any, rules: Sequence[Rule]) -> Any:
    """Gradients with those of frozen tensors (lr_scale 0) set to zero, so that norms and moments ignore them."""
    scale = values_by_path(grads, rules, "lr_scale")
    return jax.tree.map(lambda grad, factor: jnp.zeros_like(grad) if factor == 0 else grad, grads, scale)


def check_rules(params: Any, rules: Sequence[Rule]) -> None:
    """Raises UserError for a rule of another form or a pattern that no parameter matches."""
    _check_form(rules)
    paths = [joined_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern, _, _ in rules:
        if not any(re.search(pattern, path) for path in paths):
            raise UserError(
                f"optim.rules: no parameter's path matches {pattern!r}.\n"
                f"  expected: a pattern that is found in paths such as {paths[0]!r}"
            )


def _check_form(rules: Sequence[Rule]) -> None:
    for rule in rules:
        fits = isinstance(rule, tuple | list) and len(rule) == 3 and isinstance(rule[0], str)
        if not fits or rule[1] not in PROPERTIES or not isinstance(rule[2], int | float) or not rule[2] >= 0:
            raise UserError(
                f"optim.rules: {rule!r} is no rule.\n"
                f"  expected: (path pattern, {' or '.join(PROPERTIES)}, a number of at least 0)"
            )
        try:
            re.compile(rule[0])
        except re.error as error:
            raise UserError(f"optim.rules: {rule[0]!r} is not a regular expression: {error}.") from None


def _at_step(function: Callable[[Any, Any, jax.Array], Any]) -> optax.GradientTransformationExtraArgs:
    """(updates, params, finished steps) -> updates as an optax transformation without state."""

    def update(updates: Any, state: Any, params: Any = None, *, at_step: jax.Array, **_: Any) -> tuple[Any, Any]:
        return function(updates, params, at_step), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def _decay(schedule: Schedule, rules: Sequence[Rule], *, smallest_axes: int) -> optax.GradientTransformationExtraArgs:
    """Adds decay * parameter; without a rule, tensors of fewer than `smallest_axes` axes do not decay."""

    def add(updates: Any, params: Any, step: jax.Array) -> Any:
        now = single(schedule(step))
        decay = values_by_path(params, rules, "weight_decay", lambda leaf: now if leaf.ndim >= smallest_axes else 0.0)
        return jax.tree.map(lambda update, param, amount: update + amount * param, updates, params, decay)

    return _at_step(add)


def _learning_rate(plan: Plan, rules: Sequence[Rule]) -> optax.GradientTransformationExtraArgs:
    """Multiplies by minus the rate, by each tensor's rules."""

    def scale(updates: Any, params: Any, step: jax.Array) -> Any:
        del params
        now = single(plan.lr(step))
        names = ("lr_scale", "peak_scale", "constant_lr")
        scales, peaks, constant = (values_by_path(updates, rules, name) for name in names)

        def one(update: jax.Array, factor: float, peak: float, held: float) -> jax.Array:
            rate = plan.peak_lr * peak if held else now if peak == 1 else _from_another_peak(plan, peak, now, step)
            return -rate * factor * update

        return jax.tree.map(one, updates, scales, peaks, constant)

    return _at_step(scale)


def _from_another_peak(plan: Plan, scale: float, now: jax.Array, step: jax.Array) -> jax.Array:
    """The rate of a course from `scale` times the peak down to the same floor, where the plan's is `now`; all of it
    scaled during the warm-up, which may begin below the floor."""
    fall = plan.peak_lr - plan.floor
    if fall <= 0:
        return now * scale
    falling = plan.floor + (now - plan.floor) * ((plan.peak_lr * scale - plan.floor) / fall)
    return jnp.where(step < plan.warmup_steps, now * scale, falling)


def _thaw(
    optimizer: optax.GradientTransformationExtraArgs, plan: Plan, rules: Sequence[Rule]
) -> optax.GradientTransformationExtraArgs:
    """The optimiser, with a copy of it for each number of frozen epochs that starts when they are over."""
    epochs = sorted({value for _, name, value in rules if name == "frozen_epochs"} - {0.0})
    if not epochs:
        return optimizer

    def later(frozen: float) -> optax.GradientTransformationExtraArgs:
        return optax.conditionally_mask(
            optimizer, lambda _, at_step, **__: at_step >= frozen * plan.planned_epoch, forward_extra_args=True
        )

    return optax.partition(
        {0.0: optimizer} | {frozen: later(frozen) for frozen in epochs},
        lambda params: values_by_path(params, rules, "frozen_epochs"),
    )


def _clip_each(largest: float) -> optax.GradientTransformation:
    """Scales each tensor to a norm of at most `largest` (dino utils.py:132-141)."""

    def clip(grad: jax.Array) -> jax.Array:
        return grad * jnp.minimum(1.0, largest / (jnp.linalg.norm(grad) + 1e-6))

    return optax.stateless(lambda updates, _: jax.tree.map(clip, updates))


def _scaled_by_trust(params: Any, rules: Sequence[Rule]) -> Any:
    wanted = values_by_path(params, rules, "trust_ratio")
    return jax.tree.map(lambda param, value: param.ndim >= 2 and bool(value), params, wanted)


def joined_path(path: tuple) -> str:
    """As patterns of rules see it, such as 'encoder/patch_embed/kernel'."""
    return "/".join(str(key.key) for key in path)
