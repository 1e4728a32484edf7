"""A row of Table 4 and its baseline, computed for real: killed and gone on with, and by hand in another order."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from repre_jax.core import run_files
from repre_jax.reproduction import cells, finished, tables
from repre_jax.reproduction.scales import SCALES
from tests.helpers.patience import HANGS

ROOT = Path(__file__).resolve().parent.parent
ONLY = "moco_vit_s"
TABLE = tables.table("table4", SCALES["tiny"])
NAMES = {run.name for run in TABLE.in_order(range(1), ONLY)}
FIRST = next(next(TABLE.in_order(range(1), ONLY)).lineage()).name


def command(workdir, *more):
    arguments = ["table4", "--scale", "tiny", "--seeds", "1", "--only", ONLY, "--workdir", str(workdir)]
    return [sys.executable, "-m", "repre_jax.tools.reproduce", *arguments, *more]


def rows(workdir):
    """What the table says, but for where and when it was computed."""
    return json.loads((workdir / "results" / "tiny" / "table4.json").read_text())["rows"]


def printed(workdir, *more):
    done = subprocess.run(command(workdir, *more), check=False, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_killed_table_goes_on_and_a_job_list_in_another_order_gives_the_same(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    child = subprocess.Popen(command(ours), cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    until = time.monotonic() + HANGS
    while not list((ours / FIRST / run_files.CHECKPOINTS).glob("*.manifest.json")) and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)  # and the run itself with it
    child.wait()
    assert not (ours / "results" / cells.FOLDER).exists()
    printed(ours)
    starts = [json.loads(line) for line in (ours / FIRST / run_files.STARTS).read_text().splitlines()]
    assert len(starts) == 2 and starts[1]["step"] > 0
    assert {path.stem for path in (ours / "results" / cells.FOLDER).iterdir()} == NAMES
    assert printed(ours, "--dry-run") == f"{len(NAMES)} of {len(NAMES)} cells are there; 0 runs to do.\n"

    jobs = printed(theirs, "--print-commands").splitlines()
    last_first = sorted(jobs, key=lambda line: ("init_from" in line, -jobs.index(line)))  # probes need their encoders
    for job in last_first:
        _, *arguments = shlex.split(job)
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=HANGS)
    assert "Waiting" not in printed(theirs) and "[1 of" not in printed(theirs)
    assert rows(theirs) == rows(ours)


@pytest.mark.slow
def test_a_failed_run_is_named_with_its_log_and_the_others_are_done(tmp_path):
    broken = tmp_path / FIRST
    broken.mkdir()
    (broken / run_files.CHECKPOINTS).write_text("in the way")
    done = subprocess.run(command(tmp_path), check=False, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)
    log = tmp_path / finished.LOGS / f"{FIRST}.log"
    assert done.returncode == 1 and f"{FIRST}, see {log}" in done.stdout and log.stat().st_size
    there = {path.stem for path in (tmp_path / "results" / cells.FOLDER).iterdir()}
    assert there == {name for name in NAMES if not name.startswith(FIRST)}
