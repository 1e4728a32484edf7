"""Whole runs of main.py: what they leave behind, and that stopping does not change them."""

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
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import psutil
import pytest
from sklearn.datasets import load_digits

import main
from repre_jax.core import metrics
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.data import loader
from repre_jax.tasks import pretrain, setup, watch
from repre_jax.tasks.online import Evaluation
from repre_jax.tasks.workdir import LOCK, claimed
from repre_jax.train import loop

ROOT = Path(__file__).resolve().parent.parent
TINY = ["main.py", "--config", "configs/moco_vit_s.py:tiny"]
ONLINE = {
    "loss", "contrastive", "reconstruction", "weight_contrastive", "weight_reconstruction", "lr", "momentum",
    "gradient_norm", "embedding_std", "embedding_std_uniform", "images_per_second", "wait_share",
}  # fmt: skip


def run(workdir, *arguments, variants=""):
    argv = [*TINY[:2], TINY[2] + variants, "--workdir", str(workdir), "--config.checkpoint.keep=9", *arguments]
    assert main.main(argv) == 0
    return json.loads((workdir / "result.json").read_text())


def final_state(workdir, step=8):
    steps = [int(folder.name) for folder in (workdir / "checkpoints").iterdir() if folder.name.isdigit()]
    assert max(steps) == step
    return ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / "state")


