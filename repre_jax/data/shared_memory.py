"""/dev/shm, through which worker processes hand over batches: whether it has room for them.

A worker that writes where there is no room left is killed by the kernel, SIGBUS, without a word. Docker gives 64 MB.
"""

import os
import sys
from pathlib import Path

from repre_jax.core.errors import UserError
from repre_jax.system import terminal

PLACE = Path("/dev/shm")
FOR_EACH = 4  # batches of a worker, at most: two read ahead, one in its queue, one being written
ELSEWHERE = 2  # on their way to the devices


def check(batch: int, workers: int, place: Path = PLACE) -> None:
    """batch: bytes of one that a worker hands over. workers: how many processes.

    Raises UserError where not even one batch of each worker fits, and warns where not all do that are read ahead: a
    run that waits for its data may never hold so many.
    """
    if not workers or sys.platform != "linux":
        return
    try:
        found = os.statvfs(place)
        fault = None if os.access(place, os.W_OK | os.X_OK) else f"{place} cannot be written to"
    except OSError as error:
        fault = f"{place}: {error.strerror}"
    if fault:
        raise UserError(
            f"{fault}; the processes that read data hand over their batches through it.\n"
            "  change:   --config.data.workers=0, for threads of this process; or mount it, as Docker does"
        )
    free = found.f_bavail * found.f_frsize
    most = batch * (FOR_EACH * workers + ELSEWHERE)
    if free >= most:
        return
    fitting = max(0, (free // batch - ELSEWHERE) // FOR_EACH)
    text = (
        f"{size(free)} of shared memory are free in {place}; {workers} workers hand over batches of {size(batch)} "
        f"through it, up to {size(most)} at once"
    )
    change = (
        f"  change:   docker run --shm-size={-(-most // 2**30)}g, or more; elsewhere a larger {place};\n"
        f"            or --config.data.workers={fitting}{'' if fitting else ', for threads of this process'}"
    )
    if free < batch * (workers + 1):
        raise UserError(f"{text}.\n{change}")
    terminal.warn(f"Warning: {text}: when it is full, the run ends.\n{change}")


def size(count: float) -> str:
    """For example '1.5 MiB' or '3 KiB'."""
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.0f} KiB"
