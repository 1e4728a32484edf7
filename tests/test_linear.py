"""`configs/linear.py` and `configs/finetune.py` as commands: what they leave, going on, repeating, wrong use."""

import contextlib
import os
import signal

import chex
import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import main
from repre_jax.core import run_files, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.data import loader
from repre_jax.pretrained import backbone
from repre_jax.system import environment
from tests.helpers.evaluating import FINETUNE, LINEAR, begun, command, evaluate
from tests.helpers.runs import final_state

OF_RUN = ("knn_top1", "knn_top1_untrained", "knn_top1_pixels", "knn_top1_hog", "knn_k")


def test_a_probe_reports_every_head_and_what_it_depends_on(finished, tmp_path, capsys):
    result = evaluate(LINEAR, finished[0], tmp_path, "--config.linear.untrained=True")
    assert [head["factor"] for head in result["heads"]] == [0.01, 0.03, 0.1, 0.3, 1, 3, 10] * 2
    assert [head["lr"] for head in result["heads"][:5:4]] == pytest.approx([0.01 * 3 * 16 / 256, 3 * 16 / 256])
    ours = result["heads"][:7]
    best = max(ours, key=lambda head: head["held_out_top1"])
    assert result["top1"] in [head["top1"] for head in ours if head["held_out_top1"] == best["held_out_top1"]]
    assert result["top1_protocol"] == ours[4]["top1"]
    expected = {
        "task": "linear",
        "protocol": "mocov3",
        "feature": "cls",
        "test_crop": 1.0,
        "test_interpolation": "bilinear",
        "lr_rule": "3 x 16 / 256",
        "test_images": 360,
        "run": {key: finished[1][key] for key in OF_RUN},
        "lr": 3 * 16 / 256,
        "cached": False,
        "mean": [0.5] * 3,
        "image_size": [32, 32],
        "trained_on": 1293,
        "labels": 1.0,
        "held_out": 0.1,
        "origin": {"init_from": str(finished[0]), "framework": "moco_v3", "branch": "online", "step": 8},
    }
    assert {key: result[key] for key in expected} == expected
    assert result["command"] == environment.command()
    output = capsys.readouterr().out
    assert "linear top-1" in output
    assert "untrained encoder, likewise" in output
    assert f"{finished[1]['knn_top1']:.1%}  trained encoder, k = {finished[1]['knn_k']}, as pre-tr" in output


def test_the_same_evaluation_twice_gives_the_same_number_also_when_it_was_stopped(finished, tmp_path):
    once = evaluate(LINEAR, finished[0], tmp_path / "once")
    begun(finished[0], tmp_path / "again")
    with contextlib.closing(Checkpoints(tmp_path / "again" / "checkpoints")) as saved:
        assert 0 < saved.latest_step() < 8
    again = evaluate(LINEAR, finished[0], tmp_path / "again")
    starts = run_files.read_metrics(tmp_path / "again" / "starts.jsonl")
    assert [start["step"] for start in starts] == [0, 3]
    assert starts[1]["origin"]["step"] == 8
    changing = ("seconds", "command")
    assert {k: v for k, v in again.items() if k not in changing} == {k: v for k, v in once.items() if k not in changing}


def test_cached_features_are_trained_on_and_named(finished, tmp_path, capsys):
    flags = ("--config.linear.untrained=True", "--config.linear.pixels=True")
    result = evaluate(LINEAR, finished[0], tmp_path, *flags, variants="cached,tiny")
    assert result["cached"]
    output = capsys.readouterr().out
    assert output.count("not the published protocol") == 2
    assert 0.85 < result["top1_pixels"] < 1
    assert f"{result['top1_pixels']:.1%}  raw pixels, a ridge classifier" in output
    trained = np.load(tmp_path / "features" / "train" / "features.npy")
    assert trained.shape == (1437, 32)
    assert not np.array_equal(trained, np.load(tmp_path / "untrained" / "features" / "train" / "features.npy"))


