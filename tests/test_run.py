"""Whole runs of main.py: what they leave behind, and that stopping does not change them."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import orbax.checkpoint as ocp
import pytest

import main
from repre_jax.core import metrics
from repre_jax.tasks import pretrain

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
    assert Path(result["figure"]) == workdir / "reconstructions.png"
    assert (workdir / "reconstructions.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_hold_every_logging_step_once(finished):
    rows = metrics.read_metrics(finished[0] / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8]
    assert [row["step"] for row in rows if "knn_top1" in row] == [0, 4, 8]
    for row in rows[1:]:
        assert set(row) >= ONLINE


def test_a_finished_run_prints_its_summary_at_once(finished, capsys, monkeypatch):
    workdir, result = finished
    before = {file: file.stat().st_mtime_ns for file in workdir.rglob("*") if file.is_file()}
    monkeypatch.setattr(pretrain.loop, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert run(workdir) == result
    output = capsys.readouterr().out
    assert "finished" in output
    assert "k-NN top-1 (k = 20)" in output
    assert before == {file: file.stat().st_mtime_ns for file in workdir.rglob("*") if file.is_file()}


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
    timed = {"seconds", "images_per_second", "figure"}
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
    assert (workdir / "config.json").read_text() == before


def test_a_stopped_run_saves_and_goes_on(tmp_path):
    """A real process gets a real SIGINT; a second one ends it as if nothing had happened."""
    command = [sys.executable, *TINY, "--workdir", str(tmp_path), "--config.total_steps=400",
               "--config.checkpoint.every=1000", "--config.knn.times=1"]  # fmt: skip
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while len(metrics.read_metrics(tmp_path / "metrics.jsonl")) < 3:
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=120)
    assert child.returncode == 130, error
    assert "Traceback" not in error
    assert "The same command goes on from there." in error
    saved = int(error.split("Saved at step ")[1].split()[0])
    assert 2 < saved < 400
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"Going on from step {saved} of 400." in done.stdout
    steps = [row["step"] for row in metrics.read_metrics(tmp_path / "metrics.jsonl")]
    assert steps == [0, *range(2, 401, 2)]
