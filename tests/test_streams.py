"""Programs without standard streams, and those whose terminal closes: processes of their own, with real terminals."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from repre_jax.system.shipped import root

SAVES = """
import sys, time
from pathlib import Path
from repre_jax.core.errors import Stopped
from repre_jax.running.signals import StopRequest
from repre_jax.system import terminal
from repre_jax.system.command_line import ending

begun = time.monotonic()
with ending("Interrupted.") as this, StopRequest() as stop:
    terminal.warn("ready")
    while stop.signal is None and time.monotonic() < begun + float(sys.argv[2]):
        time.sleep(0.02)
    for line in range(3):  # of the step at hand
        terminal.warn(f"line {line}")
        with terminal.bar(2, "evaluating") as bar:
            bar.update(1)
    Path(sys.argv[1]).write_text("saved")
    terminal.warn("The summary.")
    if stop.signal:
        raise Stopped("Saved.", stop.number)
sys.exit(this.status)
"""


def in_a_terminal_that_closes(program, *arguments, ignored=False):
    """Runs a program as a terminal's, which closes once that has printed something; returns its exit status."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(root())
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)  # nohup's part
        os.execv(sys.executable, [sys.executable, "-c", program, *map(str, arguments)])
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_terminal_that_closes_stops_and_saves(tmp_path):
    assert in_a_terminal_that_closes(SAVES, tmp_path / "state", 60) == 128 + signal.SIGHUP
    assert (tmp_path / "state").read_text() == "saved"


def test_under_nohup_it_goes_on_though_nobody_reads_its_lines(tmp_path):
    assert in_a_terminal_that_closes(SAVES, tmp_path / "state", 2, ignored=True) == 0
    assert (tmp_path / "state").read_text() == "saved"


def test_before_anything_could_be_saved_it_just_ends():
    program = """
import sys, time
from repre_jax.system.command_line import ending
with ending("Interrupted.") as this:
    print("ready", flush=True)
    time.sleep(60)
sys.exit(this.status)
"""
    assert in_a_terminal_that_closes(program) == 128 + signal.SIGHUP


CLOSED = """
import sys
from pathlib import Path
from repre_jax.system import streams
streams.open_closed()
from repre_jax.system import terminal
terminal.warn("a line")
print("a result", flush=True)
print("an error", file=sys.stderr, flush=True)
with terminal.bar(2, "evaluating") as bar:
    bar.update(2)
with Path(sys.argv[1]).open("w") as file:
    file.write(f"descriptor {'0..2' if file.fileno() < 3 else 'of its own'}")
    import os
    os.write(1, b"from a library")
    os.write(2, b"from a library")
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path, closed):
    command = f'exec "$0" -c "$1" "$2" {closed}'
    subprocess.run(
        ["bash", "-c", command, sys.executable, CLOSED, tmp_path / "file"], cwd=root(), timeout=60, check=True
    )
    assert (tmp_path / "file").read_text() == "descriptor of its own"


def test_a_users_mistake_without_streams_still_has_its_status():
    command = 'exec "$0" -m repre_jax.tools.inspect gone >&- 2>&-'
    done = subprocess.run(["bash", "-c", command, sys.executable], cwd=root(), timeout=120, check=False)
    assert done.returncode == 1
