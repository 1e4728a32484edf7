"""Computes a table or figure of the paper: every run that it takes, then the table, with the paper's figures beside.

  python -m repre_jax.tools.reproduce table1 [--scale scenes|full] [--seeds 3] [--only moco]

Tables: table1 (linear evaluation by framework), figure3 (the same as differences), table2 (detection), table3
(segmentation), table4 (one feature or several), table5 (fusion layers), dense (measures of table1's frozen encoders),
ablation (weights of the losses, decoder, views, length), figure4 (attention maps and t-SNE), cost; or all of these.
Scales: scenes (embedded images, hours on two processor cores), full (ImageNet, COCO, Cityscapes, as the paper), tiny
(a smoke test: its numbers mean nothing).

A finished run becomes a cell, RESULTS/cells/NAME.json, which can be committed or copied: wherever it was computed, it
is not run again, here or by another table. One whose config has changed since is not taken. Interrupted, the same
command goes on where it stopped; several may run side by side on one workdir.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from repre_jax.core import buckets, config_paths, run_files
from repre_jax.core.errors import UserError
from repre_jax.report import comparison
from repre_jax.report.curves import LOOKS
from repre_jax.report.run import read
from repre_jax.reproduction import finished, pictures, scales, tables, work, writing
from repre_jax.reproduction.runs import MAIN, Run
from repre_jax.reproduction.table import Table, matches
from repre_jax.system import command_line, shipped, terminal

RESULTS = Path("docs/results")
ALL = "all"


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("table", choices=(*tables.TABLES, ALL), metavar="TABLE")
    parser.add_argument("--scale", choices=tuple(scales.SCALES), default="scenes")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, ...; default 3")
    parser.add_argument("--only", default="", metavar="PATTERN", help="only runs whose names hold this, * for anything")
    parser.add_argument("--workdir", type=config_paths.argument, help="of the runs; default runs/reproduce/SCALE")
    parser.add_argument(
        "--results",
        type=config_paths.local_argument,
        help="of cells and tables; default docs/results, of tiny the workdir's",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--no-run", action="store_true", help="run nothing: write the table of what is there")
    instead.add_argument("--dry-run", action="store_true", help="list what would be run, and write nothing")
    instead.add_argument("--print-commands", action="store_true", help="the same as a job list, stage by stage")
    instead.add_argument("--compare", action="store_true", help="draw the curves of its pre-trainings of seed 0")
    parser.add_argument("--stage", type=int, help="of the job list: 1 starts from no run, 2 from those of stage 1 ...")
    arguments = parser.parse_args(argv)
    interrupted = "Interrupted; the same command goes on."
    status: list[int] = []
    ended = command_line.exit_status(lambda: status.append(_reproduce(arguments)), interrupted)
    return ended or status[0]


def _reproduce(arguments: argparse.Namespace) -> int:
    """The exit status: 1 where a run has failed."""
    if arguments.seeds < 1:
        raise UserError(f"--seeds is {arguments.seeds}.\n  expected: at least 1")
    scale, seeds = scales.SCALES[arguments.scale], range(arguments.seeds)
    workdir = config_paths.absolute(arguments.workdir or Path("runs/reproduce") / scale.name)
    if buckets.holds(workdir):
        raise UserError(
            f"--workdir is {workdir}.\n  expected: a folder; its runs are started here, with logs beside them"
        )
    usual = workdir / "results" if scale.name == "tiny" or not shipped.is_clone() else shipped.root() / RESULTS
    results = config_paths.absolute(arguments.results or usual)
    folder = results / scale.name
    asked = [tables.table(name, scale) for name in (tables.TABLES if arguments.table == ALL else (arguments.table,))]
    if arguments.compare:
        print(f"Written: {_compared(asked, arguments.only, workdir)}")
        return 0
    wanted = [run for table in asked for run in table.in_order(seeds, arguments.only)]
    if not wanted:
        raise UserError(
            f"No run of {arguments.table} has {arguments.only!r} in its name.\n"
            f"  expected: a part of a name such as {next(iter(asked[0].in_order(seeds))).name}"
        )
    listed = arguments.dry_run or arguments.print_commands
    if not listed:
        _check_writable(results, *([] if arguments.no_run else [workdir / finished.LOGS]))
    found = work.look(wanted, workdir, results, write=not listed)
    drawn = [run for table in asked for run in pictures.lacking(table, folder) if matches(run, arguments.only)]
    lacking = work.lacking(wanted, drawn, found, workdir)
    if listed:
        for run in _staged(lacking, arguments.stage) if arguments.print_commands else lacking:
            print(run.command(workdir, shipped.program()))
        if arguments.dry_run:
            print(_outlook(wanted, lacking, found))
        return 0
    for why in found.refused.values():
        terminal.warn(f"{why}.")
    if not arguments.no_run:
        if not shipped.is_clone() and any(run.program != MAIN for run in lacking):
            raise UserError("The cost of a step is measured by benchmarks/, which only a clone of the repository has.")
        work.do(lacking, found, workdir, results)
    for table in asked:
        paths = _written(table, found, seeds, workdir, results, drawing=not arguments.no_run)
        print(run_files.read_text(paths[0]), end="")
        print(f"Written: {', '.join(map(str, paths))}")
    return 1 if found.failed else 0


def _check_writable(*folders: Path) -> None:
    """Makes them. Raises UserError for one that cannot be written."""
    for folder in folders:
        try:
            run_files.make_folder(folder, parents=True)
            run_files.check_writable(folder)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written: {error.strerror}.\n  change:   --workdir, or --results"
            ) from None


def _staged(runs: Sequence[Run], stage: int | None) -> list[Run]:
    """In the order of their stages, or those of one."""
    stages = {run: len(list(run.lineage())) for run in runs}
    return [run for run in sorted(runs, key=stages.__getitem__) if stage in (None, stages[run])]


def _written(
    table: Table, found: work.Found, seeds: Sequence[int], workdir: Path, results: Path, *, drawing: bool
) -> list[Path]:
    """The table's files: of all of its rows, whatever --only says, and of all seeds that it had before."""
    folder = results / table.scale.name
    before = (run_files.read_json(folder / f"{table.name}.json") or {}).get("seeds", [])
    seeds = range(max(len(seeds), len(before)))
    every = work.look(table.in_order(seeds), workdir, results)
    every.failed |= found.failed
    return writing.write(folder, table, seeds, every, pictures.draw(table, workdir, folder) if drawing else [])