def test_cached_heads_are_those_of_the_features(finished, tmp_path):
    """All images are in every batch: plain gradient descent, done again in NumPy."""
    few = ["--config.data.train_split=train[:328]", "--config.data.test_split=test[:72]",
           "--config.batch_size=328", "--config.linear.held_out=0.0",
           "--config.optim.schedule=moco_v3", "--config.optim.momentum=0.0"]  # fmt: skip
    result = evaluate(LINEAR, finished[0], tmp_path, *few, variants="cached,tiny")
    read = {
        name: np.load(tmp_path / "features" / split / f"{kind}.npy").astype(np.float64)
        for split in ("train", "test")
        for kind, name in (("features", split), ("labels", f"{split}_labels"))
    }
    state = final_state(tmp_path)
    kernel, bias = (state["params"][name][0, 4] for name in ("kernel", "bias"))
    right = (read["test"] @ kernel + bias).argmax(axis=1) == read["test_labels"]
    assert right.mean() == pytest.approx(result["top1"])
    key = jax.random.fold_in(jax.random.PRNGKey(0), 0)
    w, b = np.asarray(0.01 * jax.random.normal(key, kernel.shape), np.float64), np.zeros(10)
    hot = np.eye(10)[read["train_labels"].astype(int)]
    for step in range(8):
        lr = 3 * 328 / 256 * 0.5 * (1 + np.cos(np.pi * step / 8))
        logits = read["train"] @ w + b
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        slope = (odds / odds.sum(axis=1, keepdims=True) - hot) / 328
        w, b = w - lr * read["train"].T @ slope, b - lr * slope.sum(axis=0)
    np.testing.assert_allclose(kernel, w, atol=2e-3)
    np.testing.assert_allclose(bias, b, atol=2e-3)


@pytest.mark.parametrize("decay", [1e-2, 3e-4])
def test_it_is_scikit_learns_logistic_regression_of_the_frozen_features(finished, tmp_path, decay):
    """With the same penalty, ours also on the bias, hence a column of ones there."""
    long = ["--config.batch_size=480", "--config.total_steps=4000", "--config.log_every=1000", "--config.optim.lr=0.2",
            "--config.evaluations=1", "--config.checkpoint.every=4000", "--config.linear.held_out=0.0",
            "--config.linear.factors=(1.0,)", f"--config.optim.weight_decay={decay}"]  # fmt: skip
    result = evaluate(LINEAR, finished[0], tmp_path, *long, variants="cached,tiny")
    found, labels = (
        {split: np.load(tmp_path / "features" / split / f"{kind}.npy") for split in ("train", "test")}
        for kind in ("features", "labels")
    )
    found = {split: np.pad(rows, ((0, 0), (0, 1)), constant_values=1) for split, rows in found.items()}
    regression = LogisticRegression(C=1 / (decay * 1437), fit_intercept=False, max_iter=3000)
    expected = regression.fit(found["train"], labels["train"]).score(found["test"], labels["test"])
    assert result["top1"] == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(("split", "batch"), [("train", 12), ("test", 3)])
def test_stopped_while_features_are_extracted_it_goes_on(finished, tmp_path, monkeypatch, capsys, split, batch):
    batches = loader.test_batches

    def signalled(source, view, **settings):
        for number, images in enumerate(batches(source, view, **settings)):
            if (len(source), number) == ({"train": 1437, "test": 360}[split], batch):
                os.kill(os.getpid(), signal.SIGTERM)
            yield images

    argv = command(LINEAR, finished[0], tmp_path / "w", variants="cached,tiny")
    with monkeypatch.context() as patch:
        patch.setattr(loader, "test_batches", signalled)
        assert main.main(argv) == 128 + signal.SIGTERM
    error = capsys.readouterr().err
    assert f"Stopped after {16 * batch} of " in error.replace(",", "")
    assert "their features are kept.\n  The same command goes on from there:" in error
    assert main.main(argv) == 0
    assert [start["step"] for start in run_files.read_metrics(tmp_path / "w" / "starts.jsonl")] == [0, 0]


def test_a_part_of_the_labels_is_as_many_of_each_class(finished, tmp_path, capsys):
    part = ["--config.data.labels=0.01", "--config.data.draw=3", "--config.linear.held_out=0"]
    result = evaluate(LINEAR, finished[0], tmp_path / "l", *part)
    assert (result["labels"], result["draw"], result["trained_on"]) == (0.01, 3, 10)
    assert evaluate(FINETUNE, finished[0], tmp_path / "f", *part[:2])["trained_on"] == 10
    assert main.main(command("configs/knn.py", tmp_path / "l", tmp_path / "k")) == 1  # a probe has no encoder
    assert "is a run of the task 'linear'.\n  expected: one of pre-training or fine-tuning" in capsys.readouterr().err


