"""Results as files: metrics.jsonl grows by a JSON object a logging step, the other files are written whole."""

import json
import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from repre_jax.core.renamed_keys import with_new_names

DRAFT = ".draft"  # how the name of a file ends that is being written


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces a JSON file."""
    replace(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path, keys: Sequence[str] = ()) -> dict[str, Any] | None:
    """A JSON object with these keys, None when the file is not there, not whole or something else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and all(key in content for key in keys) else None


def read_config(run: Path, keys: Sequence[str] = ()) -> dict[str, Any] | None:
    """A run's config.json, its keys under their present names; None when it is not there, not whole or lacks `keys`."""
    content = read_json(run / "config.json")
    config = None if content is None else with_new_names(content)
    return config if config is not None and all(key in config for key in keys) else None


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replaces a file of JSON lines."""
    replace(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def replace(path: Path, text: str) -> None:
    """In one go, on the disk when it returns: a reader, or whoever comes after a crash, never sees half a file."""
    draft = draft_of(path)
    try:
        with draft.open("w") as file:
            file.write(text)
            to_disk(file)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def draft_of(path: Path) -> Path:
    """What to write first: of this process alone, since a tool may write what its run is writing, too."""
    return path.with_name(f"{path.name}.{os.getpid()}{DRAFT}")


def to_disk(file: IO) -> None:
    """What was written to it so far, out of all buffers."""
    file.flush()
    os.fsync(file.fileno())


class MetricsFile:
    """metrics.jsonl of one run; each line holds 'step' and what was measured there."""

    def __init__(self, path: Path, continue_from: int, write: bool = True):
        """Lines beyond the step that the run goes on from are dropped, all of them for a new run (step 0).

        write: False in all processes of a run but one.
        """
        self.path, self._writes = path, write
        kept = [row for row in read_metrics(path) if continue_from and row["step"] <= continue_from]
        self.last: dict[str, Any] = kept[-1] if kept else {}
        self._rewrite(kept)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Appends a line, or completes the last one if it is of the same step.

        None, and what JSON has no number for (NaN, infinity), become null.
        """
        finite = {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}
        again = self.last.get("step") == step
        self.last = finite | self.last if again else {"step": step, **finite}
        if again:
            self._rewrite([*read_metrics(self.path)[:-1], self.last])
        elif self._writes:
            with self.path.open("a") as file:
                file.write(json.dumps(self.last, allow_nan=False) + "\n")

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        if self._writes:
            write_rows(self.path, rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines of a metrics.jsonl, [] when there is none. It ends before a line cut short by a crash."""
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or "step" not in row:
            break
        rows.append(row)
    return rows


def median(path: Path, name: str) -> float | None:
    """Median of a metric over all logged steps; None when it was never measured."""
    values = [row[name] for row in read_metrics(path) if row.get(name) is not None]
    return statistics.median(values) if values else None


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries -> one, with keys such as 'optim.lr'."""
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
