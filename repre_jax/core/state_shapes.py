"""Shapes of a state's arrays: by path, laid out on devices, and what differs between two."""

from typing import Any

import jax

SHOWN = 8  # tensors that a message names


def placed(shapes: Any, shardings: Any) -> Any:
    """jax.ShapeDtypeStruct of each array, with its sharding."""
    return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, shardings)


def differences(saved: Any, wanted: Any) -> str:
    """The tensors whose shapes differ between two trees, as lines for a message; '' when there are none."""
    saved, wanted = flat(saved), flat(wanted)
    paths = [path for path in sorted(saved | wanted) if saved.get(path) != wanted.get(path)]
    lines = [f"  {path}: {saved.get(path, 'none')} -> {wanted.get(path, 'none')}\n" for path in paths[:SHOWN]]
    return f"Tensors that differ: {len(paths)}\n{''.join(lines)}" if paths else ""


def flat(tree: Any) -> dict[str, tuple[int, ...]]:
    """Path, such as 'params/encoder/norm/scale' -> shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}
