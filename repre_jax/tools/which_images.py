"""Which images the tools segment and detect read: of a data set, as a measurement of the run would, or pictures."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from repre_jax.core import config_paths, run_files
from repre_jax.core.errors import UserError
from repre_jax.data import listing
from repre_jax.probing import measured_again

SHORT = {"split": "test_split", "data": "name", "data_dir": "dir"}  # flags -> keys of data
KEY = re.compile(r"--?(?:no)?config\.data\.[^=]+=.*", re.DOTALL)


def add_flags(parser: argparse.ArgumentParser, classes: str) -> None:
    """classes: what the tool calls them."""
    parser.add_argument("--images", nargs="+", type=config_paths.local_argument, default=[], metavar="PATH")
    parser.add_argument("--split", help="of the data set, as TFDS writes it; else the run's test split")
    parser.add_argument(
        "--data", metavar="NAME", help=f"another data set of the same {classes}, with its own splits, or folder:PATH"
    )
    parser.add_argument("--data-dir", help="where data sets lie; else the run's")


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; `keys`: flags --config.data.KEY=VALUE among them. Any other flag ends the program, as argparse
    does it."""
    arguments, rest = parser.parse_known_args(argv)
    if wrong := [word for word in rest if not KEY.fullmatch(word)]:
        parser.error(
            f"unexpected argument {wrong[0]!r}; expected are those that --help names, and --config.data.KEY=VALUE"
        )
    arguments.keys = rest
    return arguments


def of_data_set(arguments: argparse.Namespace, trained: ConfigDict, run: Path) -> ConfigDict:
    """The config by which the images of a data set are read: the run's, but for what the flags say; another data set
    has splits of its own. Raises UserError for flags that cannot be."""
    short = {key: getattr(arguments, flag) for flag, key in SHORT.items()}
    flags = [f"--config.data.{key}={value}" for key, value in short.items() if value is not None]
    return measured_again.config_of(trained, run, [*flags, *arguments.keys])


def of_paths(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """The pictures at the paths given, and in folders: what each is called, below its folder, and where it lies.

    Raises UserError where there is nothing, a folder has none, or a data set is asked for, too.
    """
    if arguments.keys or any(getattr(arguments, flag) for flag in SHORT):
        raise UserError(
            "--images are of no data set.\n  change:   leave --split, --data, --data-dir and --config.data.* out"
        )
    found: list[tuple[str, Path]] = []
    for path in map(config_paths.absolute, arguments.images):
        if not run_files.is_folder(path):
            if not run_files.exists(path):
                raise UserError(f"{path} does not exist.\n  expected: paths of images, or of folders of them")
            found.append((path.name, path))
            continue
        inside = sorted(listing.list_images(path).files)
        if not inside:
            raise UserError(f"{path} has no images.\n  expected: {', '.join(listing.SUFFIXES)}")
        found += [(name, path / name) for name in inside]
    return found