def metrics_seconds(workdir, step):
    """The training time that the checkpoint of `step` recorded."""
    return json.loads((workdir / "checkpoints" / str(step) / "record" / "metadata").read_text())["seconds"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, run(workdir)


def test_result_has_what_was_promised(finished):
    workdir, result = finished
    assert result["task"] == "pretrain"
    assert result["steps"] == 8
    assert result["seconds"] > 0
    assert result["images_per_second"] > 0
    for name in ("knn_top1", "knn_top1_untrained", "knn_top1_pixels"):
        assert 0 < result[name] < 1, name
    assert result["reconstruction_l1"] > 0
    assert 0.1 < result["reconstruction_l1_mean_colour"] < 0.5
    assert json.loads((workdir / "config.json").read_text())["total_steps"] == 8
    assert result["figure"] == "reconstructions.png"
    assert (workdir / "reconstructions.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_hold_every_logging_step_once(finished):
    rows = metrics.read_metrics(finished[0] / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8]
    assert [row["step"] for row in rows if "knn_top1" in row] == [0, 4, 8]
    for row in rows[1:]:
        assert set(row) >= ONLINE


def test_a_finished_run_prints_its_summary_at_once(finished, capsys, monkeypatch):
    workdir, result = finished
    before = modified(workdir)
    monkeypatch.setattr(pretrain.loop, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert run(workdir) == result
    output = capsys.readouterr().out
    assert "finished" in output
    assert "k-NN top-1 (k = 20)" in output
    assert before == modified(workdir)


def modified(folder):
    """When each file was, but for the lock."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != LOCK}


def test_going_on_from_a_checkpoint_equals_not_stopping(finished, tmp_path, capsys):
    """As after a crash at step 5: checkpoint 4 is the last, the log already says more."""
    workdir, result = finished
    again = tmp_path / "again"
    shutil.copytree(workdir, again)
    (again / "result.json").unlink()
    for step in (6, 8):
        shutil.rmtree(again / "checkpoints" / str(step))
    second = run(again)
    assert "Going on from step 4 of 8." in capsys.readouterr().out
    chex.assert_trees_all_equal(final_state(again), final_state(workdir))
    assert second["seconds"] > metrics_seconds(workdir, 4) > 1
    timed = {"seconds", "images_per_second"}
    assert {k: v for k, v in second.items() if k not in timed} == {k: v for k, v in result.items() if k not in timed}
    rows, expected = (metrics.read_metrics(folder / "metrics.jsonl") for folder in (again, workdir))
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8]
    assert [row.get("loss") for row in rows] == [row.get("loss") for row in expected]


def test_two_runs_with_one_seed_are_equal(finished, tmp_path):
    run(tmp_path / "twin")
    chex.assert_trees_all_equal(final_state(tmp_path / "twin"), final_state(finished[0]))


def test_the_baseline_runs_without_a_decoder(tmp_path):
    result = run(tmp_path / "b", "--config.total_steps=2", variants=",baseline")
    assert result["reconstruction_l1"] is None
    assert result["figure"] is None
    assert not (tmp_path / "b" / "reconstructions.png").exists()


def test_a_relative_workdir_works(tmp_path, monkeypatch):
    config = ROOT / "configs" / "moco_vit_s.py"
    monkeypatch.chdir(tmp_path)
    assert main.main(["main.py", f"--config={config}:tiny", "--workdir=here/run", "--config.total_steps=2"]) == 0
    assert (tmp_path / "here" / "run" / "result.json").exists()
    assert main.main(["main.py", f"--config={config}:tiny", "--config.total_steps=2"]) == 0
    assert (tmp_path / "runs" / "moco_vit_s-tiny" / "result.json").exists()


def test_a_changed_config_is_refused_with_the_difference(finished, capsys):
    workdir, _ = finished
    before = (workdir / "config.json").read_text()
    assert main.main([*TINY, "--workdir", str(workdir), "--config.optim.lr=0.5"]) == 1
    error = capsys.readouterr().err
    assert "optim.lr: 0.00015 -> 0.5" in error
    assert "--workdir" in error
    assert "--config.may_change=\"('optim.lr',)\"" in error
    assert (workdir / "config.json").read_text() == before


def test_what_the_user_says_may_change(finished, tmp_path, capsys):
    """A finished run that is to be longer goes on from its last checkpoint, at the new rate; a third key is refused."""
    folder = tmp_path / "longer"
    shutil.copytree(finished[0], folder)
    argv = [*TINY, "--workdir", str(folder), "--config.total_steps=10", "--config.optim.lr=0.01"]
    assert main.main([*argv, "--config.may_change=('optim',)"]) == 1
    error = capsys.readouterr().err
    assert "total_steps: 8 -> 10" in error
    assert "optim.lr" not in error.split("change:")[0]
    argv.append("--config.may_change=('optim', 'total_steps')")
    assert main.main([*argv, "--config.encoder.width=64"]) == 1
    assert "encoder.width: 32 -> 64" in capsys.readouterr().err
    assert main.main(argv) == 0
    output = capsys.readouterr().out
    assert "Changed, as may_change allows: optim.lr: 0.00015 -> 0.01" in output
    assert "Going on from step 8 of 10." in output
    rows = metrics.read_metrics(folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8, 10]
    assert main.main(argv) == 0
    assert "finished" in capsys.readouterr().out


def test_a_state_of_another_shape_is_refused(finished, tmp_path, capsys):
    folder = tmp_path / "wider"
    shutil.copytree(finished[0], folder)
    argv = [*TINY, "--workdir", str(folder), "--config.encoder.width=64", "--config.total_steps=10"]
    argv.append("--config.may_change=('encoder.width', 'total_steps')")
    assert main.main(argv) == 1
    error = capsys.readouterr().err
    assert "Checkpoint 8" in error
    assert re.search(r"Tensors that differ: \d\d+\n(  \S+: \(.*\) -> \(.*64,?\)\n){8}", error)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGUSR1, 0)])
def test_a_stopped_run_saves_and_goes_on(tmp_path, number, workers):
    """A real process group gets a real signal, as from a terminal or SLURM; a second start ends the run."""
    command = [sys.executable, *TINY, "--workdir", str(tmp_path), "--config.total_steps=100", "--config.knn.times=1",
               "--config.checkpoint.every=1000", f"--config.data.workers={workers}"]  # fmt: skip
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while len(metrics.read_metrics(tmp_path / "metrics.jsonl")) < 3:
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(child.pid, number)
    _, error = child.communicate(timeout=120)
    assert child.returncode == 128 + number, error
    assert "Traceback" not in error
    assert "The same command goes on from there:\n  python main.py --config configs/moco_vit_s.py:tiny" in error
    saved = int(error.split("Saved at step ")[1].split()[0])
    assert 2 < saved < 100
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"Going on from step {saved} of 100." in done.stdout
    steps = [row["step"] for row in metrics.read_metrics(tmp_path / "metrics.jsonl")]
    assert steps == [0, *range(2, 101, 2)]


def test_what_a_crash_leaves_does_not_confuse_the_next_start(finished, tmp_path, capsys):
    """A result cut short counts as none, damaged and half-written checkpoints are named, and the one before is taken;
    a log without any checkpoint is begun anew."""
    folder = tmp_path / "crashed"
    shutil.copytree(finished[0], folder)
    (folder / "result.json").write_text('{"task": "pre')
    shutil.rmtree(folder / "checkpoints" / "8" / "state")
    (folder / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()
    largest = max((folder / "checkpoints" / "6").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    run(folder)
    output = capsys.readouterr().out
    assert re.search(r"Ignored: checkpoint 8: its file state/\S+ is missing; now 8.damaged.", output)
    assert re.search(r"Ignored: checkpoint 6: its file state/\S+ has other content; now 6.damaged.", output)
    assert "Ignored: checkpoint 9.orbax-checkpoint-tmp: its writing was cut short; removed." in output
    assert "Going on from step 4 of 8." in output
    chex.assert_trees_all_equal(final_state(folder), final_state(finished[0]))
    (folder / "result.json").unlink()
    for path in (folder / "checkpoints").glob("?.manifest.json"):
        path.unlink()
    run(folder, "--config.total_steps=2", "--config.may_change=('total_steps',)")
    assert "No whole checkpoint is left: starting from the beginning." in capsys.readouterr().out
    assert [row["step"] for row in metrics.read_metrics(folder / "metrics.jsonl")] == [0, 1, 2]


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
    rows = metrics.read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert "loss" in rows[-1]
    assert "knn_top1" not in rows[-1]
    assert main.main(argv) == 0
    untimed = [
        [{k: v for k, v in row.items() if k not in ("images_per_second", "wait_share")} for row in rows]
        for rows in (metrics.read_metrics(folder / "metrics.jsonl") for folder in (tmp_path, finished[0]))
    ]
    assert untimed[0] == untimed[1]
    chex.assert_trees_all_equal(final_state(tmp_path), final_state(finished[0]))
    content = json.loads((tmp_path / "checkpoints" / "4.manifest.json").read_text())
    assert content["measure"] == untimed[0][2]["knn_top1"]


def test_a_signal_during_the_last_evaluation(finished, tmp_path, monkeypatch, capsys):
    """All steps are done, but what was measured is not whole: the next start measures and concludes."""
    measure, asked = Evaluation.measure, []

    def signalled(self, state, left_off):
        if int(state.step) == 8 and not asked:
            asked.append(os.kill(os.getpid(), signal.SIGTERM))
        return measure(self, state, left_off)

    monkeypatch.setattr(Evaluation, "measure", signalled)
    argv = [*TINY, "--workdir", str(tmp_path), "--config.checkpoint.keep=9"]
    assert main.main(argv) == 128 + signal.SIGTERM
    assert "Saved at step 8 of 8." in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()
    assert main.main(argv) == 0
    assert "Going on from step 8 of 8." in capsys.readouterr().out
    rows, expected = (metrics.read_metrics(folder / "metrics.jsonl") for folder in (tmp_path, finished[0]))
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8]
    assert rows[-1]["knn_top1"] == expected[-1]["knn_top1"] == finished[1]["knn_top1"]


@pytest.mark.parametrize(
    ("where", "number"),
    [("repre_jax.tasks.setup.build", signal.SIGUSR1), ("repre_jax.tasks.online.Evaluation.knn_pixels", signal.SIGTERM)],
)
def test_a_signal_where_nothing_is_to_be_saved(tmp_path, monkeypatch, capsys, where, number):
    """Before training and in the evaluation at the end: one line, and the same command goes on."""
    with monkeypatch.context() as patch:
        patch.setattr(where, lambda *arguments: os.kill(os.getpid(), number))
        assert main.main([*TINY, "--workdir", str(tmp_path), "--config.total_steps=2"]) == 128 + number
    error = capsys.readouterr().err
    assert error.endswith(
        f"{number.name}: Interrupted. The same command goes on from the last checkpoint, if there is one.\n"
    )
    assert main.main([*TINY, "--workdir", str(tmp_path), "--config.total_steps=2"]) == 0


def test_a_finished_run_that_is_made_longer_is_not_finished(finished, tmp_path, monkeypatch, capsys):
    """Stopped on the way, the same command goes on instead of printing the old result."""
    folder = tmp_path / "longer"
    shutil.copytree(finished[0], folder)
    argv = [*TINY, "--workdir", str(folder), "--config.total_steps=12", "--config.may_change=('total_steps',)"]
    fit = loop.fit

    def interrupted(step_fn, state, batches, **settings):
        os.kill(os.getpid(), signal.SIGTERM)
        return fit(step_fn, state, batches, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.loop, "fit", interrupted)
        assert main.main(argv) == 128 + signal.SIGTERM
    assert json.loads((folder / "result.before.json").read_text())["steps"] == 8
    assert main.main(argv) == 0
    assert "Going on from step 8 of 12." in capsys.readouterr().out
    assert json.loads((folder / "result.json").read_text())["steps"] == 12


def test_files_that_are_something_else_count_as_none(finished, tmp_path, capsys):
    folder = tmp_path / "odd"
    shutil.copytree(finished[0], folder)
    for content in (b"\xff\xfe\x00", b"[]", b"{}"):
        (folder / "result.json").write_bytes(content)
        (folder / "config.json").write_bytes(content)
        assert main.main([*TINY, "--workdir", str(folder)]) == 0
        assert "Going on from step 8 of 8." in capsys.readouterr().out


def test_changes_that_come_too_late_are_refused(finished, tmp_path, capsys):
    """Nothing is left to be trained at the new rate; evaluations may still change."""
    folder = tmp_path / "late"
    shutil.copytree(finished[0], folder)
    argv = [*TINY, "--workdir", str(folder), "--config.may_change=('optim.lr', 'knn')", "--config.knn.k=5"]
    assert main.main([*argv, "--config.optim.lr=1.0"]) == 1
    error = capsys.readouterr().err
    assert "optim.lr: 0.00015 -> 1.0" in error
    assert "knn.k" not in error
    assert json.loads((folder / "config.json").read_text())["optim"]["lr"] == 0.00015
    assert main.main(argv) == 0
    assert json.loads((folder / "result.json").read_text())["knn_k"] == 5


@pytest.mark.parametrize(("size", "name"), [(0, "A file"), (6000, "metrics.jsonl")])
def test_a_disk_that_is_full_for_small_files(finished, tmp_path, size, name):
    """At the start, and by a log that grows; the data set is there already."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    settings = [
        "--config.total_steps=60",
        "--config.log_every=1",
        "--config.knn.times=1",
        "--config.checkpoint.every=99",
    ]
    full = subprocess.run(
        [sys.executable, *TINY, "--workdir", str(tmp_path), *settings],
        cwd=ROOT, text=True, capture_output=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit)),
    )  # fmt: skip
    assert full.returncode == 1
    assert f"{name} cannot be written: File too large." in full.stderr
    assert "Traceback" not in full.stderr