def _compared(asked: Sequence[Table], only: str, workdir: Path) -> Path:
    """One page with the curves of the tables' pre-trainings of seed 0 that are there, in the workdir."""
    runs = dict.fromkeys(row.pretraining(0) for table in asked for row in table.rows)
    folders = [workdir / run.name for run in runs if matches(run, only)]
    there = [folder for folder in folders if run_files.read_config(folder) is not None]
    if not 2 <= len(there) <= LOOKS:
        raise UserError(
            f"{len(there)} of these {len(folders)} pre-trainings are in {workdir}.\n  expected: 2 to {LOOKS}\n"
            f"  change:   --only to a part of their names, such as {there[0].name if there else next(iter(runs)).name}"
        )
    path = workdir / f"{asked[0].name}-runs.html"
    run_files.replace(path, comparison.html([read(folder) for folder in there]))
    return path


def _outlook(wanted: Sequence[Run], lacking: Sequence[Run], found: work.Found) -> str:
    """How much there is to do."""
    seconds = work.expected(lacking, found.cells, lambda cell: cell.processor_seconds)
    unknown = {run.kind for run in lacking} - {run.kind for run in found.cells}
    text = f"{len(found.cells)} of {len(set(wanted))} cells are there; {len(lacking)} runs to do"
    if seconds:
        text += f", about {seconds / 3600:.1f} processor hours by those that are there"
        text += f"; {len(unknown)} kinds of run were never done" if unknown else ""
    return f"{text}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
