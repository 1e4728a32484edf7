"""RePre in JAX: `python main.py --config configs/moco_vit_s.py[:variant,...] [--workdir W] [--config.key=value ...]`.

Reads the command line and runs the config's task. With --quiet it prints only warnings, errors and the summary.
"""

import importlib
import sys

from repre_jax.system import huge_pages, streams

if __name__ == "__main__":
    streams.open_closed()
    huge_pages.restart()  # before the imports that take a second

from repre_jax.core.errors import UserError
from repre_jax.system import compile_cache, runtime
from repre_jax.system.command_line import ending, parse, usage

QUIET = "--quiet"
TASKS = ("pretrain", "knn", "linear", "dense_probe", "finetune", "segment", "detect")


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit status."""
    if {"-h", "--help"} & set(argv):
        print(usage(__doc__))
        return 0
    interrupted = "Interrupted. The same command goes on from the last checkpoint, if there is one."
    with ending(interrupted, quiet=QUIET in argv) as this:
        run([argument for argument in argv if argument != QUIET])
    return this.status


def run(argv: list[str]) -> None:
    """Raises UserError for a mistake in the command line, and whatever the task raises.

    Of the tasks it imports the one that it runs: this file is imported by each process that reads data, too.
    """
    config, workdir = parse(argv)
    if config.get("task") not in TASKS:
        raise UserError(f"Unknown task {config.get('task')!r}.\n  expected: {', '.join(sorted(TASKS))}")
    if config.compile_cache:
        compile_cache.keep()
    with runtime.started(deterministic=config.deterministic, **config.distributed):
        importlib.import_module(f"repre_jax.tasks.{config.task}").run(config, workdir)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
