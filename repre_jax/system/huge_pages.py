"""Memory in pages of 2 MiB for what XLA computes on the CPU.

XLA takes a program's memory anew for each step and gives it back after it. In pages of 4 KiB the kernel spends up to a
third of all processor time on handing it out (benchmarks/log.md). glibc asks for larger ones where GLIBC_TUNABLES says
so when a process starts.
"""

import contextlib
import os
import platform
import re
import sys
from pathlib import Path

VARIABLE, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"  # known since glibc 2.35
RESTARTED = "REPRE_JAX_RESTARTED"  # prevents a loop where the loader drops the variable, as for capabilities
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart() -> None:
    """Executes this program once more, with its process id and arguments, where glibc then asks for larger pages.

    Returns where it does already, could not get them, or was told not to: by GLIBC_TUNABLES=glibc.malloc.hugetlb=0.
    For a program's own file, best before its long imports. Processes that it starts get larger pages, too.
    """
    restarted = os.environ.pop(RESTARTED, None)
    with contextlib.suppress(OSError, ValueError):  # then steps only take longer
        if not restarted and _is_program() and _lacking():
            tunables = ":".join(filter(None, (os.environ.get(VARIABLE), f"{TUNABLE}=1")))
            variables = os.environ | {VARIABLE: tunables, RESTARTED: "1"}
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)


def _is_program() -> bool:
    """Whether Python was started for this file or module and nothing else: no debugger, IPython or pipe, whose session
    would be lost."""
    module = getattr(sys.modules["__main__"], "__spec__", None)  # of python -m
    own = ["-m", module.name.removesuffix(".__main__"), *sys.argv[1:]] if module else sys.argv
    options = sys.orig_argv[1 : -len(own)]
    alone = sys.orig_argv[-len(own) :] == own and all(re.match("-[^m]", option) for option in options)
    return alone and Path(sys.argv[0]).is_file()


def _lacking() -> bool:
    """Whether the kernel hands out larger pages to those who ask, and this process does not ask."""
    library, version = platform.libc_ver() if sys.platform == "linux" else ("", "")
    known = library == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)
    asked = TUNABLE in os.environ.get(VARIABLE, "")
    return known and not asked and SETTING.is_file() and "[madvise]" in SETTING.read_text()
