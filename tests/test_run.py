"""Whole runs of main.py: what they measure and leave behind, and when training goes wrong."""

import dataclasses
import json
import re

import chex
import cv2
import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

import main
from repre_jax.core import run_files
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.running import divergence
from repre_jax.system import terminal
from repre_jax.tasks import pretrain
from tests.helpers.runs import ROOT, TINY, final_state, run

ONLINE = {
    "loss", "contrastive", "reconstruction", "weight_contrastive", "weight_reconstruction", "lr", "momentum",
    "gradient_norm", "embedding_std", "embedding_std_uniform", "images_per_second", "wait_share",
}  # fmt: skip


def metrics_seconds(workdir, step):
    """The training time that the checkpoint of `step` recorded."""
    return json.loads((workdir / "checkpoints" / str(step) / "record" / "metadata").read_text())["seconds"]


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
    assert result["figure"] == "figures/reconstructions.png"
    assert (workdir / result["figure"]).read_bytes().startswith(b"\x89PNG")
    assert (workdir / "figures" / "reconstructions.pdf").read_bytes().startswith(b"%PDF")


def test_metrics_hold_every_logging_step_once(finished):
    rows = run_files.read_metrics(finished[0] / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8]
    assert [row["step"] for row in rows if "knn_top1" in row] == [0, 4, 8]
    for row in rows[1:]:
        assert set(row) >= ONLINE


def test_going_on_from_a_checkpoint_equals_not_stopping(finished, continued):
    """As after a crash at step 5: checkpoint 4 is the last, the log already says more."""
    workdir, result = finished
    again, second, said = continued
    assert "Going on from step 4 of 8." in said
    chex.assert_trees_all_equal(final_state(again), final_state(workdir))
    assert second["seconds"] > metrics_seconds(workdir, 4) > 1
    timed = {"seconds", "images_per_second"}
    assert {k: v for k, v in second.items() if k not in timed} == {k: v for k, v in result.items() if k not in timed}
    rows, expected = (run_files.read_metrics(folder / "metrics.jsonl") for folder in (again, workdir))
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8]
    assert [row.get("loss") for row in rows] == [row.get("loss") for row in expected]


def test_the_baseline_runs_without_a_decoder(tmp_path):
    result = run(tmp_path / "b", "--config.total_steps=2", variants=",baseline")
    assert result["reconstruction_l1"] is None
    assert result["figure"] is None
    assert not (tmp_path / "b" / "figures").exists()


def test_a_relative_workdir_works(tmp_path, monkeypatch):
    config = ROOT / "configs" / "moco_vit_s.py"
    monkeypatch.chdir(tmp_path)
    command = ["main.py", f"--config={config}:tiny", "--config.total_steps=2"]
    assert main.parse([*command, "--workdir=here/run"])[1] == tmp_path / "here" / "run"
    assert main.main(command) == 0  # in a folder that is named after the config
    assert (tmp_path / "runs" / "moco_vit_s-tiny" / "result.json").exists()


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
    rows = run_files.read_metrics(tmp_path / "metrics.jsonl")
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
        assert ">Stopped<" in (tmp_path / "report.html").read_text()


def test_a_collapse_is_told_before_and_while_it_happens(tmp_path, monkeypatch, capsys):
    """Every spread counts as narrow here."""
    monkeypatch.setattr(divergence, "NARROW", 100.0)
    run(tmp_path, "--config.total_steps=4", "--config.collapse_patience=2")
    output = capsys.readouterr().out
    assert "moco_v3; a contrastive loss of 2.218 would mean collapse" in output
    assert "(4 * temperature * ln(batch))" in output
    assert output.count("Warning: this looks like a collapse. For 2 logged steps") == 1


def test_the_mean_colours_l1_is_what_numpy_says(finished):
    pixels = np.round(load_digits().images[1437:] * 255 / 16).astype(np.uint8)
    large = np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_LINEAR) for image in pixels]) / 255
    expected = np.abs(large - large.mean(axis=(1, 2), keepdims=True)).mean()
    assert finished[1]["reconstruction_l1_mean_colour"] == pytest.approx(expected, rel=1e-4)


def test_the_online_encoder_is_judged():
    config, _ = main.parse([*TINY])
    job = pretrain.build(config)
    state = job.step.init_state()
    noise = jax.tree.map(lambda p: p * 0, state.target)
    assert job.monitor.knn(dataclasses.replace(state, target=noise)) == job.monitor.knn(state)
    online = state.params | {"encoder": jax.tree.map(lambda p: p * 0, state.params["encoder"])}
    assert job.monitor.knn(dataclasses.replace(state, params=online)) < job.monitor.knn(state)


def test_an_evaluation_on_the_way_shows_how_far_it_is(monkeypatch, capsys):
    """Here as in a log file, each batch of 16, and as many records as the config says."""
    config, _ = main.parse([*TINY])
    evaluation = pretrain.build(config).monitor
    monkeypatch.setattr(terminal, "LOG_EVERY", 0.0)
    wanted = {"training": config.knn.train_records, "test": min(config.knn.test_records, 72)}
    evaluation.knn_pixels()
    lines = capsys.readouterr().err.splitlines()
    for split, records in wanted.items():
        of_split = [line for line in lines if line.startswith(f"k-NN, {split} images: ")]
        assert len(of_split) == -(-records // 16)
        done = [re.search(r": ([\d.]+)/([\d.]+) images, ", line).groups() for line in of_split]
        assert [tuple(map(float, pair)) for pair in done] == [
            (min(16 * batch, records), records) for batch in range(1, len(done) + 1)
        ]
    with terminal.quiet(True):
        evaluation.knn_pixels()
    assert capsys.readouterr().err == ""


def test_a_test_split_without_labels_gives_no_knn():
    """As ImageNet's 'test', whose labels are all -1."""
    config, _ = main.parse([*TINY])
    evaluation = pretrain.build(config).monitor
    assert 0 < evaluation.knn_pixels() < 1
    unlabelled = [evaluation.dataset.test[i] | {"label": -1} for i in range(20)]
    evaluation.dataset = dataclasses.replace(evaluation.dataset, test=unlabelled)
    assert evaluation.knn_pixels() is None
