"""Processor seconds of a command and all that it starts, without a warm compile cache: what the tests cost.

python .ci/minutes.py make test prints as its last line: make test: 1,234 s user + system, 700 s wall
The exit status is the command's.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time


def measure(command: list[str]) -> tuple[int, float, float]:
    """(exit status, seconds of user and system time, seconds that passed)."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        status = subprocess.run(command, env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}, check=False).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return status, used.ru_utime + used.ru_stime, time.monotonic() - begun


if __name__ == "__main__":
    status, used, passed = measure(sys.argv[1:])
    print(f"{' '.join(sys.argv[1:])}: {used:,.0f} s user + system, {passed:,.0f} s wall")
    sys.exit(status)
