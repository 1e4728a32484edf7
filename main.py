"""RePre in JAX: vision transformers pre-trained by contrast and reconstruction, and evaluated.

  python main.py --config CONFIG[:VARIANT,...] [--workdir W] [--config.KEY=VALUE ...]
  python main.py --config configs/moco_vit_s.py:digits               embedded digits, minutes on a CPU
  python main.py --config configs/moco_vit_s.py --dry-run            its table, memory and time; writes nothing
  python main.py --config 'configs/moco_vit_s.py:?'                  which variants there are
  python main.py --config configs/linear.py:digits,cached --config.init_from=runs/moco_vit_s-digits

  --workdir W          of the run; else runs/CONFIG-VARIANT; the same command goes on from the last checkpoint
  --dry-run            of a pre-training: what it would be, or what is left of it; nothing is written
  --quiet              only warnings, errors and the summary
  --completion SHELL   prints a script for bash or zsh: source <(python main.py --completion bash)

Exit status: 0 done; 1 a mistake or failure, which the message explains; 128 + N ended by signal N: 130, Ctrl-C.
Tools, repre_jax.tools.NAME: compare, detect, doctor, export, figures, inspect, prepare, reproduce, results, segment.
"""

import importlib
import sys

from repre_jax.system import huge_pages, missing_packages, streams

if __name__ == "__main__":
    streams.open_closed()
    huge_pages.restart()  # before the imports that take a second

with missing_packages.explained():
    from repre_jax.core.errors import UserError
    from repre_jax.system import compile_cache, runtime
    from repre_jax.system.command_line import completion, ending, parse, usage

QUIET, DRY_RUN, COMPLETION = "--quiet", "--dry-run", "--completion"
TASKS = ("pretrain", "knn", "linear", "dense_probe", "finetune", "segment", "detect")


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit status."""
    interrupted = "Interrupted. The same command goes on from the last checkpoint, if there is one."
    with ending(interrupted, quiet=QUIET in argv) as this:
        if {"-h", "--help"} & set(argv):
            print(usage(__doc__), flush=True)
        elif any(each.split("=")[0] == COMPLETION for each in argv):
            print(completion(argv), end="", flush=True)
        else:
            run([each for each in argv if each not in (QUIET, DRY_RUN)], dry=DRY_RUN in argv)
    return this.status


def run(argv: list[str], *, dry: bool = False) -> None:
    """dry: see --dry-run. Raises UserError for a mistake in the command line, and whatever the task raises. Of the
    tasks it imports the one that it runs: this file is imported by each process that reads data, too."""
    config, workdir = parse(argv)
    if config.get("task") not in TASKS:
        raise UserError(f"Unknown task {config.get('task')!r}.\n  expected: {', '.join(sorted(TASKS))}")
    if config.compile_cache:
        compile_cache.keep()
    with runtime.started(deterministic=config.deterministic, **config.distributed):
        importlib.import_module(f"repre_jax.tasks.{'dry_run' if dry else config.task}").run(config, workdir)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
