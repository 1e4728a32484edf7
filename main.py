"""RePre in JAX: `python main.py --config configs/moco_vit_s.py[:variant,...] [--workdir W] [--config.key=value ...]`.

Parses the command line, makes the workdir, runs the config's task. Whatever a user can mend ends here as one message
and an exit status, without a traceback.
"""

import re
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from repre_jax.core.errors import Stopped, UserError
from repre_jax.tasks import pretrain

TASKS = {"pretrain": pretrain.run}

EXAMPLE = "python main.py --config configs/moco_vit_s.py:digits"


def parse(argv: list[str]) -> tuple[ConfigDict, Path]:
    """The config with its overrides, locked, and the absolute workdir. Raises UserError for anything mistyped."""
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "Folder of the run; runs/<config>-<variants> unless given.", flag_values=values)
    config_flags.DEFINE_config_file("config", None, "Config file[:variants].", flag_values=values, sys_argv=argv)
    flags.DEFINE_bool("help", False, "Show this text.", flag_values=values)
    given = _config_argument(argv)
    if given is None:
        if "--help" in argv:
            raise UserError(f"{__doc__.strip()}\n\nKnown configs: {', '.join(_known_configs())}")
        raise UserError(f"--config is missing.\n  expected: a config file, as in  {EXAMPLE}\n{_list_configs()}")
    path = Path(given.split(":")[0])
    if not path.is_file():
        raise UserError(f"Config file {path} does not exist.\n{_list_configs()}")
    try:
        rest = values(argv)[1:]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{_mistake(error)}\n  expected: keys and types as in configs/base.py") from None
    if rest:
        raise UserError(f"Unexpected argument {rest[0]!r}.\n  expected: --config, --workdir or --config.KEY=VALUE")
    config = values.config
    if not isinstance(config, ConfigDict):
        raise UserError(f"get_config() of {path} gave {type(config).__name__}.\n  expected: an ml_collections ConfigDict")
    name = "-".join([path.stem, *filter(None, re.split(r"[:,]", given)[1:])])
    return config, Path(values.workdir or Path("runs") / name).absolute()


def _config_argument(argv: list[str]) -> str | None:
    for index, argument in enumerate(argv):
        if re.fullmatch(r"--?config", argument):
            return argv[index + 1] if index + 1 < len(argv) else None
        if match := re.fullmatch(r"--?config=(.*)", argument):
            return match[1]
    return None


def _mistake(error: Exception) -> str:
    """The useful part of what absl and ml_collections say: their last line, the rest being a traceback."""
    lines = [line for line in str(error).strip("'\"").splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _known_configs() -> list[str]:
    return sorted(str(path) for path in Path("configs").glob("*.py") if path.stem not in ("base", "__init__"))


def _list_configs() -> str:
    return f"  known:    {', '.join(_known_configs()) or 'none in ./configs; run this from the folder of the repository'}"


def main(argv: list[str]) -> int:
    try:
        config, workdir = parse(argv)
        if config.get("task") not in TASKS:
            raise UserError(f"Unknown task {config.get('task')!r}.\n  expected: {', '.join(sorted(TASKS))}")
        try:
            workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"The workdir {workdir} cannot be made: {error}.\n  change:   --workdir=...") from None
        TASKS[config.task](config, workdir)
    except (UserError, Stopped) as ending:
        print(ending, file=sys.stderr)
        return ending.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
