"""A name of the place where a process's number says which process it is, for marks that other machines read."""

import contextlib
import functools
import platform
from pathlib import Path


def place() -> str:
    """'HOST/BOOT/NAMESPACE'. Containers can share their host's name (docker --network=host) and not its processes;
    'HOST' alone where the system does not tell more, as outside of Linux."""
    return "/".join([platform.node(), *_namespace()])


@functools.cache
def _namespace() -> tuple[str, ...]:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot[:8], str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    return ()
