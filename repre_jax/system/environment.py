"""What a run was computed with: versions, devices, flags, commit."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from repre_jax.system import shipped

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
RESULTS = ("benchmarks/results", "docs/results")  # of a clone: what is measured by its code, and does not change it
VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "GLIBC_TUNABLES")  # and whatever begins with JAX_


def record(seed: int) -> dict[str, Any]:
    """For the run's record, as JSON holds it."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command(),
        "seed": seed,
        "host": platform.node(),
        "processes": jax.process_count(),
        "devices": devices(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "variables": {
            name: value for name, value in sorted(os.environ.items()) if name in VARIABLES or name.startswith("JAX_")
        },
        "commit": commit(),
    }


def devices() -> str:
    """Those of all processes, as '8 x NVIDIA H200'."""
    found = jax.devices()
    return f"{len(found)} x {found[0].device_kind}"


def command() -> str:
    """This process's command line, to be typed again in the same folder."""
    module = getattr(sys.modules["__main__"], "__spec__", None)  # of python -m
    if module:
        start = ["python", "-m", module.name.removesuffix(".__main__")]
    elif Path(sys.argv[0]).name == shipped.SCRIPT:
        start = [shipped.SCRIPT if shutil.which(shipped.SCRIPT) == sys.argv[0] else sys.argv[0]]  # or not on PATH
    else:
        start = ["python", sys.argv[0]]
    return shlex.join([*start, *sys.argv[1:]])


def commit() -> str | None:
    """Of this clone, with '+ changes' when files other than RESULTS differ from it; None for an installed wheel and
    without git."""
    if not shipped.is_clone():
        return None
    try:
        if _git("rev-parse", "--show-toplevel") != str(shipped.root()):
            return None
        left_out = [f":(exclude){folder}" for folder in RESULTS]
        return _git("rev-parse", "HEAD") + (" + changes" if _git("status", "--porcelain", "--", ".", *left_out) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=shipped.root(), capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
