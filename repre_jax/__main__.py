"""`repre-jax` and `python -m repre_jax`: the command line of main.py, wherever the package is installed."""

import runpy
import sys

from repre_jax.system import huge_pages, shipped, streams


def main() -> int:
    """Runs main.py with this process's arguments; returns the exit status."""
    streams.open_closed()
    huge_pages.restart()  # before the imports that take a second
    return runpy.run_path(str(shipped.root() / "main.py"))["main"](sys.argv)


if __name__ == "__main__":
    sys.exit(main())
