"""What a run was computed with: versions, devices, flags, commit."""

import os
import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "GLIBC_TUNABLES")  # and whatever begins with JAX_
ROOT = Path(__file__).resolve().parents[2]


def record(seed: int) -> dict[str, Any]:
    """For the run's record, as JSON holds it."""
    devices = jax.devices()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command(),
        "seed": seed,
        "host": platform.node(),
        "processes": jax.process_count(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "variables": {
            name: value for name, value in sorted(os.environ.items()) if name in VARIABLES or name.startswith("JAX_")
        },
        "commit": commit(),
    }


def command() -> str:
    """This process's command line, to be typed again in the same folder."""
    module = getattr(sys.modules["__main__"], "__spec__", None)  # of python -m
    return shlex.join(
        ["python", *(["-m", module.name.removesuffix(".__main__"), *sys.argv[1:]] if module else sys.argv)]
    )


def commit() -> str | None:
    """Of this checkout, with '+ changes' when files differ from it; None outside of a checkout and without git."""
    try:
        if _git("rev-parse", "--show-toplevel") != str(ROOT):
            return None
        return _git("rev-parse", "HEAD") + (" + changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
