"""Whole runs of main.py: what they leave behind, and that stopping does not change them."""

import dataclasses
import json
import os
import re
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
import pytest
from sklearn.datasets import load_digits

import main
from repre_jax.core import metrics
from repre_jax.tasks import pretrain, setup, watch
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
    assert (workdir / "config.json").read_text() == before


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 0)])
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
    assert "The same command goes on from there." in error
    saved = int(error.split("Saved at step ")[1].split()[0])
    assert 2 < saved < 100
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"Going on from step {saved} of 100." in done.stdout
    steps = [row["step"] for row in metrics.read_metrics(tmp_path / "metrics.jsonl")]
    assert steps == [0, *range(2, 101, 2)]


def test_what_a_crash_leaves_does_not_confuse_the_next_start(finished, tmp_path, capsys):
    """A log without a checkpoint is begun anew; a result cut short counts as none; a damaged checkpoint is named."""
    folder = tmp_path / "crashed"
    shutil.copytree(finished[0], folder)
    (folder / "result.json").write_text('{"task": "pre')
    shutil.rmtree(folder / "checkpoints" / "8" / "state")
    argv = [*TINY, "--workdir", str(folder)]
    assert main.main(argv) == 1
    assert "Checkpoint 8" in (error := capsys.readouterr().err)
    assert "go on from the one before it" in error
    shutil.rmtree(folder / "checkpoints")
    run(folder, "--config.total_steps=2")
    assert [row["step"] for row in metrics.read_metrics(folder / "metrics.jsonl")] == [0, 1, 2]


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
    newest = max(int(folder.name) for folder in (tmp_path / "checkpoints").iterdir())
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
        newest = max(int(folder.name) for folder in (tmp_path / "checkpoints").iterdir())
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
    assert max(int(folder.name) for folder in (tmp_path / "checkpoints").iterdir()) == 4


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
