"""RePre in JAX: `python main.py --config configs/moco_vit_s.py[:variant,...] [--workdir W] [--config.key=value ...]`.

Reads the command line and runs the config's task. Whatever a user can mend ends here as one message
and an exit status, without a traceback.
"""

import sys

from repre_jax.core.command_line import list_configs, parse
from repre_jax.core.errors import Stopped, UserError
from repre_jax.tasks import pretrain

TASKS = {"pretrain": pretrain.run}


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit status."""
    if {"-h", "--help"} & set(argv):
        print(f"{__doc__}\n{list_configs()}\n  keys:     configs/base.py")
        return 0
    try:
        config, workdir = parse(argv)
        if config.get("task") not in TASKS:
            raise UserError(f"Unknown task {config.get('task')!r}.\n  expected: {', '.join(sorted(TASKS))}")
        TASKS[config.task](config, workdir)
    except (UserError, Stopped) as ending:
        print(ending, file=sys.stderr)
        return ending.status
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from the last checkpoint, if there is one.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
