"""What a workdir already holds, and whether the run in it may go on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import UserError

# Keys that do not change what is computed: where data lies, how fast it is read, what is logged, said and kept.
FREE_KEYS = (
    "data.dir",
    "data.workers",
    "data.max_unreadable",
    "log_every",
    "collapse_patience",
    "stop_after_skipped",
    "checkpoint.every",
    "checkpoint.keep",
    "knn.times",
    "deterministic",
    "distributed.coordinator",
    "distributed.processes",
    "distributed.process",
    "distributed.timeout",
    "distributed.step_timeout",
)


@dataclass(frozen=True)
class History:
    """step and seconds of training so far, 0 for a new run; the data set it used; its result when it is finished."""

    step: int = 0
    seconds: float = 0.0
    data: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


def look(workdir: Path, settings: dict[str, Any]) -> History:
    """The result of a finished run, else the newest checkpoint's record.

    Raises UserError when that run had other settings, or when the checkpoint is not whole.
    """
    result = _read(workdir / "result.json")
    if result is not None:  # finished; its checkpoints may have been deleted since
        check_unchanged(_read(workdir / "config.json") or settings, settings, "config")
        return History(result["steps"], result["seconds"], result=result)
    if not (workdir / "checkpoints").is_dir():
        return History()
    checkpoints = Checkpoints(workdir / "checkpoints")
    step = checkpoints.latest_step()
    record = checkpoints.record(step) if step else None
    checkpoints.close()
    if record is None:
        return History()
    check_unchanged(record["config"], settings, "config")
    return History(step, record["seconds"], record["data"])


def plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON would give it back: dictionaries, lists, numbers, strings."""
    return json.loads(json.dumps(config.to_dict()))


def shared(settings: dict[str, Any]) -> dict[str, Any]:
    """Those settings, flat, that all processes of a run must have in common."""
    return {
        key: value
        for key, value in _flat(settings).items()
        if not key.startswith("distributed.") and key not in ("data.dir", "data.workers")
    }


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


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, None when the file is not there or was not written whole."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
