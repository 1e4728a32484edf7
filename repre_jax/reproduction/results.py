"""A table's numbers, from the cells of its runs: by row and measure, by seed, and what RePre changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from repre_jax.reproduction import statistics
from repre_jax.reproduction.cells import Cell
from repre_jax.reproduction.runs import Run
from repre_jax.reproduction.statistics import Difference, Signs, Summary
from repre_jax.reproduction.table import Measure, Row, Table


@dataclass(frozen=True)
class Number:
    """A row's number of one measure. by_seed: in the measure's unit. paper: its figure, None where it has none.
    untrained: of the same encoders before their first step. difference: to the row without RePre, paired by seed, None
    where there is no such row or no pair; papers_difference: the paper's own."""

    paper: float | None
    by_seed: Mapping[int, float]
    summary: Summary | None
    untrained: Summary | None
    difference: Difference | None
    papers_difference: float | None


def numbers(table: Table, seeds: Sequence[int], known: Mapping[Run, Cell]) -> list[list[Number]]:
    """By row, by measure."""
    by_seed = [
        [_by_seed(table, row, measure, measure.key, seeds, known) for measure in table.measures] for row in table.rows
    ]
    found = []
    for row, own in zip(table.rows, by_seed, strict=True):
        theirs = by_seed[row.without] if row.without is not None else [{}] * len(own)
        line = []
        for column, measure in enumerate(table.measures):
            figure = _figure(row, column)
            other = _figure(table.rows[row.without], column) if row.without is not None else None
            untrained = _by_seed(table, row, measure, measure.untrained, seeds, known)
            line.append(
                Number(
                    paper=figure,
                    by_seed=own[column],
                    summary=statistics.summary(list(own[column].values())),
                    untrained=statistics.summary(list(untrained.values())),
                    difference=statistics.difference(own[column], theirs[column]),
                    papers_difference=None if figure is None or other is None else figure - other,
                )
            )
        found.append(line)
    return found


def _by_seed(
    table: Table, row: Row, measure: Measure, key: str, seeds: Sequence[int], known: Mapping[Run, Cell]
) -> dict[int, float]:
    """In the measure's unit."""
    cells = {seed: known.get(table.run(row, measure, seed)) for seed in seeds}
    return {
        seed: cell.metrics[key] * measure.factor + measure.offset
        for seed, cell in cells.items()
        if cell is not None and key in cell.metrics
    }


def _figure(row: Row, column: int) -> float | None:
    return row.paper[column] if column < len(row.paper) else None


def signs(table: Table, found: Sequence[Sequence[Number]], column: int) -> dict[str, Signs]:
    """Of one measure: framework -> the signs of its differences that count, and '' -> those of all."""
    by_framework: dict[str, list[Difference]] = {}
    for row, line in zip(table.rows, found, strict=True):
        difference = line[column].difference
        if difference is not None and row.framework:
            by_framework.setdefault(row.framework, []).append(difference)
    every = [each for differences in by_framework.values() for each in differences]
    return {name: statistics.signs(found) for name, found in (by_framework | {"": every}).items() if found}
