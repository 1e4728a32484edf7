"""Runs that are stopped: by signals at every moment, by disks that are full, and who outlives them."""

import dataclasses
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax.numpy as jnp
import psutil
import pytest

import main
from repre_jax.builders.monitor import Monitor
from repre_jax.core import run_files
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.data import loader
from repre_jax.running import loop
from repre_jax.tasks import pretrain
from tests.helpers.patience import HANGS
from tests.helpers.runs import ROOT, TINY, final_state

LONG = ["--config.total_steps=100", "--config.knn.times=1"]  # one program for all that is stopped on its way


def test_a_stopped_run_saves_and_goes_on_and_nobody_outlives_it(tmp_path, capsys):
    """Real process groups get real signals, as from a terminal or SLURM; the last start ends the run.

    SIGKILL comes to the run alone: the processes that read its data end by themselves.
    """
    argv = [*TINY, "--workdir", str(tmp_path), *LONG, "--config.checkpoint.every=1000"]

    def rows():
        return [row["step"] for row in run_files.read_metrics(tmp_path / "metrics.jsonl")]

    def start(workers, least):
        child = subprocess.Popen(
            [sys.executable, *argv, f"--config.data.workers={workers}"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        wait_for(lambda: max(rows(), default=0) >= least, child, HANGS)
        return child

    saved = 0
    for number, workers in ((signal.SIGINT, 2), (signal.SIGUSR1, 0)):
        child = start(workers, least=saved + 4)
        os.killpg(child.pid, number)
        output, error = child.communicate(timeout=HANGS)
        assert child.returncode == 128 + number, error
        assert "Traceback" not in error
        assert "The same command goes on from there:\n  python main.py --config configs/moco_vit_s.py:tiny" in error
        assert (f"Going on from step {saved} of 100." in output) == (saved > 0)
        before, saved = saved, int(error.split("Saved at step ")[1].split()[0])
        assert before + 2 < saved < 100
        assert ">Stopped<" in (tmp_path / "report.html").read_text()
    child = start(workers=2, least=saved + 2)
    try:
        readers = psutil.Process(child.pid).children(recursive=True)
        assert len(readers) >= 2
        child.kill()
        _, left = psutil.wait_procs(readers, timeout=20)
        assert left == []
    finally:
        os.killpg(child.pid, signal.SIGKILL) if child.poll() is None else None
        child.communicate()
    capsys.readouterr()
    assert main.main(argv) == 0
    assert f"Going on from step {saved} of 100." in capsys.readouterr().out
    assert rows() == [0, *range(2, 101, 2)]


def test_a_signal_during_an_evaluation(finished, tmp_path, monkeypatch, capsys):
    """It is cut short, its step saved; the next start completes the line of that step."""
    batches, seen = loader.test_batches, []

    def signalled(*arguments, **settings):
        for number, batch in enumerate(batches(*arguments, **settings)):
            if number == 2 and "step 2/8" in capsys.readouterr().out + "".join(seen) and "sent" not in seen:
                seen.append("sent")
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(loader, "test_batches", signalled)
    argv = [*TINY, "--workdir", str(tmp_path), "--config.checkpoint.keep=9"]
    assert main.main(argv) == 128 + signal.SIGTERM
    assert "Saved at step 4 of 8." in capsys.readouterr().err
    rows = run_files.read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert "loss" in rows[-1]
    assert "knn_top1" not in rows[-1]
    assert main.main(argv) == 0
    untimed = [
        [{k: v for k, v in row.items() if k not in ("images_per_second", "wait_share")} for row in rows]
        for rows in (run_files.read_metrics(folder / "metrics.jsonl") for folder in (tmp_path, finished[0]))
    ]
    assert untimed[0] == untimed[1]
    chex.assert_trees_all_equal(final_state(tmp_path), final_state(finished[0]))
    content = json.loads((tmp_path / "checkpoints" / "4.manifest.json").read_text())
    assert content["measure"] == untimed[0][2]["knn_top1"]


def test_a_signal_during_the_last_evaluation(finished, tmp_path, monkeypatch, capsys):
    """All steps are done, but what was measured is not whole: the next start measures and concludes."""
    measure, asked = Monitor.evaluate, []

    def signalled(self, state, should_stop):
        if int(state.step) == 8 and not asked:
            asked.append(os.kill(os.getpid(), signal.SIGTERM))
        return measure(self, state, should_stop)

    monkeypatch.setattr(Monitor, "evaluate", signalled)
    argv = [*TINY, "--workdir", str(tmp_path), "--config.checkpoint.keep=9"]
    assert main.main(argv) == 128 + signal.SIGTERM
    assert "Saved at step 8 of 8." in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()
    assert main.main(argv) == 0
    assert "Going on from step 8 of 8." in capsys.readouterr().out
    rows, expected = (run_files.read_metrics(folder / "metrics.jsonl") for folder in (tmp_path, finished[0]))
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8]
    assert rows[-1]["knn_top1"] == expected[-1]["knn_top1"] == finished[1]["knn_top1"]


def test_a_signal_where_nothing_is_to_be_saved(tmp_path, monkeypatch, capsys):
    """Before training and in the evaluation at the end: one line, and the same command goes on."""
    argv = [*TINY, "--workdir", str(tmp_path), "--config.total_steps=2"]
    for where, number in (
        ("repre_jax.tasks.pretrain.build", signal.SIGUSR1),
        ("repre_jax.builders.monitor.Monitor.knn_pixels", signal.SIGTERM),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, lambda *arguments, number=number: os.kill(os.getpid(), number))
            assert main.main(argv) == 128 + number
        error = capsys.readouterr().err
        assert error.endswith(
            f"{number.name}: Interrupted. The same command goes on from the last checkpoint, if there is one.\n"
        )
    assert main.main(argv) == 0


def test_a_signal_among_skipped_steps_saves_nothing(tmp_path, monkeypatch, capsys):
    """As after SIGTERM: the step at hand was not finite, so that the checkpoint before it is the one to go on from."""
    fit = loop.fit

    def interrupted(step_fn, state, batches, **settings):
        def poisoned(state, batch):
            new, values = step_fn(state, batch)
            if int(new.step) == 5:
                new = dataclasses.replace(new, skipped_in_a_row=jnp.int32(1))
                os.kill(os.getpid(), signal.SIGTERM)
            return new, values

        return fit(poisoned, state, batches, **settings)

    monkeypatch.setattr(pretrain.loop, "fit", interrupted)
    assert main.main([*TINY, "--workdir", str(tmp_path)]) == 128 + signal.SIGTERM
    assert "Stopped at step 5 of 8, not saved" in capsys.readouterr().err
    assert max(Checkpoints(tmp_path / "checkpoints").measures()) == 4


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    """Within a step of many seconds, so that there was no time to save."""
    command = [sys.executable, "-u", *TINY, "--workdir", str(tmp_path), "--config.batch_size=1024",
               "--config.knn.times=1"]  # fmt: skip
    with (tmp_path.parent / "error").open("w+") as error:
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=error, start_new_session=True)
        try:
            wait_for(lambda: len(run_files.read_metrics(tmp_path / "metrics.jsonl")) > 1, child)
            os.killpg(child.pid, signal.SIGINT)
            wait_for(lambda: "is saved after this step" in Path(error.name).read_text(), child)
            os.killpg(child.pid, signal.SIGINT)
            assert child.wait(timeout=5) == 128 + signal.SIGINT
        finally:
            child.kill()
    assert "Interrupted again: ended at once." in Path(error.name).read_text()


