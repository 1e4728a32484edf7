"""Parameters that are updated alike, joined into one array each, so that a GPU updates all of them in few kernels.

An optimiser's step of a ViT-S with its moving average is 600 kernels, some for each tensor, most of them over in less
time than it takes to start one. Small tensors with the same rules are laid end to end before the update and taken apart
after it, inside the compiled step: the state keeps its tree. What is joined is copied, which for a large tensor takes
longer than a kernel's start (benchmarks/log.md).

Only for optimisers that treat each number by itself, as AdamW and SGD do: LARS and clipping each tensor need its norm.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from repre_jax.core import optim
from repre_jax.core.types import TrainState

Arrays = dict[str, Any]
SMALL = 2**18  # numbers in a tensor that is joined with others
Groups = dict[str, list[str]]  # the first path of a group, which stands for all: rules match it as they match each


def groups_of(params: Mapping[str, Any], rules: Sequence[optim.Rule], apart: Sequence[str] = ()) -> Groups:
    """Paths of small parameters with the same dtype and the same value of each of the optimiser's properties; a large
    one is a group of its own.

    apart: first keys, such as 'encoder', whose parameters are not joined with those of others.
    """
    values = [_by_path(optim.values_by_path(params, rules, name, lambda _: "no rule")) for name in optim.PROPERTIES]
    found: dict[Any, list[str]] = {}
    for path, leaf in _by_path(params).items():
        alike = (
            path if leaf.size > SMALL else (path.split("/")[0] in apart, leaf.dtype, *(each[path] for each in values))
        )
        found.setdefault(alike, []).append(path)
    return {paths[0]: paths for paths in found.values()}


def join(state: TrainState, gradients: Any, groups: Groups) -> tuple[TrainState, Arrays]:
    """The state and the gradients with one array [M] in place of the parameters, the target and the moments of a group
    of several."""
    own = set(state.params)
    params, target, gradients = (_join(tree, groups) for tree in (state.params, state.target, gradients))
    moments = jax.tree.map(
        lambda each: _join(each, groups) if _is_like(own, each) else each,
        state.opt_state,
        is_leaf=functools.partial(_is_like, own),
    )
    return dataclasses.replace(state, params=params, target=target, opt_state=moments), gradients


def part(joined: TrainState, like: TrainState, groups: Groups) -> TrainState:
    """The state of `join` with the trees that `like` has."""
    own = set(like.params)
    moments = jax.tree.map(
        lambda old, new: _part(new, old, groups) if _is_like(own, old) else new,
        like.opt_state,
        joined.opt_state,
        is_leaf=functools.partial(_is_like, own),
    )
    params, target = _part(joined.params, like.params, groups), _part(joined.target, like.target, groups)
    return dataclasses.replace(joined, params=params, target=target, opt_state=moments)


def _is_like(keys: set[str], tree: Any) -> bool:
    """Whether a part of an optimiser's state is a tree such as the parameters."""
    return isinstance(tree, dict) and set(tree) == keys


def _is_masked(leaf: Any) -> bool:
    """Whether optax has left a tensor out: of a part of the optimiser that is for others."""
    return isinstance(leaf, optax.MaskedNode)


def _by_path(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_masked)
    return {optim.joined_path(path): leaf for path, leaf in leaves}


def _join(tree: Any, groups: Groups) -> Arrays:
    leaves = _by_path(tree)
    found = {}
    for name, paths in groups.items():
        if name in leaves:
            some = [leaves[path] for path in paths]
            found[name] = some[0] if len(some) == 1 or _is_masked(some[0]) else _end_to_end(some)
    return found


def _end_to_end(leaves: Sequence[jax.Array]) -> jax.Array:
    """[M]. It is written out: XLA would else join anew for each tensor that is taken out of it."""
    return jax.lax.optimization_barrier(jnp.concatenate([leaf.ravel() for leaf in leaves]))


def _part(joined: Arrays, like: Any, groups: Groups) -> Any:
    shapes = _by_path(like)
    found: dict[str, Any] = {}
    for name, array in joined.items():
        if len(groups[name]) == 1 or _is_masked(array):
            found |= dict.fromkeys(groups[name], array)
            continue
        ends = np.cumsum([shapes[path].size for path in groups[name]])
        for path, part in zip(groups[name], jnp.split(array, ends[:-1]), strict=True):
            found[path] = part.reshape(shapes[path].shape)
    return jax.tree_util.tree_map_with_path(lambda path, _: found[optim.joined_path(path)], like, is_leaf=_is_masked)
