"""From the command line to a config: `--config FILE|NAME[:variant,...] [--workdir W] [--config.key=value ...]`."""

import contextlib
import difflib
import errno
import importlib.util
import os
import re
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType

from absl import flags
from ml_collections import ConfigDict, config_flags

from repre_jax.core import access, config_paths, open_files
from repre_jax.core.errors import Ended, Stopped, UserError, meant
from repre_jax.core.renamed_keys import renamed
from repre_jax.system import completion as complete
from repre_jax.system import end_signals, jax_defaults, overrides, own_configs, shipped, streams, terminal

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # what a user can mend
NO_TASK = ("base", "embedded", "figures", "__init__")  # how files in configs/ begin that main.py does not run
FLAGS = ("config", "workdir", "dry-run", "quiet", "completion", "help")
EXPECTED = "  expected: --config, --workdir, --dry-run, --quiet, --completion or --config.KEY=VALUE"
CONFIGS = "configs"


def parse(argv: list[str]) -> tuple[ConfigDict, Path]:
    """The config with its overrides, locked, and the absolute workdir. Raises UserError for anything mistyped."""
    argv = [_with_new_name(argument) for argument in argv]
    given = _config_argument(argv)
    if not given:
        example = f"{shipped.program()} --config configs/moco_vit_s.py:digits"
        raise UserError(f"--config is missing.\n  expected: a config file, as in  {example}\n{list_configs()}")
    path = _config_file(given.split(":")[0])
    _let_import_configs(path)
    located = str(path) + given[len(given.split(":")[0]) :]
    argv = _with_config(argv, located)
    plain, _ = _parse_flags([argv[0], f"--config={located}"], path)
    if not isinstance(plain.config, ConfigDict):
        raise UserError(f"get_config() in {path} returns {type(plain.config).__name__}.\n  expected: a ConfigDict")
    changed = own_configs.bring_up_to_date(plain.config, path)
    overrides.check_keys(argv, plain.config)
    argv = overrides.last_wins(argv, plain.config)
    values, rest = _parse_flags(argv, path, plain.config if changed else None)
    if rest:
        raise UserError(f"Unexpected argument {rest[0]!r}.\n{EXPECTED}")
    if "may_change" in values.config:
        keys = values.config.may_change
        values.config.may_change = tuple(renamed(key) if isinstance(key, str) else key for key in keys)
    if "typed" in values.config:
        values.config.typed = overrides.typed(argv)
    name = "-".join([path.stem, *filter(None, re.split(r"[:,]", given)[1:])])
    config_paths.settle(values.config)
    return values.config, config_paths.absolute(values.workdir or Path("runs") / name)


def _with_new_name(argument: str) -> str:
    """A flag --config.KEY whose key had another name before, with its present one."""
    match = re.fullmatch(r"(--?(?:no)?config\.)([^=]+)(.*)", argument, re.DOTALL)
    if not match or renamed(match[2]) == match[2]:
        return argument
    terminal.say(f"Note: --config.{match[2]} is now called --config.{renamed(match[2])}.")
    return f"{match[1]}{renamed(match[2])}{match[3]}"


@dataclass
class Ending:
    """How a command has ended. status: its exit status."""

    status: int = 0


