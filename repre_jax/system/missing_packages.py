"""What a start without the packages is told: the way to them, not the traceback of an import."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Around imports: ends the process, with status 1, where they want a package that this Python does not have."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("repre_jax"):
            raise
        sys.exit(
            f"The package {error.name} is not installed for {sys.executable}.\n"
            "  change:   activate the environment that has it, as in  . .venv/bin/activate; or\n"
            "            pip install -r requirements.txt  (python -m repre_jax.tools.doctor lists what is missing)"
        )
