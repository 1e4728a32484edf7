"""Python, the packages that a run needs, and whether JAX's own parts fit together, all from installed metadata."""

import re
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from repre_jax.tools.checkup import Problem, Section

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PYTHON = (3, 11)  # pyproject.toml's requires-python
PLUGINS = {"jax-cuda12-plugin": "cuda12", "jax-cuda13-plugin": "cuda13", "libtpu": "tpu"}  # and jax's extra


def requirements(root: Path) -> list[str]:
    """The lines of root/requirements.txt, which a clone has, else what the installed repre_jax asks for."""
    file = root / "requirements.txt"
    if file.is_file():
        written = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
        return [line for line in written if line and not line.startswith("-")]
    try:
        needed = metadata.requires("repre_jax") or []
    except metadata.PackageNotFoundError:
        return []
    return [line for line in needed if not re.search(r";.*\bextra\b", line)]  # what its extras add is not needed


def installed(name: str, path: Sequence[str]) -> str | None:
    """The version of the distribution that lies in one of the folders of `path`, else None."""
    distribution = _distribution(name, path)
    if distribution is None:
        return None
    return distribution.version or "of unknown version"  # an interrupted installation leaves no METADATA


def accelerators(path: Sequence[str]) -> set[str]:
    """Those of cuda12, cuda13 and tpu that JAX is installed for."""
    return {extra for name, extra in PLUGINS.items() if installed(name, path)}


def check(lines: Sequence[str], path: Sequence[str], extras: Collection[str]) -> Section:
    """Compares what lies on `path` with these requirements, and JAX's parts with each other.

    extras: those of PLUGINS that jax should be installed with.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    rows, problems = [("Python", f"{version}, {sys.executable}")], []
    if sys.version_info < PYTHON:
        problems.append(Problem(f"Python is {version}; 3.11 or newer is needed.", "make demo PYTHON=/path/to/python3"))
    if not lines:
        rows.append(("packages", "not compared: no requirements.txt beside repre_jax, and it is not installed"))
        return Section(rows, problems)
    try:
        from packaging.requirements import Requirement
    except ImportError:
        rows += [(name, installed(name, path) or "missing") for name in map(_name, lines)]
        what = "The package packaging is missing, so versions were not compared with the bounds."
        return Section(rows, [*problems, Problem(what, pip_install([*lines, "packaging"], extras))])
    wrong = {}
    for wanted in map(Requirement, lines):
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        version_there = installed(wanted.name, path)
        fits = version_there is not None and _fits(version_there, wanted)
        rows.append((wanted.name, (version_there or "missing") + ("" if fits else f", wanted: {wanted.specifier}")))
        if not fits:
            wrong[f"{wanted.name}{wanted.specifier}"] = f"{wanted.name} {version_there or '(missing)'}"
    if wrong:
        what = f"Not as repre_jax needs it: {', '.join(wrong.values())}."
        problems.append(Problem(what, pip_install(list(wrong), extras)))
    faults = list(dict.fromkeys(_faults_of_jax(path)))
    if faults:
        jax = next((line for line in lines if _name(line) == "jax"), "jax")
        problems.append(Problem(f"{'; '.join(faults)}.", pip_install([jax], extras)))
    parts = [(name, installed(name, path)) for name in ("jaxlib", *PLUGINS)]
    return Section([*rows, *((name, version) for name, version in parts if version)], problems)


def pip_install(lines: Sequence[str], extras: Collection[str]) -> str:
    """The command that installs these requirements into this Python, jax with these extras."""
    names = ",".join(sorted(extras))
    plain = [line.partition(";")[0].strip() for line in lines]
    return shlex.join(
        ["python", "-m", "pip", "install"]
        + [line.replace("jax", f"jax[{names}]", 1) if names and _name(line) == "jax" else line for line in plain]
    )


def _faults_of_jax(path: Sequence[str]) -> Iterator[str]:
    """What jax's and its plugins' own metadata ask for and is not so."""
    from packaging.requirements import Requirement

    extras = ["", "with-cuda", *accelerators(path)]
    for owner in ("jax", *PLUGINS):
        distribution, version = _distribution(owner, path), installed(owner, path)
        if distribution is None:
            continue
        for part in map(Requirement, distribution.requires or []):
            marker = part.marker
            always = marker is None or marker.evaluate({"extra": ""})
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
                continue
            there = installed(part.name, path)
            if there is None and always:
                yield f"{owner} {version} needs {part.name}, which is missing"
            elif there and not _fits(there, part):
                yield f"{owner} {version} needs {part.name}{part.specifier}, but {there} is installed"


def _distribution(name: str, path: Sequence[str]) -> metadata.Distribution | None:
    return next(iter(metadata.distributions(name=name, path=list(path))), None)


def _fits(version: str, wanted: "Requirement") -> bool:
    from packaging.version import InvalidVersion

    try:
        return wanted.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _name(line: str) -> str:
    match = re.match(r"[\w.-]+", line)
    return match[0] if match else line