def wait_for(reached, child, seconds=200):
    deadline = time.monotonic() + seconds
    while not reached():
        assert child.poll() is None, child.returncode
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_disk_ends_the_run_and_keeps_what_was_good(finished, tmp_path):
    """Files may not grow beyond what a checkpoint takes, as on a full disk or with a used-up quota."""
    folder = shutil.copytree(finished[0], tmp_path / "run")
    before = {path: path.read_bytes() for path in (folder / "checkpoints").rglob("*") if path.is_file()}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    full = subprocess.run(
        [sys.executable, *TINY, "--workdir", str(folder), *LONG, "--config.may_change=('total_steps',)",
         "--config.checkpoint.keep=9", "--config.log_every=1"],
        cwd=ROOT, text=True, capture_output=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit)),
    )  # fmt: skip
    assert full.returncode == 1
    assert "Checkpoint 10 could not be written to" in full.stderr
    assert "File too large." in full.stderr
    assert "kept:     checkpoint 8; the same command goes on from there" in full.stderr
    assert "Traceback" not in full.stderr
    assert max(row["step"] for row in run_files.read_metrics(folder / "metrics.jsonl")) < 20
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_disk_that_is_really_full(tmp_path):
    """A small one of its own; where it cannot be mounted, the tests with a limit on files stand in for it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a disk wants root's rights, which this user or container does not have")
    try:
        command = [sys.executable, *TINY, "--workdir", str(disk / "run"), "--config.checkpoint.keep=9"]
        full = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
        assert full.returncode == 1
        assert "No space left on device." in full.stderr
        assert "Traceback" not in full.stderr
        kept = int(re.search(r"kept:     checkpoint (\d+)", full.stderr)[1])
        step, _ = Checkpoints(disk / "run" / "checkpoints").newest_whole()
        assert step == kept
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(("size", "name"), [(0, "A file"), (6000, "The log")])
def test_a_disk_that_is_full_for_small_files(finished, tmp_path, size, name):
    """At the start, and by a log that grows; the data set is there already."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    settings = ["--config.log_every=1", "--config.checkpoint.every=99"]
    full = subprocess.run(
        [sys.executable, *TINY, "--workdir", str(tmp_path), *LONG, *settings],
        cwd=ROOT, text=True, capture_output=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit)),
    )  # fmt: skip
    assert full.returncode == 1
    assert f"{name} cannot be written: File too large." in full.stderr
    assert "Traceback" not in full.stderr
