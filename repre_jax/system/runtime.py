"""JAX's own runtime, started: one process or many, and how each of them ends.

To be entered once, before anything asks JAX for its devices: flags of XLA are read when the first is asked for.
"""

import contextlib
import hashlib
import multiprocessing
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from repre_jax.core.errors import Stopped, UserError
from repre_jax.system import terminal
from repre_jax.system.cluster import Place, find
from repre_jax.system.peers import GRACE, Peers

# No kernel that adds in varying order, and none chosen by its measured speed. --xla_gpu_deterministic_ops, which wants
# both, is said to fail where autotuning is the only way to a kernel.
DETERMINISTIC = ("--xla_gpu_exclude_nondeterministic_ops=true", "--xla_gpu_autotune_level=0")
HEARTBEAT = 100  # seconds, JAX's default
A_DAY = 86400
GO_ON = "The same command, in every process, goes on from the last checkpoint, if there is one."
_PEERS: list[Peers] = []  # this process's connection to the others, as global as JAX's runtime is
_ENDING = threading.Lock()  # held by the thread that ends the process; only one has the word


def is_main() -> bool:
    """Whether this is the process that writes what every process knows: logs, results, figures."""
    return jax.process_index() == 0


def label() -> str:
    """For example 'Process 1 of 2 on node7'."""
    return _name(jax.process_index(), jax.process_count())


def end_process(text: str, status: int = 1) -> NoReturn:
    """Prints `text`, tells the other processes and ends this one, from any thread, whatever the others wait for."""
    if not _ENDING.acquire(blocking=False):
        time.sleep(A_DAY)
    with contextlib.suppress(OSError):  # its terminal may have closed
        print(text, file=sys.stderr, flush=True)
    for peers in _PEERS:
        peers.failed(text)
        if peers.process == 0:
            time.sleep(2 * GRACE)  # JAX aborts the others as soon as this process is gone; they are to speak first
    for child in multiprocessing.active_children():  # those that read data
        child.terminate()
    os._exit(status)


@contextlib.contextmanager
def started(
    *,
    deterministic: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout: int = 300,
    step_timeout: int = 0,
) -> Iterator[None]:
    """While entered, JAX runs in as many processes as the three flags, or the environment, say; one without either.

    deterministic: bit-equal results on GPUs. timeout: seconds that the processes wait for each other at the start.
    step_timeout:  seconds after which the watchdog ends a process; JAX's own heartbeat waits longer than that.

    With many processes only process 0 has a standard output from here on, and one that leaves by an exception says
    which one it is, tells the others and ends at once. Raises UserError when the processes do not come together.
    """
    if deterministic:
        os.environ["XLA_FLAGS"] = " ".join([*DETERMINISTIC, os.environ.get("XLA_FLAGS", "")]).strip()
    place = find(coordinator, processes, process, os.environ, timeout)
    if place is None:
        yield
        return
    who = _name(place.process, place.processes)
    _meet(place, who, timeout)
    try:
        _initialize(place, who, timeout, step_timeout)
        yield
        _finish()
    except Stopped:  # in every process, after the same step
        _finish()
        raise
    except UserError as error:
        end_process(f"{who}: {error}", error.status)
    except KeyboardInterrupt:
        end_process(f"{who}: interrupted. {GO_ON}", 130)
    except BaseException:
        time.sleep(2 * GRACE)  # mostly because another process has ended; then the connection to it says so first
        end_process(f"{traceback.format_exc()}\n{who} failed, see above. {GO_ON}")


def largest(number: int) -> int:
    """Of the numbers that all processes have."""
    return number if jax.process_count() == 1 else int(multihost_utils.process_allgather(np.int32(number)).max())


def check_same(what: str, mine: Mapping[str, object]) -> None:
    """Raises UserError, in every process, unless all have the same texts under the same keys, with those that differ.

    Without this, a process that does something else than the others would make all of them wait for ever.
    what: names the whole in the message, as in 'config'.
    """
    if jax.process_count() == 1:
        return
    keys = sorted(mine)
    _compare(what, {"its keys": keys}, ["its keys"])
    _compare(what, mine, keys)


def _compare(what: str, mine: Mapping[str, object], keys: list[str]) -> None:
    digests = [hashlib.sha256(str(mine[key]).encode()).digest()[:8] for key in keys]
    of_all = multihost_utils.process_allgather(np.frombuffer(b"".join(digests), np.uint32).reshape(len(keys), 2))
    differs = (of_all != of_all[0]).any(axis=-1)  # [processes, keys]
    if differs.any():
        others = ", ".join(str(process) for process in np.flatnonzero(differs.any(axis=1)))
        lines = "\n".join(f"  {keys[key]}: {mine[keys[key]]}" for key in np.flatnonzero(differs.any(axis=0)))
        raise UserError(
            f"Process 0 and process {others} have another {what}. Here:\n{lines}\n"
            "  expected: the same command, code and data in every process, and a --workdir that all hosts share"
        )


def _name(process: int | None, processes: int | None) -> str:
    return f"Process {'?' if process is None else process} of {processes or '?'} on {platform.node()}"


def _meet(place: Place, who: str, timeout: int) -> None:
    if place.coordinator and place.processes is not None and place.process is not None:
        try:
            _PEERS[:] = [Peers(place.coordinator, place.processes, place.process, platform.node(), timeout)]
        except UserError as error:
            raise UserError(f"{who}: {error}") from None


def _initialize(place: Place, who: str, timeout: int, step_timeout: int) -> None:
    """Starts JAX's service and the devices, says what is there, and silences all processes but one."""
    heartbeat = HEARTBEAT
    for peers in _PEERS:
        peers.watch(_another_ended)
        heartbeat = max(timeout, 2 * step_timeout) if step_timeout else A_DAY  # the watchdog is to speak first
    jax.config.update("jax_enable_preemption_service", False)  # it would keep SIGTERM to itself
    ready = threading.Event()
    threading.Thread(target=_limit, args=(ready, timeout, who), daemon=True).start()
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        local_device_ids=place.local_device,
        cluster_detection_method=place.method,
        initialization_timeout=timeout + 60,  # at its end JAX aborts the process
        heartbeat_timeout_seconds=heartbeat,
    )
    devices = jax.local_devices()
    ready.set()
    terminal.say(f"{label()}: {len(devices)} x {devices[0].platform}")
    if not is_main():
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def _limit(ready: threading.Event, timeout: int, who: str) -> None:
    if not ready.wait(timeout):
        end_process(
            f"{who}: JAX did not start in all processes within {timeout} s.\n"
            "  change:   look at the output of the others; --config.distributed.timeout=SECONDS if they need longer"
        )


def _another_ended(text: str) -> None:
    """In the thread that watches the others: whatever this process computes cannot be finished any more."""
    end_process(f"{label()} ends, because another one did. {GO_ON}\n  the other: {text}")


def _finish() -> None:
    """Ends the connections when every process has come here."""
    sys.stdout.flush()
    for peers in _PEERS:
        peers.finished()
    jax.distributed.shutdown()
    for peers in _PEERS:
        peers.close()
