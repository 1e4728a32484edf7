"""The pictures of a table: those of trained encoders, by tools/figures.py, and the chart of what RePre adds."""

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from repre_jax.core import run_files
from repre_jax.reproduction import finished, statistics
from repre_jax.reproduction.results import Number
from repre_jax.reproduction.runs import Run
from repre_jax.reproduction.table import Picture, Table

SEED = 0
DRAWN = "pictures.json"  # beside the pictures: the digests of the runs that each is of


def runs(table: Table, picture: Picture) -> list[Run]:
    """The pre-trainings that it shows."""
    return [table.rows[place].pretraining(SEED) for place in picture.rows]


def path_of(folder: Path, picture: Picture) -> Path:
    return folder / f"{picture.name}.png"


def lacking(table: Table, folder: Path) -> list[Run]:
    """What must be in the workdir for pictures that are not there, or are of other configs."""
    return list(dict.fromkeys(run for picture in _missing(table, folder) for run in runs(table, picture)))


def _missing(table: Table, folder: Path) -> list[Picture]:
    drawn = run_files.read_json(folder / DRAWN) or {}
    return [
        picture
        for picture in table.pictures
        if drawn.get(picture.name) != [run.digest for run in runs(table, picture)]
        or not run_files.exists(path_of(folder, picture))
    ]


def draw(table: Table, workdir: Path, folder: Path) -> list[str]:
    """Draws those that are missing; returns a line for each that could not be."""
    troubles = []
    for picture in _missing(table, folder):
        path, shown = path_of(folder, picture), runs(table, picture)
        absent = [run.name for run in shown if finished.cell_of(run, workdir) is None]
        if absent:
            troubles.append(f"{path.name} was not drawn: {', '.join(absent)} are not in the workdir.")
            continue
        run_files.make_folder(folder, parents=True)
        folders = [str(workdir / run.name) for run in shown]
        command = [sys.executable, "-m", "repre_jax.tools.figures", picture.kind, *folders, "--quiet"]
        done = subprocess.run([*command, "--out", str(path)], check=False, capture_output=True, text=True)
        if done.returncode:
            troubles.append(f"{path.name} was not drawn: {done.stderr.strip() or done.stdout.strip()}")
            continue
        drawn = run_files.read_json(folder / DRAWN) or {}
        run_files.write_json(folder / DRAWN, drawn | {picture.name: [run.digest for run in shown]})
    return troubles


def chart(table: Table, lines: Sequence[Sequence[Number]], path: Path) -> None:
    """What RePre adds to the table's first measure, with its interval, and what it adds in the paper."""
    from repre_jax.report.figures import differences, sheet  # matplotlib takes a second

    bars = []
    for row, (number, *_) in zip(table.rows, lines, strict=True):
        if row.without is not None:
            found = number.difference
            ours = (found.mean, found.low, found.high) if found else (math.nan,) * 3
            bars.append(differences.Bar(", ".join(row.labels[:-1]), *ours, number.papers_difference))
    caption = f"Scale {table.scale.name}; lines are Student's {statistics.CONFIDENCE:.0%} intervals, by seed"
    unit = f"points of {table.measures[0].title}"
    sheet.save(differences.draw(bars, title=table.title, caption=caption, unit=unit), path)
