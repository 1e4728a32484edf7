"""Where main.py and configs/ lie: beside the package in a clone, within it in an installed wheel.

pyproject.toml puts them into the wheel as repre_jax/shipped, so that `configs` and `main`, names that other projects
use, too, do not become packages of the environment. Only the standard library is imported: tools/doctor.py needs this
where nothing else is installed.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SCRIPT = "repre-jax"  # the command that a wheel installs


def is_clone() -> bool:
    """Whether this package lies in a clone of the repository, as after `pip install --editable`, too."""
    return not (PACKAGE / "shipped").is_dir()


def root() -> Path:
    """The folder that holds main.py and configs/."""
    return PACKAGE.parent if is_clone() else PACKAGE / "shipped"


def program() -> str:
    """How messages write the command: 'python main.py' in a clone, else 'repre-jax'."""
    return "python main.py" if is_clone() else SCRIPT


def shown(name: str) -> str:
    """A path to open for a file such as 'configs/base.py': that itself if it is there, else the absolute one."""
    return name if Path(name).is_file() else str(root() / name)