def test_fine_tuning_starts_from_the_encoder_and_changes_it(finished, tmp_path, capsys):
    """What it leaves is judged as a pre-trained encoder is: the supervised control of k-NN, and of dense tasks, for
    which positions are of other sizes."""
    run = tmp_path / "tuned"
    result = evaluate(FINETUNE, finished[0], run)
    assert (result["task"], result["recipe"], result["steps"]) == ("finetune", "mae", 8)
    assert result["origin"]["framework"] == "moco_v3"
    assert 0 <= result["top1"] <= 1
    judged = evaluate("configs/knn.py", run, tmp_path / "k", "--config.data.labels=0.1")
    assert judged["origin"] == {"init_from": str(run), "framework": "finetune", "branch": "online", "step": 8}
    assert "was fine-tuned on the mean of its patch tokens, and feature pooled holds" in capsys.readouterr().out
    params = final_state(run)["params"]
    before = final_state(finished[0])["params"]["encoder"]["block_1"]["mlp"]["fc1"]["kernel"]
    assert not np.array_equal(before, params["encoder"]["block_1"]["mlp"]["fc1"]["kernel"])
    asked, workdir = main.parse(command("configs/knn.py", run, tmp_path / "none", "--config.data.image_size=(16, 24)"))
    found = backbone.find(asked, workdir, resize_positions=True)
    chex.assert_trees_all_equal(found.load(sharding.make_mesh(16)), params["encoder"])
    assert found.encoder.image_size == (16, 24)


def test_from_scratch_needs_no_run(tmp_path):
    names = ["--config.data.name=digits", "--config.encoder.name=vit_ti", "--config.encoder.width=16",
             "--config.encoder.heads=(2,)", "--config.encoder.depth=(4,)", "--config.encoder.patch=4",
             "--config.data.image_size=(16, 16)", "--config.data.mean=(.5,.5,.5)"]  # fmt: skip
    result = evaluate(FINETUNE, None, tmp_path, *names, variants="scratch,tiny")
    assert (result["origin"]["init_from"], result["origin"]["branch"]) == (None, "untrained")


def test_a_head_that_diverges_is_not_chosen(finished, tmp_path, capsys):
    arguments = ["--config.linear.factors=(1.0, 1e38)", "--config.linear.held_out=0.0"]
    result = evaluate(LINEAR, finished[0], tmp_path / "one", *arguments, variants="cached,tiny")
    assert [head["top1"] is None for head in result["heads"]] == [False, True]
    assert "x 1e+38: diverged" in capsys.readouterr().out
    arguments = ["--config.linear.factors=(1.0,)", "--config.optim.lr=1e6", "--config.linear.init_std=1e3"]
    arguments += ["--config.dtype=float32", "--config.linear.held_out=0.0", "--config.optim.momentum=0.0"]
    lines = [*arguments, "--config.optim.weight_decay=1e6"]
    assert main.main(command(LINEAR, finished[0], tmp_path / "all", *lines, variants="cached,tiny")) == 1
    assert "All heads have diverged" in capsys.readouterr().err


def test_pre_trainings_measure_is_quoted_for_the_same_data_alone(finished, tmp_path):
    few = ["--config.data.test_split=test[:72]", "--config.linear.held_out=0.0"]
    assert evaluate(LINEAR, finished[0], tmp_path, *few, variants="cached,tiny")["run"] is None


def test_a_protocol_that_was_changed_says_so(finished, tmp_path, capsys):
    result = evaluate(LINEAR, finished[0], tmp_path, "--config.optim.lr=5.0", variants="cached,tiny,moby")
    assert "optim.lr 5.0 instead of 0.5" in result["departures"]
    assert "batch_size 16 instead of 1024" in result["departures"]
    assert not any(line.startswith(("augment.", "linear.")) for line in result["departures"])
    output = capsys.readouterr().out
    assert "but with batch_size 16 instead of 1024" in output
    assert (result["drop_path"], "drop path" in output) == (0.0, False), "features are extracted with all paths"
