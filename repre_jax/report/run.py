"""What a run's folder holds by now: it may still be written, cut short or partly missing, and nothing raises for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from repre_jax.core import manifest, run_files

LARGEST = 1e100  # beyond it a number counts as not finite: axes could not show it


@dataclass(frozen=True)
class Series:
    """A metric as it was logged. x: float [n], steps, rising. y: float [n], NaN where it was not finite."""

    x: np.ndarray
    y: np.ndarray

    @property
    def newest(self) -> tuple[float, float] | None:
        """The last finite value and its step, None where there is none."""
        finite = np.flatnonzero(np.isfinite(self.y))
        return (float(self.y[finite[-1]]), float(self.x[finite[-1]])) if len(finite) else None


@dataclass(frozen=True)
class Run:
    """A run. config: flat. starts: a record a start. result: of a finished run, {} of another. saved: the step of the
    newest finished checkpoint, 0 without one. data: the identity of the data set, {} where no file has it."""

    folder: Path
    config: Mapping[str, Any]
    series: Mapping[str, Series]
    starts: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any]
    saved: int
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def logged(self) -> int:
        """The last step with a line in metrics.jsonl, 0 without one."""
        return int(max((series.x[-1] for series in self.series.values()), default=0))

    @property
    def step(self) -> int:
        """The newest that is known of: after a stop often the saved one, between two lines of the log."""
        return int(max(self.logged, self.saved, number(self.result.get("steps")) or 0))

    @property
    def total(self) -> int | None:
        """Steps of the whole run, where anything says so."""
        started = self.starts[-1].get("total_steps") if self.starts else None
        for value in (self.result.get("steps"), started, self.config.get("total_steps")):
            steps = number(value)
            if steps:
                return int(steps)
        return None

    @property
    def seconds_left(self) -> float | None:
        """At the newest speed."""
        speed, size = self.newest("images_per_second"), number(self.config.get("batch_size"))
        if self.result or not speed or not size or self.total is None:
            return None
        return max(self.total - self.step, 0) * size / speed

    def newest(self, name: str) -> float | None:
        """The last finite value of a metric."""
        newest = self.series[name].newest if name in self.series else None
        return newest[0] if newest else None

    def first(self, name: str) -> float | None:
        """The value before the first step, if it was measured there."""
        series = self.series.get(name)
        return float(series.y[0]) if series and series.x[0] == 0 and np.isfinite(series.y[0]) else None

    def interruptions(self) -> list[float]:
        """The steps from which it was started again, as far as curves go."""
        steps = (number(start.get("step")) for start in self.starts[1:])
        return sorted({step for step in steps if step and step <= self.logged})


def read(folder: Path) -> Run:
    """From config.json, metrics.jsonl, starts.jsonl, result.json and checkpoints/, whichever are there."""
    return Run(
        folder=folder,
        config=run_files.flat(run_files.read_config(folder) or {}),
        series=_series(_rows(folder / run_files.METRICS)),
        starts=tuple(_rows(folder / run_files.STARTS)),
        result=run_files.read_json(folder / run_files.RESULT) or {},
        data=_identity(folder),
        saved=max(manifest.finished(folder / run_files.CHECKPOINTS), default=0),
    )


def _identity(folder: Path) -> Mapping[str, Any]:
    found = run_files.read_data(folder).get("identity")
    return found if isinstance(found, dict) else {}


def number(value: Any) -> float | None:
    """The value, if it is a number that an axis can show."""
    return float(value) if isinstance(value, int | float) and abs(value) <= LARGEST else None


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [row for row in run_files.read_metrics(path) if number(row["step"]) is not None]
    except OSError:
        return []


def _series(rows: list[dict[str, Any]]) -> dict[str, Series]:
    names = dict.fromkeys(name for row in rows for name in row if name != "step")
    series = {}
    for name in names:
        logged = [(row["step"], row[name]) for row in rows if name in row]
        x, y = zip(*logged, strict=True)
        series[name] = Series(np.array(x, float), _numbers(y))
    return series


def _numbers(values: Sequence[Any]) -> np.ndarray:
    """float [n], NaN for what is no number."""
    try:
        array = np.array(values, float)  # None becomes NaN
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.shape != (len(values),):
        array = np.array([number(value) for value in values], float)
    return np.where(np.abs(array) <= LARGEST, array, np.nan)
