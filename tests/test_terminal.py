"""What is shown on the way: in a terminal, in a log file, and with --quiet."""

import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from repre_jax.system import terminal
from tests.helpers.runs import ROOT, TINY

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
BAR = "from repre_jax.system import terminal\nwith terminal.bar(2000, 'reading') as bar:\n    bar.update(500)"


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(terminal, "LOG_EVERY", 0.0)


def test_a_bar_in_a_log_file_is_a_line_now_and_then(often, capsys):
    with terminal.bar(2000, "reading", done=500) as bar:
        bar.update(500)
        bar.update(1000)
    said = capsys.readouterr().err
    assert not CONTROL.search(said)
    first, last = said.splitlines()
    assert re.fullmatch(r"reading: 1\.00k/2\.00k images, .+ images/s, \d\d:\d\d left", first)
    assert last.startswith("reading: 2.00k/2.00k images, ")


def test_a_short_task_says_nothing_in_a_log_file(capsys):
    with terminal.bar(10, "reading") as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""


def test_a_bar_moves_in_a_terminal():
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 80))
    subprocess.run([sys.executable, "-c", BAR], cwd=ROOT, stderr=follower, check=True)
    os.close(follower)
    assert "\r" in (said := os.read(leader, 10_000).decode()) and "500/2.00k" in said
    os.close(leader)


@pytest.mark.parametrize("argument", [{"shown": False}, {"in_log": False}])
def test_a_bar_can_be_another_process_s_or_the_terminal_s_alone(argument, often, capsys):
    with terminal.bar(10, "reading", **argument) as bar:
        bar.update(5)
    assert capsys.readouterr().err == ""


def test_quiet_leaves_out_what_is_no_warning(often, capsys):
    with terminal.quiet(True):
        terminal.say("step 1")
        terminal.warn("Warning: 1")
        with terminal.bar(10, "reading") as bar:
            bar.update(5)
    terminal.say("step 2")
    assert capsys.readouterr() == ("Warning: 1\nstep 2\n", "")


def test_a_quiet_run_prints_its_summary_alone(tmp_path):
    command = [*TINY, f"--workdir={tmp_path / 'run'}", "--config.total_steps=2"]
    done = subprocess.run([sys.executable, *command, "--quiet"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Summary:\n  steps")
    assert "step 2" not in done.stdout
    assert not CONTROL.search(done.stdout + done.stderr)


def test_a_name_that_is_no_text_can_be_printed():
    """A message that names a file must not end in an error of its own, whatever the terminal's encoding."""
    code = (
        "import sys\nfrom repre_jax.core.errors import UserError\nfrom repre_jax.system import command_line, terminal\n"
        "def run():\n    terminal.warn('caf\\udce9 \\u2192')\n    raise UserError('caf\\udce9 \\u2192')\n"
        "sys.exit(command_line.exit_status(run, ''))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert (child.returncode, child.stdout, child.stderr.splitlines()[-1]) == (
        1, b"caf\\udce9 \\u2192\n", b"caf\\udce9 \\u2192"
    )  # fmt: skip
