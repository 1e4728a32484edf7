"""Real training processes are killed, at random instants and inside checkpoint writes, and started again.

The instants are other ones each time: whatever they are, the end must be the same. Starting over from step 0 would end
equal too, so each start must go on from the last whole checkpoint. A kill costs half an interval on average, one inside
a write a little more than a whole one: the bound, of an interval a kill and two of those inside a write, is far off.
"""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import orbax.checkpoint as ocp
import psutil
import pytest

from repre_jax.core import run_files
from tests.helpers.devices import xla_flags
from tests.helpers.patience import HANGS
from tests.helpers.pretraining import CONFIGS

ROOT = Path(__file__).resolve().parent.parent
STEPS, INTERVAL = 240, 10
STARTING, STEPPING, WRITING, ASKED = "while starting", "between two steps", "inside a checkpoint write", "by SIGTERM"


class Run:
    """`main.py` in a process group of its own, started as often as wanted."""

    def __init__(self, framework, workdir):
        self.workdir, self.log = workdir, workdir.with_suffix(".log")
        self.command = [
            sys.executable, "-u", "main.py", "--config", f"configs/{CONFIGS[framework]}.py:tiny",
            "--workdir", str(workdir), f"--config.total_steps={STEPS}", "--config.log_every=1",
            f"--config.checkpoint.every={INTERVAL}", "--config.checkpoint.keep=3",
        ]  # fmt: skip
        self.child = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child is not None:
            self.kill(signal.SIGKILL)
            assert [process for process in psutil.process_iter() if self.has(process)] == []

    def has(self, process):
        """Whether a process that still runs belongs to the group."""
        try:
            return os.getpgid(process.pid) == self.child.pid and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    def start(self):
        """One device, as most users have; children of the tests inherit two."""
        with self.log.open("w") as log:
            self.child = subprocess.Popen(
                self.command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"XLA_FLAGS": xla_flags(1)},
            )  # fmt: skip

    def kill(self, number):
        if self.child.poll() is None:
            os.killpg(self.child.pid, number)
        self.child.wait(timeout=HANGS)

    def until(self, reached):
        """Waits until `reached()`; False when the run has ended before."""
        deadline = time.monotonic() + HANGS
        while not reached():
            if self.child.poll() is not None:
                assert self.child.returncode == 0, self.log.read_text()
                return False
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.001)
        return True

    def step(self):
        """The last step that this start has logged."""
        found = re.findall(r"^step +(\d+)/", self.log.read_text(), re.MULTILINE)
        return int(found[-1]) if found else None

    def starts(self):
        file = self.workdir / "starts.jsonl"
        return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []

    def newest(self):
        """The newest step that has a manifest."""
        return max(
            (int(path.name.split(".")[0]) for path in self.workdir.glob("checkpoints/*.manifest.json")), default=0
        )

    def unfinished(self):
        """Folders of checkpoints that have no manifest yet."""
        folders = [path for path in (self.workdir / "checkpoints").glob("*") if path.is_dir()]
        return [path for path in folders if not path.with_name(path.name + ".manifest.json").exists()]


def last_whole(workdir):
    """By this test's own reading: the newest folder whose manifest lists exactly its files, as they are."""
    whole = [0]
    for path in (workdir / "checkpoints").glob("*.manifest.json"):
        folder = path.with_name(path.name.split(".")[0])
        files = {
            str(file.relative_to(folder)): {
                "bytes": file.stat().st_size,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
            for file in folder.rglob("*")
            if file.is_file()
        }
        whole += [int(folder.name)] if json.loads(path.read_text())["files"] == files else []
    return max(whole)


def final_state(workdir):
    return ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(STEPS) / "state")


def strike(run, how, dice):
    """Ends the process that has just started; whether it was still training."""
    begun = len(run.starts())
    if how == STARTING:
        time.sleep(dice.uniform(0.5, 4))
        run.kill(signal.SIGKILL)
        return True
    alive = run.until(lambda: len(run.starts()) == begun + 1 and run.step() is not None)
    if how == WRITING:
        before = run.newest()
        alive = alive and run.until(lambda: run.newest() > before) and run.until(run.unfinished)
    else:
        goal = (run.step() or 0) + dice.randint(1, 2 * INTERVAL)
        alive = alive and run.until(lambda: (run.step() or 0) >= goal)
        time.sleep(dice.uniform(0, 0.05))
    run.kill(signal.SIGTERM if how == ASKED else signal.SIGKILL)
    return alive


ONCE = (STEPPING, WRITING, ASKED, STARTING, STEPPING)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("framework", "kills"),
    [("moby", (*ONCE, STEPPING, WRITING, STEPPING, STEPPING, WRITING, STEPPING)), ("dino", ONCE)],
)
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(framework, kills, tmp_path):
    """With queues, and with local views. What other frameworks keep comes back to the bit in test_engine.py."""
    kills = list(kills)
    seed = time.time_ns()
    print(f"The instants' seed is {seed}.")
    dice = random.Random(seed)
    with Run(framework, tmp_path / "whole") as whole:
        whole.start()
        assert whole.child.wait(timeout=HANGS) == 0, whole.log.read_text()
    trained, ignored = 0, 0
    with Run(framework, tmp_path / "struck") as run:
        to_come = [*kills, None]
        while to_come:
            how = to_come.pop(0)
            expected, begun = last_whole(run.workdir), len(run.starts())
            run.start()
            if how is None:
                assert run.child.wait(timeout=HANGS) == 0, run.log.read_text()
            else:
                assert strike(run, how, dice), f"ended before it was struck {how}"
            assert "Traceback" not in run.log.read_text()
            if how == WRITING and not run.unfinished() and kills.count(WRITING) < 6:  # it came too late
                to_come.insert(0, WRITING)
                kills.append(WRITING)
            if how == ASKED:
                assert run.child.returncode == 128 + signal.SIGTERM
                assert f"Saved at step {last_whole(run.workdir)} of {STEPS}." in run.log.read_text()
            if len(run.starts()) > begun:  # else it was struck before it came so far
                assert run.starts()[begun:] == [expected]
                assert (f"Going on from step {expected} of" in run.log.read_text()) or expected == 0 or how == STARTING
                trained += max(run.step() or 0, expected) + 1 - expected  # the step at hand may not have been logged
                ignored += "Ignored: checkpoint" in run.log.read_text()
    assert trained <= STEPS + (len(kills) + kills.count(WRITING)) * INTERVAL
    assert max(run.starts()) >= INTERVAL
    assert ignored, "no kill has hit a write"
    rows, expected = (run_files.read_metrics(folder / "metrics.jsonl") for folder in (run.workdir, whole.workdir))
    assert [row["step"] for row in rows] == list(range(STEPS + 1))
    untimed = [
        [{name: value for name, value in row.items() if name not in ("images_per_second", "wait_share")} for row in log]
        for log in (rows, expected)
    ]
    assert untimed[0] == untimed[1]
    chex.assert_trees_all_equal(final_state(run.workdir), final_state(whole.workdir))
