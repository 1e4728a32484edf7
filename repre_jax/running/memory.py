"""A device's memory: how much there is, how much of it a program takes, and what to say when it is full."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from repre_jax.core.errors import UserError

HALF = ("bfloat16", "float16")  # of config.dtype, which take half the memory
CONTAINER = ("memory.max", "memory.current")
FULL = "RESOURCE_EXHAUSTED"  # in XLA's error, where a device's memory does not suffice


def per_device() -> int:
    """Bytes that programs may take on each of this process's devices: what the accelerator says; of a CPU its equal
    share of the memory that is free now, within the limit of the container (cgroup v2) that the process is in.

    Raises UserError for a device that does not tell.
    """
    devices = jax.local_devices()
    if told := (devices[0].memory_stats() or {}).get("bytes_limit"):
        return told
    available = _available()
    if devices[0].platform != "cpu" or available is None:
        raise UserError("No device tells how much memory it has.\n  change:   --config.batch_size to a number")
    return min(available, *_left_in_container(), available) // len(devices)


def _available() -> int | None:
    """Of the machine, with what the system would give up for it; None where Linux does not tell."""
    info = Path("/proc/meminfo")
    found = re.search(r"MemAvailable: *(\d+) kB", info.read_text()) if info.exists() else None
    return int(found[1]) << 10 if found else None


def _left_in_container() -> list[int]:
    folder = Path("/sys/fs/cgroup")
    numbers = [(folder / name).read_text().strip() for name in CONTAINER if (folder / name).exists()]
    return [int(numbers[0]) - int(numbers[1])] if len(numbers) == 2 and numbers[0] != "max" else []


def of_program(compiled: jax.stages.Compiled) -> int:
    """Bytes that a compiled program holds at most on a device, as XLA has planned it: arguments, results that are not
    written over them, and whatever lies between."""
    plan = compiled.memory_analysis()
    if plan is None:
        raise UserError("XLA does not plan memory for this device.\n  change:   --config.batch_size to a number")
    results = plan.output_size_in_bytes - plan.alias_size_in_bytes
    return plan.argument_size_in_bytes + results + plan.temp_size_in_bytes


def gib(count: float) -> str:
    """For people: '1.20 GiB'."""
    return f"{count / 2**30:,.2f} GiB"


def settings(config: ConfigDict, devices: int) -> dict[str, Any]:
    """What `lighter` and `explain` ask of a config, for steps on so many devices."""
    return {
        "batch_size": config.batch_size,
        "devices": devices,
        "accumulate": config.get("accumulate"),
        "remat": config.encoder.remat,
        "remat_mlp": config.encoder.remat_mlp,
        "shard_state": config.get("shard_state"),
    }


def of_config(config: ConfigDict, devices: int) -> contextlib.AbstractContextManager[None]:
    """`explained` with a config's settings, of steps on so many devices."""
    return explained(**settings(config, devices))


@contextlib.contextmanager
def explained(how: Callable[..., UserError] | None = None, **settings: Any) -> Iterator[None]:
    """Turns XLA's error into that of `how`, else of `explain`, with these settings."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if FULL not in str(error):
            raise
        raise (how or explain)(error, **settings) from error


def of_images(error: Exception, *, images: int, dtype: str) -> UserError:
    """Where a device has as many images at once whatever the batch is, as in measuring a segmentation."""
    half = "" if dtype in HALF else "--config.dtype=bfloat16, or "
    return UserError(
        f"A device ran out of memory. It had {images} image{'s' * (images > 1)} at once, which no key makes fewer.\n"
        f"  given:    {str(error).strip().splitlines()[0]}\n"
        f"  change:   {half}JAX_PLATFORMS=cpu before the command, which then has the machine's memory"
    )


def lighter(
    *,
    batch_size: int,
    devices: int,
    accumulate: int | None = None,
    remat: bool = True,
    remat_mlp: bool = True,
    shard_state: bool | None = None,
) -> list[str]:
    """What would make a step need less memory, what costs least first, each as a flag and what it does.

    batch_size: over all devices. The rest are the config's settings, those that an evaluation has not left out.
    """
    trains, accumulate = accumulate is not None, accumulate or 1
    share = batch_size // devices
    finer = [n for n in range(2 * accumulate, batch_size // 2 + 1, accumulate) if batch_size % (devices * n) == 0]
    smaller = batch_size // 2 // (devices * accumulate) * devices * accumulate
    changes = []
    if trains and finer:
        changes.append(
            f"--config.accumulate={finer[0]} ({share // finer[0]:,} images a device at once; "
            "the table at the start says what negatives and BatchNorm then see)"
        )
    if not remat and not remat_mlp:
        changes.append("--config.encoder.remat_mlp=True (the GELU of each block is computed twice)")
    if not remat:
        changes.append("--config.encoder.remat=True (each block is computed twice)")
    if devices > 1 and shard_state is False:
        changes.append(
            f"--config.shard_state=True (parameters, target and optimiser state split over {devices} devices)"
        )
    if smaller >= (2 * accumulate if trains else 1):
        changes.append(f"--config.batch_size={smaller} ({smaller // devices:,} images a device)")
    return changes


def explain(
    error: Exception, *, batch_size: int, devices: int, accumulate: int | None = None, **more: Any
) -> UserError:
    """How much each device had to do, and what would make it less; batch_size and the rest as `lighter` has them."""
    share, parts = batch_size // devices, accumulate or 1
    images = f"{share:,} images a step" + (f", {share // parts:,} at once" if parts > 1 else "")
    changes = lighter(batch_size=batch_size, devices=devices, accumulate=accumulate, **more)
    lines = "\n".join(f"            {number}. {change}" for number, change in enumerate(changes, start=1))
    whose = f"Each of {devices} devices" if devices > 1 else "The device"
    return UserError(
        f"A device ran out of memory. {whose} had {images}, of a batch_size of {batch_size:,}.\n"
        f"  given:    {str(error).strip().splitlines()[0]}"
        + (f"\n  change:   in this order\n{lines}" if changes else "")
    )