@pytest.mark.parametrize(
    ("names", "message"),
    [("('optim.lrr',)", "Did you mean 'optim.lr'?"), ("(5,)", "may_change names 5"), ("('',)", "may_change names ''")],
)
def test_may_change_must_name_keys(tmp_path, capsys, names, message):
    assert main.main([*TINY, "--workdir", str(tmp_path), f"--config.may_change={names}"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "--config.may_change=\"('optim.lr', 'epochs')\"" in error


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    """Within a step of many seconds, so that there was no time to save."""
    command = [sys.executable, "-u", *TINY, "--workdir", str(tmp_path), "--config.batch_size=1024",
               "--config.knn.times=1"]  # fmt: skip
    with (tmp_path.parent / "error").open("w+") as error:
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=error, start_new_session=True)
        try:
            wait_for(lambda: len(metrics.read_metrics(tmp_path / "metrics.jsonl")) > 1, child)
            os.killpg(child.pid, signal.SIGINT)
            wait_for(lambda: "saving after this step" in Path(error.name).read_text(), child)
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


def test_nobody_outlives_a_run_that_is_killed(tmp_path):
    """Processes that read data end when the run is gone, also by SIGKILL."""
    command = [
        sys.executable,
        *TINY,
        "--workdir",
        str(tmp_path),
        "--config.data.workers=2",
        "--config.total_steps=9999",
    ]
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: len(metrics.read_metrics(tmp_path / "metrics.jsonl")) > 1, child)
        readers = psutil.Process(child.pid).children(recursive=True)
        assert len(readers) >= 2
        child.kill()
        _, left = psutil.wait_procs(readers, timeout=20)
        assert left == []
    finally:
        os.killpg(child.pid, signal.SIGKILL) if child.poll() is None else None


