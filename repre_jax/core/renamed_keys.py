"""Config keys that had another name before: runs, files and commands with the old one go on working."""

from collections.abc import Mapping
from typing import Any

RENAMED = {  # old -> new
    "branch": "network",
    "encoder.flavour": "encoder.variant",
    "encoder.hierarchies": "encoder.pyramid_levels",
    "repre.balance_lr_scale": "repre.weighting_lr_scale",
}


def renamed(key: str) -> str:
    """The present name of a key such as 'encoder.flavour'."""
    return RENAMED.get(key, key)


def with_new_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config, as JSON gives it back, in which every key has its present name.

    A value that already stands under the present name is kept.
    """
    new = _copied(settings)
    for old, name in RENAMED.items():
        *groups, last = old.split(".")
        tree: Any = new
        for group in groups:
            tree = tree.get(group)
            if not isinstance(tree, dict):
                break
        if isinstance(tree, dict) and last in tree:
            value = tree.pop(last)
            tree.setdefault(name.split(".")[-1], value)
    return new


def _copied(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in settings.items()}