@contextlib.contextmanager
def ending(interrupted: str, *, quiet: bool = False) -> Iterator[Ending]:
    """Around a command: whatever a user can mend ends it with one message and a status, without a traceback.

    interrupted: what to say after Ctrl-C, and after SIGTERM, SIGUSR1 and SIGHUP where nobody else waits for them.
    quiet: leave out what system/terminal.py says on the way.
    """

    streams.open_closed()

    def ended(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            streams.leave_terminal()
        raise Ended(f"{signal.Signals(number).name}: {interrupted}", number)

    terminal.escape_unprintable()
    before = {
        number: signal.signal(number, ended)
        for number in end_signals.SIGNALS
        if number != signal.SIGINT and not end_signals.outlives_terminal(number)  # Python makes SIGINT an exception
    }
    this = Ending()
    try:
        with terminal.quiet(quiet), jax_defaults.kept():
            yield this
    except (UserError, Stopped, Ended) as error:
        print(error, file=sys.stderr)
        this.status = error.status
    except BrokenPipeError:  # whoever reads what is printed has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if open_files.are_used_up(error):
            print(f"{error.strerror}: {open_files.limit()}\n{interrupted}", file=sys.stderr)
        elif error.errno in NO_ROOM:
            print(f"{error.filename or 'A file'} cannot be written: {error.strerror}.\n{interrupted}", file=sys.stderr)
        elif error.errno == errno.EACCES:
            print(f"{access.explained(error.filename)}\n{interrupted}", file=sys.stderr)
        else:
            raise
        this.status = 1
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        this.status = 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(run: Callable[[], None], interrupted: str, *, quiet: bool = False) -> int:
    """Runs a command as `ending` says, and returns its exit status."""
    with ending(interrupted, quiet=quiet) as this:
        run()
    return this.status


def _config_argument(argv: list[str]) -> str | None:
    """The value of --config; absl's own parser would already fail on what stands around it."""
    for index, argument in enumerate(argv):
        if re.fullmatch(r"--?config", argument):
            return argv[index + 1] if index + 1 < len(argv) else None
        if match := re.fullmatch(r"--?config=(.*)", argument):
            return match[1]
    return None


def _with_config(argv: list[str], value: str) -> list[str]:
    """The command line with another value of --config, in its place: whatever belongs to a config follows it."""
    for index, argument in enumerate(argv):
        if re.fullmatch(r"--?config", argument):
            return [*argv[:index], f"--config={value}", *argv[index + 2 :]]
        if re.fullmatch(r"--?config=.*", argument):
            return [*argv[:index], f"--config={value}", *argv[index + 1 :]]
    return argv


def _config_file(given: str) -> Path:
    """The file that --config names: at that path if there is one, else in ./configs or among the shipped configs.

    'moco_vit_s', 'moco_vit_s.py' and 'configs/moco_vit_s.py' name the same config. Raises UserError if there is none.
    """
    path = Path(given)
    if not path.is_file() and given.startswith("~"):  # which shells leave alone in --config=~/my.py
        path = config_paths.absolute(given)
    if path.is_file():
        return path
    if path.parent in (Path(), Path(CONFIGS)):
        for folder in _config_folders():
            file = folder / f"{path.name.removesuffix('.py')}.py"
            if file.is_file():
                return file
    hint = meant(path.stem, [file.stem for file in config_files()])
    raise UserError(f"Config file {path} does not exist.{hint}\n{list_configs()}")


def _config_folders() -> tuple[Path, Path]:
    """Where configs are looked for by name, first one first; in the folder of a clone both are the same."""
    return Path(CONFIGS), shipped.root() / CONFIGS


def _let_import_configs(file: Path) -> None:
    """Lets a config file import others, as in `from configs import base`: those beside it, then the shipped ones.

    Nothing else that is called configs is imported, such as a package of the project in whose folder a tool is run.
    """
    folder = file.absolute().parent
    spec = ModuleSpec(CONFIGS, None, is_package=True)
    spec.submodule_search_locations = [str(folder)] if folder.name == CONFIGS else []
    spec.submodule_search_locations.append(str(shipped.root() / CONFIGS))
    sys.modules[CONFIGS] = importlib.util.module_from_spec(spec)


def _parse_flags(argv: list[str], path: Path, config: ConfigDict | None = None) -> tuple[flags.FlagValues, list[str]]:
    """The flags' values and what is left over. absl and ml_collections raise every kind of exception here.

    config: in place of what the file at `path` returns.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    try:
        if config is None:
            config_flags.DEFINE_config_file("config", None, "Config file.", flag_values=values, sys_argv=argv)
        else:
            argv = [word for word in argv if not re.match(r"--?config=", word)]
            config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        return values, values(argv)[1:]
    except UserError:
        raise
    except flags.UnrecognizedFlagError as error:
        if error.flagname in FLAGS:
            raise UserError(f"--{error.flagname} takes no value.\n{EXPECTED}") from None
        close = difflib.get_close_matches(error.flagname, FLAGS, n=1)
        hint = f" Did you mean --{close[0]}?" if close else ""
        raise UserError(f"Unknown flag --{error.flagname}.{hint}\n{EXPECTED}") from None
    except flags.Error as error:
        raise UserError(f"{error}\n  expected: keys and types as in {shipped.shown('configs/base.py')}") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        where = f" in line {lines[-1]}" if lines else ""
        raise UserError(f"Config file {path} fails{where}: {type(error).__name__}: {error}") from None


def config_files() -> list[Path]:
    """Every config that --config can name, those of ./configs first."""
    return [file for folder in _config_folders() for file in sorted(folder.glob("*.py")) if _is_task(file)]


def list_configs() -> str:
    """A line for messages: every config that --config can name."""
    return f"  known:    {', '.join(sorted({str(Path(CONFIGS, file.name)) for file in config_files()}))}"


def _is_task(file: Path) -> bool:
    return not file.stem.startswith(NO_TASK)


def completion(argv: list[str]) -> str:
    """The script that --completion SHELL, or --completion=SHELL, prints; other words but --quiet are refused. Raises
    UserError for these, and for a shell that none is for."""
    words = [word for each in argv[1:] if each != "--quiet" for word in each.split("=", 1)]
    shell = words[1] if words[0] == "--completion" and len(words) == 2 else " ".join(words[1:])
    files = config_files()
    for file in files[:1]:
        _let_import_configs(file)
    return complete.script(shell, files, FLAGS)


def usage(text: str | None) -> str:
    """What --help prints, one screen. text: the program's docstring, which calls it 'python main.py'."""
    about = (text or "").replace("python main.py", shipped.program()).rstrip()
    keys = [shipped.shown(f"configs/{name}.py") for name in ("base", "base_evaluation")]
    names = ", ".join(sorted({file.stem for file in config_files()}))
    listed = textwrap.fill(names, 110, initial_indent="  configs:  ", subsequent_indent=" " * 12)
    return f"{about}\n\n{listed}\n  keys:     {keys[0]}, of evaluations {keys[1]}"