def test_two_runs_in_one_workdir_are_refused(finished, tmp_path, capsys):
    with claimed(tmp_path):
        assert main.main([*TINY, "--workdir", str(tmp_path)]) == 1
    assert f"Another process is training in {tmp_path}." in capsys.readouterr().err
    assert not (tmp_path / LOCK).exists()


def test_each_start_is_written_down(finished):
    folder, _ = finished
    start = json.loads((folder / "starts.jsonl").read_text().splitlines()[0])
    assert (start["step"], start["seed"], start["processes"]) == (0, 0, 1)
    assert start["devices"] == f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    assert start["versions"]["jax"] == jax.__version__
    assert start["variables"]["XLA_FLAGS"] == os.environ["XLA_FLAGS"]
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert start["commit"].startswith(head.strip())


def test_a_full_disk_ends_the_run_and_keeps_what_was_good(tmp_path):
    """Files may not grow beyond what a checkpoint takes, as on a full disk or with a used-up quota."""
    command = [sys.executable, *TINY, "--workdir", str(tmp_path), "--config.knn.times=1"]
    subprocess.run([*command, "--config.total_steps=4"], cwd=ROOT, check=True, capture_output=True)
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    full = subprocess.run(
        [*command, "--config.total_steps=40", "--config.may_change=('total_steps',)", "--config.log_every=1"],
        cwd=ROOT, text=True, capture_output=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit)),
    )  # fmt: skip
    assert full.returncode == 1
    assert "Checkpoint 6 could not be written to" in full.stderr
    assert "File too large." in full.stderr
    assert "kept:     checkpoint 4; the same command goes on from there" in full.stderr
    assert "Traceback" not in full.stderr
    assert max(row["step"] for row in metrics.read_metrics(tmp_path / "metrics.jsonl")) < 20
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="only root can mount a small disk")
def test_a_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=False).returncode
    if mounted != 0:
        pytest.skip("this root may not mount")
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


