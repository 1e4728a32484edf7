"""Prints what matters here for a run, and each problem with its fix; the exit status is 1 if there is one.

  python -m repre_jax.tools.doctor [--data-dir DIR] [--workdir DIR]

Works where packages are missing, and so uses neither report/console.table nor system/command_line.exit_status, whose
look and endings it has: both import some. What it looks at is in checkup/.
"""

import argparse
import os
import resource
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from repre_jax.core import buckets, config_paths
from repre_jax.core.errors import UserError
from repre_jax.system import shipped, streams
from repre_jax.tools.checkup import NEW, Problem, Section, devices, software, storage


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    streams.open_closed()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where data sets lie; else $TFDS_DATA_DIR, else ~/tensorflow_datasets")
    parser.add_argument("--workdir", default="runs", help="where runs will be written; else ./runs")
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads what is printed has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: argparse.Namespace) -> int:
    lines = software.requirements(shipped.root())
    plugins = software.accelerators(sys.path)
    gpus, tpu = devices.nvidia_gpus(), devices.tpu_file()
    wanted = plugins or (["cuda12"] if gpus else ["tpu"] if tpu else [])
    problems = _show("Software", software.check(lines, sys.path, wanted))
    found = devices.probe(os.environ, shipped.PACKAGE.parent)
    problems += _show("Devices", devices.check(found, gpus, tpu, os.environ, plugins))
    try:
        from repre_jax.data import sources  # not before software.check has said what is missing
    except Exception as error:  # whatever a broken package raises
        text = f"repre_jax.data.sources cannot be imported: {type(error).__name__}: {error}"
        known = isinstance(error, ModuleNotFoundError) and problems
        problems += _show("Data", Section([("not looked at", text)], [] if known else [Problem(text, NEW)]))
    else:
        problems += _data(sources, arguments.data_dir)
    problems += _show("Runs", runs(arguments.workdir))
    problems += _show("Compiled programs", storage.compiled())
    shared = Path("/dev/shm")
    problems += _show("Host", storage.host(shutil.disk_usage(shared).total if shared.is_dir() else None))
    print(verdict(problems))
    return 1 if problems else 0


def _data(sources: ModuleType, data_dir: str | None) -> list[Problem]:
    """sources: repre_jax.data.sources, which cannot be imported everywhere."""
    try:
        root = sources.data_root(data_dir)
    except UserError as error:
        return _show("Data", _unknown(error))
    variable = "$TFDS_DATA_DIR" if os.environ.get("TFDS_DATA_DIR") else "TFDS's default"
    origin = "--data-dir" if data_dir else variable
    return _show("Data", storage.data(root, origin, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def runs(workdir: str) -> Section:
    """The folder of runs, as --workdir names it."""
    try:
        folder = config_paths.absolute(workdir)
    except UserError as error:
        return _unknown(error)
    if buckets.holds(folder):
        return storage.bucket(folder)
    return storage.disk(folder, "main.py's --workdir=DIR, to another folder")


def _unknown(error: UserError) -> Section:
    """Of a folder that cannot be followed."""
    what, _, change = str(error).partition("\n  change:   ")
    return Section([("folder", "unknown")], [Problem(what, change)])


def verdict(problems: Sequence[Problem]) -> str:
    """The last lines: each problem with its fix, numbered."""
    if not problems:
        return "No problems found."
    lines = [f"  {i}. {problem.what}\n     fix: {problem.fix}" for i, problem in enumerate(problems, 1)]
    return "\n".join(["1 problem:" if len(lines) == 1 else f"{len(lines)} problems:", *lines])


def _show(title: str, section: Section) -> list[Problem]:
    rows = "\n".join(f"  {name:<24}  {value}".rstrip() for name, value in section.rows)
    print(f"{title}:\n{rows}", flush=True)
    return section.problems


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
