"""Processes of a run over loopback, each in a group of its own: how tests start, name and end them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.helpers.devices import xla_flags
from tests.helpers.patience import HANGS

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ["main.py", "--config", "configs/moco_vit_s.py:tiny"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def started(*commands, devices=1):
    """Processes of Python on the CPU, whatever else the machine has, each in a group of its own; none outlives the
    test."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices)}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    children = []
    try:
        for command in commands:
            children.append(
                subprocess.Popen(
                    [sys.executable, *command], cwd=ROOT, env=environment, start_new_session=True, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )
            )  # fmt: skip
        yield children
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def flags(port, process, processes=2, timeout=120):
    values = {"coordinator": f"127.0.0.1:{port}", "processes": processes, "process": process, "timeout": timeout}
    return [f"--config.distributed.{name}={value}" for name, value in values.items()]


def pair(workdir, *arguments):
    port = free_port()
    return [[*TINY, "--workdir", str(workdir), *flags(port, process), *arguments] for process in (0, 1)]


def child_pair(what, path):
    coordinator = f"127.0.0.1:{free_port()}"
    return [["tests/helpers/host_child.py", coordinator, str(process), what, str(path)] for process in (0, 1)]


def finish(children, timeout=HANGS):
    """(exit status, stdout, stderr) of each."""
    outputs = [child.communicate(timeout=timeout) for child in children]
    return [(child.returncode, *output) for child, output in zip(children, outputs, strict=True)]