def test_another_data_set_under_the_same_name_is_refused(finished, tmp_path, capsys):
    folder = tmp_path / "moved"
    shutil.copytree(finished[0], folder)
    (folder / "result.json").unlink()
    source = Path(os.environ["TFDS_DATA_DIR"]) / "digits" / "1.0.0"
    target = tmp_path / "other" / "digits" / "1.0.0"
    shutil.copytree(source, target)
    info = json.loads((target / "dataset_info.json").read_text())
    train = next(split for split in info["splits"] if split["name"] == "train")
    train["shardLengths"] = ["1000"]
    (target / "dataset_info.json").write_text(json.dumps(info))
    assert main.main([*TINY, "--workdir", str(folder), f"--config.data.dir={tmp_path / 'other'}"]) == 1
    assert "train_records: 1437 -> 1000" in capsys.readouterr().err


def test_divergence_ends_with_a_message_and_keeps_what_was_good(tmp_path, capsys):
    """At a rate of 1e6 the parameters overflow after some steps; the newest checkpoint is from before that."""
    argv = [*TINY, "--workdir", str(tmp_path), "--config.optim.lr=1000000.0", "--config.total_steps=30"]
    argv += ["--config.optim.b2=0.0", "--config.optim.weight_decay=1000.0", "--config.stop_after_skipped=6"]
    assert main.main(argv) == 1
    output, error = capsys.readouterr()
    first, last = map(int, re.search(r"from step (\d+) to (\d+)", error).groups())
    assert last - first + 1 >= 6
    assert "Training has diverged" in error
    assert f"not finite, steps skipped: {1 + first % 2}; the last of them from step {first} on." in output
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    rows = metrics.read_metrics(tmp_path / "metrics.jsonl")
    assert rows[-1]["skipped"] == last - first + 1
    newest = max(Checkpoints(tmp_path / "checkpoints").measures())
    assert newest == (first - 1) // 2 * 2 > 0
    state = final_state(tmp_path, newest)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_a_run_whose_last_steps_were_skipped_ends_as_diverged(tmp_path, capsys):
    """It has no result, no checkpoint from among them, and says the same when it is started again."""
    argv = [*TINY, "--workdir", str(tmp_path), "--config.optim.lr=1000000.0", "--config.total_steps=10"]
    argv += ["--config.optim.b2=0.0", "--config.optim.weight_decay=1000.0", "--config.log_every=10"]
    for _ in range(2):
        assert main.main(argv) == 1
        error = capsys.readouterr().err
        first = int(re.search(r"Training has diverged: .* from step (\d+) to 10", error)[1])
        newest = max(Checkpoints(tmp_path / "checkpoints").measures())
        assert newest < first
        assert f"kept:     checkpoint {newest}, from before that" in error
        assert not (tmp_path / "result.json").exists()


