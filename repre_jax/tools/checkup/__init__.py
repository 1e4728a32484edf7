"""What tools/doctor.py looks at, a file each. Only the standard library is imported before it is known to be there."""

from typing import NamedTuple

NEW = "install into a new environment, as the repository's docs/install.md says under 'Without make'"


class Problem(NamedTuple):
    """What is wrong, and what mends it."""

    what: str
    fix: str


class Section(NamedTuple):
    """Rows of a name and a value to print, and the problems found on the way."""

    rows: list[tuple[str, str]]
    problems: list[Problem]


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
