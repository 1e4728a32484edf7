"""Results as files: metrics.jsonl grows by a JSON object a logging step, the other files are written whole."""

import json
import math
import statistics
from pathlib import Path
from typing import Any


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces `path` in one go, so that a reader never sees half a file."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps(content, indent=2) + "\n")
    draft.replace(path)


class MetricsFile:
    """metrics.jsonl of one run; each line holds 'step' and what was measured there."""

    def __init__(self, path: Path, continue_from: int):
        """Lines beyond the step that the run goes on from are dropped, all of them for a new run (step 0)."""
        self.path = path
        kept = [row for row in read_metrics(path) if continue_from and row["step"] <= continue_from]
        draft = path.with_name(path.name + ".draft")
        draft.write_text("".join(json.dumps(row) + "\n" for row in kept))
        draft.replace(path)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Appends one line. None, and what JSON has no number for (NaN, infinity), become null."""
        finite = {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines of a metrics.jsonl, [] when there is none. It ends before a line cut short by a crash."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(row, dict) or "step" not in row:
            break
        rows.append(row)
    return rows


def median(path: Path, name: str) -> float | None:
    """Median of a metric over all logged steps; None when it was never measured."""
    values = [row[name] for row in read_metrics(path) if row.get(name) is not None]
    return statistics.median(values) if values else None