def test_a_collapse_is_told_before_and_while_it_happens(tmp_path, monkeypatch, capsys):
    """Every spread counts as narrow here."""
    monkeypatch.setattr(watch, "NARROW", 100.0)
    run(tmp_path, "--config.total_steps=4", "--config.collapse_patience=2")
    output = capsys.readouterr().out
    assert "moco_v3; a contrastive loss of 2.218 would mean collapse" in output
    assert "(4 * temperature * ln(batch))" in output
    assert output.count("Warning: this looks like a collapse. For 2 logged steps") == 1


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


def test_the_mean_colours_l1_is_what_numpy_says(finished):
    pixels = np.round(load_digits().images[1437:] * 255 / 16).astype(np.uint8)
    large = np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_LINEAR) for image in pixels]) / 255
    expected = np.abs(large - large.mean(axis=(1, 2), keepdims=True)).mean()
    assert finished[1]["reconstruction_l1_mean_colour"] == pytest.approx(expected, rel=1e-4)


def test_the_online_encoder_is_judged():
    config, _ = main.parse([*TINY])
    job = setup.build(config)
    state = job.init_state()
    noise = jax.tree.map(lambda p: p * 0, state.target)
    assert job.evaluation.knn(dataclasses.replace(state, target=noise)) == job.evaluation.knn(state)
    online = state.params | {"encoder": jax.tree.map(lambda p: p * 0, state.params["encoder"])}
    assert job.evaluation.knn(dataclasses.replace(state, params=online)) < job.evaluation.knn(state)


def test_a_test_split_without_labels_gives_no_knn():
    """As ImageNet's 'test', whose labels are all -1."""
    config, _ = main.parse([*TINY])
    evaluation = setup.build(config).evaluation
    assert 0 < evaluation.knn_pixels() < 1
    unlabelled = [evaluation.dataset.test[i] | {"label": -1} for i in range(20)]
    evaluation.dataset = dataclasses.replace(evaluation.dataset, test=unlabelled)
    assert evaluation.knn_pixels() is None
