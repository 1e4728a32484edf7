"""The watchdog of a run: when it ends a process that waits for others, and when not."""

import signal
import time

import psutil

from repre_jax.running import watchdog as watchdog_module
from repre_jax.running.watchdog import Watchdog
from tests.helpers.hosts import started
from tests.helpers.patience import HANGS


def test_the_watchdog_bites_only_when_nothing_new_is_told(monkeypatch):
    monkeypatch.setattr(watchdog_module, "TICK", 0.25)
    said = []
    with Watchdog(2, "Process 4 of 5 on here", said.append) as watchdog:
        for step in range(4):
            watchdog.doing(f"Step {step}: waiting for data")
            time.sleep(0.6)
        watchdog.finished(7)
        assert not said
        time.sleep(4)
    assert len(said) == 1
    assert said[0].startswith(
        "Process 4 of 5 on here hangs. Step 3: waiting for data, for 2 s; the last finished step: step 7."
    )
    with Watchdog(0, "", said.append):
        time.sleep(0.6)
    assert len(said) == 1


def test_a_suspended_process_has_not_waited():
    code = (
        "import os, signal, time; from repre_jax.running.watchdog import Watchdog\n"
        "with Watchdog(6, '', lambda text: os._exit(7)):\n"
        "    os.kill(os.getpid(), signal.SIGSTOP); time.sleep(1.5)\n"
    )
    with started(["-c", code]) as (child,):
        process, deadline = psutil.Process(child.pid), time.monotonic() + HANGS
        while process.status() != psutil.STATUS_STOPPED:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(7)
        child.send_signal(signal.SIGCONT)
        assert child.wait(timeout=HANGS) == 0
