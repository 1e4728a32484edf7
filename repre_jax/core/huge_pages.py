"""Memory in pages of 2 MiB for what XLA computes on the CPU.

XLA takes a program's memory anew for each step and gives it back after it. In pages of 4 KiB the kernel spends up to a
third of all processor time on handing it out (benchmarks/log.md). glibc asks for larger ones where GLIBC_TUNABLES says
so when a process starts.
"""

import os
import platform
import sys
from pathlib import Path

VARIABLE, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"  # known since glibc 2.35
RESTARTED = "REPRE_JAX_RESTARTED"  # for the time of a restart: a Python with capabilities loses the variable above
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart() -> None:
    """Starts this process's program anew, with its process id and arguments, where it gets larger pages by that.

    Returns where it has them, cannot get them, or the user's own GLIBC_TUNABLES speaks of them: hugetlb=0 refuses them.
    To be called by a program's own file, before anything that takes time. Processes that it starts get them, too.
    """
    restarted = os.environ.pop(RESTARTED, None)
    if not restarted and _is_program() and _lacking():
        tunables = ":".join(filter(None, (os.environ.get(VARIABLE), f"{TUNABLE}=1")))
        variables = os.environ | {VARIABLE: tunables, RESTARTED: "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)


def _is_program() -> bool:
    """Whether Python was started for what now runs; not in IPython's %run, whose session would be lost."""
    module = getattr(sys.modules["__main__"], "__spec__", None)  # of python -m
    return bool(sys.executable) and (module.name if module else sys.argv[0]) in sys.orig_argv


def _lacking() -> bool:
    """Whether the kernel hands out larger pages to those who ask, and this process does not ask."""
    library, version = platform.libc_ver()
    known = library == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)
    asked = TUNABLE in os.environ.get(VARIABLE, "")
    return known and not asked and SETTING.is_file() and "[madvise]" in SETTING.read_text()
