"""The mark that keeps other runs out of a workdir in a bucket."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.running import bucket_mark
from repre_jax.running.workdir import is_locked, lock_token, locked
from repre_jax.system import process_names
from tests.helpers import bucket
from tests.helpers.patience import HANGS

ROOT = Path(__file__).resolve().parents[2]


def test_a_workdir_is_for_one_process(folder, monkeypatch, capsys):
    """One that beats is alive; a killed one of this host is known to be dead at once, of another after some silence."""
    monkeypatch.setattr(bucket_mark, "BEAT", 1.0)
    monkeypatch.setattr(bucket_mark, "SETTLING", 0.01)
    mark = folder / run_files.LOCK
    with locked(folder):
        token = lock_token(folder)
        assert len(token) == 32 and is_locked(folder)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(process_names.platform, "node", lambda: "elsewhere")
            with pytest.raises(UserError, match="Another process is at work in gs://"), locked(folder):
                pass
        assert "waiting up to 3 s for a sign of it" in capsys.readouterr().out
        assert lock_token(folder) == token
    assert not run_files.exists(mark) and not is_locked(folder)

    run_files.replace(mark, "token\nelsewhere 1\n0\n")
    assert is_locked(folder)
    with locked(folder):  # after the silence
        token = lock_token(folder)
        assert token != "token"
        run_files.remove(mark)
        time.sleep(1.5)
        assert lock_token(folder) == token, "a mark that was only removed is written again"
    capsys.readouterr()

    dead = subprocess.Popen(["true"])
    dead.wait()
    run_files.replace(mark, f"token\n{platform.node()}/0/1 {dead.pid}\n0\n")
    assert is_locked(folder), "a container of this host's name: its processes are not seen here"
    run_files.replace(mark, f"token\n{process_names.place()} {dead.pid}\n0\n")
    assert not is_locked(folder)
    with locked(folder):
        assert "waiting" not in capsys.readouterr().out


HOLDER = """
import sys, time
from repre_jax.core import config_paths
from repre_jax.running import bucket_mark, workdir
bucket_mark.BEAT = 0.5
with workdir.locked(config_paths.absolute(sys.argv[1])):
    print("in", flush=True)
    time.sleep(600)
"""


def test_who_lost_the_workdir_writes_nothing_more(folder, server):
    """As after a pause of the whole process: it ends at its next sign of life, whatever it is doing."""
    command, variables = [sys.executable, "-c", HOLDER, str(folder)], os.environ | bucket.variables(server)
    with subprocess.Popen(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout.readline() == "in\n"
            run_files.replace(folder / run_files.LOCK, "token\nelsewhere 1\n0\n")
            assert holder.wait(timeout=HANGS) == 1
        finally:
            holder.kill()
        assert f"Another process has taken over {folder}, " in holder.stderr.read()
    assert lock_token(folder) == "token", "whose mark it is not"


def test_of_two_that_find_no_mark_one_has_the_workdir(folder, monkeypatch):
    """The other one's is written after this one has looked, however long this one's writing takes."""
    look = bucket_mark._is_left_by_a_dead_one

    def look_before_the_other(folder):
        found = look(folder)
        run_files.replace(folder / run_files.LOCK, "token\nelsewhere 1\n0\n")
        return found

    monkeypatch.setattr(bucket_mark, "_is_left_by_a_dead_one", look_before_the_other)
    with pytest.raises(UserError, match="Another process is at work in gs://"), locked(folder):
        pass
    assert lock_token(folder) == "token"


def test_of_two_that_take_over_a_dead_ones_mark_the_last_has_the_workdir(folder, monkeypatch):
    with subprocess.Popen(["true"]) as dead:
        pass
    run_files.replace(folder / run_files.LOCK, f"dead\n{process_names.place()} {dead.pid}\n0\n")

    def the_other_writes(seconds):
        assert seconds == bucket_mark.SETTLING and lock_token(folder) != "dead"
        run_files.replace(folder / run_files.LOCK, "token\nelsewhere 1\n0\n")

    monkeypatch.setattr(bucket_mark, "time", SimpleNamespace(sleep=the_other_writes))
    with pytest.raises(UserError, match="Another process is at work in gs://"), locked(folder):
        pass
    assert lock_token(folder) == "token"
