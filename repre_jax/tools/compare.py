"""Writes one page with the curves of several runs over each other, their results, and where their configs differ.

  python -m repre_jax.tools.compare RUN RUN ... [--out compare.html]

Runs of any framework, length and task, finished or not. The page is one file that needs neither network nor server.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import UserError
from repre_jax.report import comparison
from repre_jax.report.curves import LOOKS
from repre_jax.report.run import read
from repre_jax.system import command_line


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", type=config_paths.argument, nargs="+", metavar="RUN", help=f"the workdir of a run; 2 to {LOOKS} of them"
    )
    parser.add_argument("--out", default="compare.html", help="default: compare.html in this folder")
    arguments = parser.parse_args(argv)
    return command_line.exit_status(
        lambda: _compare(arguments.runs, config_paths.absolute(arguments.out)), "Interrupted; nothing was written."
    )


def _compare(runs: Sequence[Path], out: Path) -> None:
    folders = [config_paths.resolved(folder) for folder in runs]
    if not 2 <= len(folders) <= LOOKS:
        raise UserError(f"{len(folders)} run{'' if len(folders) == 1 else 's'} given.\n  expected: 2 to {LOOKS}")
    for folder in folders:
        if run_files.read_config(folder) is None:
            raise UserError(f"{folder} holds no run: it has no config.json.\n  expected: the --workdir of a run")
        if folders.count(folder) > 1:
            raise UserError(f"{folder} is given twice.\n  change:   leave one of the two out")
    if out.suffix != ".html" or not run_files.is_folder(out.parent):
        raise UserError(f"--out is {out}.\n  expected: a .html in a folder that exists")
    text = comparison.html([read(folder) for folder in folders])
    try:
        run_files.replace(out, text)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}.\n  change:   --out=FILE.html") from None
    print(f"Written: {out}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
