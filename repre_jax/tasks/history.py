"""Whether a run may go on: what it was started with against what it is started with now."""

import json
from typing import Any

from ml_collections import ConfigDict

from repre_jax.core.errors import UserError

# Keys that do not change what is computed: where data lies, how fast it is read, what is logged and kept.
FREE_KEYS = ("data.dir", "data.workers", "log_every", "checkpoint.every", "checkpoint.keep", "knn.times")


def plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON would give it back: dictionaries, lists, numbers, strings."""
    return json.loads(json.dumps(config.to_dict()))


def check_unchanged(before: dict[str, Any], now: dict[str, Any], what: str) -> None:
    """Raises UserError with the differences, FREE_KEYS aside. `what` names the thing compared."""
    old, new = _flat(before), _flat(now)
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key) and key not in FREE_KEYS]
    if changed:
        lines = "\n".join(f"  {key}: {old.get(key)!r} -> {new.get(key)!r}" for key in changed)
        raise UserError(
            f"This workdir holds a run with another {what}:\n{lines}\n"
            "  change:   the value back, to go on with that run; or --workdir, to start a new one"
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
