"""Prints the results of runs one under the other: pre-trainings and what was made of them, each with what it is to be
compared with.

  python -m repre_jax.tools.results RUN RUN ...

Runs of any task, finished or not.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import UserError
from repre_jax.report import results
from repre_jax.report.run import read
from repre_jax.system import command_line


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=config_paths.argument, nargs="+", metavar="RUN", help="the workdir of a run")
    arguments = parser.parse_args(argv)
    return command_line.exit_status(lambda: print(text(arguments.runs)), "Interrupted.")


def text(runs: Sequence[Path]) -> str:
    """A paragraph for each run. Raises UserError for a folder that holds none."""
    return "\n\n".join(_paragraph(config_paths.absolute(folder)) for folder in runs)


def _paragraph(folder: Path) -> str:
    if run_files.read_config(folder) is None:
        raise UserError(f"{folder} holds no run: it has no config.json.\n  expected: the --workdir of a run")
    run = read(folder)
    figures = results.summary(run)
    width = max((len(figure.name) for figure in figures), default=0)
    lines = [f"  {figure.name:{width}}  {figure.value:>8}  {figure.beside}".rstrip() for figure in figures]
    state = "" if run.result else f"  (not finished, step {run.step:,})"
    return "\n".join([f"{results.title(run)}: {folder}{state}", *(lines or ["  no result yet"])])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
