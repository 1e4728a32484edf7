"""What a table is: measures, rows and pictures."""

import dataclasses
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from repre_jax.reproduction.runs import Run
from repre_jax.reproduction.scales import Scale


@dataclass(frozen=True)
class Measure:
    """A column: what `evaluation` of a pre-training says under `key` of its result, times `factor`, plus `offset`.
    untrained: the key of the same of the encoder before its first step, '' where nothing measures it."""

    title: str
    key: str
    evaluation: Callable[[Run], Run]
    factor: float = 100.0
    offset: float = 0.0
    digits: int = 1
    untrained: str = ""


@dataclass(frozen=True)
class Row:
    """labels: of the first columns. pretraining: by seed. paper: by measure, for as many of the first as the paper has.
    without: the number of the row that this one is compared with, of the same table. framework: whose signs it counts
    among, '' for none's: of rows that share a baseline one counts. variant: of the evaluations, beside their own."""

    labels: tuple[str, ...]
    pretraining: Callable[[int], Run]
    paper: tuple[float | None, ...] = ()
    without: int | None = None
    framework: str = ""
    variant: str = ""


@dataclass(frozen=True)
class Picture:
    """What tools/figures.py draws of pre-trainings of seed 0. name, title: of the file and of the picture. rows: the
    numbers of those that these are of."""

    name: str
    title: str
    kind: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """heads: of the columns of labels. other: the row that differences are to. notes: sentences that stand above it.
    chart: also drawn, by its differences."""

    name: str
    title: str
    scale: Scale
    heads: tuple[str, ...]
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]
    other: str = "the row without RePre"
    notes: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    chart: bool = False

    def run(self, row: Row, measure: Measure, seed: int) -> Run:
        """What measures a row's number of a seed."""
        run = measure.evaluation(row.pretraining(seed))
        return dataclasses.replace(run, variants=f"{run.variants},{row.variant}".strip(",")) if row.variant else run

    def in_order(self, seeds: Sequence[int], only: str = "") -> Iterator[Run]:
        """All runs that measure its numbers, whole pairs of a seed first. only: those whose names hold this pattern."""
        for seed in seeds:
            for row in self.rows:
                runs = (self.run(row, measure, seed) for measure in self.measures)
                yield from (run for run in dict.fromkeys(runs) if matches(run, only))


def matches(run: Run, only: str) -> bool:
    """Whether the run's name holds the pattern, as the shell has patterns."""
    return fnmatch.fnmatchcase(run.name, f"*{only}*")
