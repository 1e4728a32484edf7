"""configs/knn.py from the command line: what it measures, leaves behind, survives and refuses."""

import json
import os
import shutil
import signal

import cv2
import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

import main
from repre_jax.core import run_files, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.data import loader
from repre_jax.evaluation import rank
from repre_jax.tasks import pretrain
from tests.helpers.runs import ROOT, TINY

FEW = ["--config.data.train_split=train[:328]", "--config.data.test_split=test[:72]"]  # of digits
WHOLE = ["--config.data.train_split=train", "--config.data.test_split="]


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    monkeypatch.chdir(ROOT)


def command(init_from, workdir, *arguments):
    return ["main.py", "--config=configs/knn.py:tiny", f"--config.init_from={init_from}", f"--workdir={workdir}",
            *FEW, *arguments]  # fmt: skip


def judge(init_from, workdir, *arguments):
    assert main.main(command(init_from, workdir, *arguments)) == 0
    return json.loads((workdir / "result.json").read_text())


def lasting(result):
    return {key: value for key, value in result.items() if key not in ("command", "seconds")}


@pytest.fixture(scope="module")
def judged(finished, tmp_path_factory):
    """(workdir, result) with the crops of pre-training's own measure; to be looked at, not changed."""
    workdir = tmp_path_factory.mktemp("knn") / "judged"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return workdir, judge(finished[0], workdir, "--config.data.test_interpolation=bilinear")


def online(finished, k):
    """Pre-training's own measure, and the state that it is of."""
    wide = [f"--config.knn.k={k}", "--config.knn.train_records=999", "--config.knn.test_records=999"]
    job = pretrain.build(main.parse([*TINY, *FEW, *wide])[0])
    checkpoints = Checkpoints(finished[0] / "checkpoints")
    state = checkpoints.restore(8, jax.eval_shape(job.step.init_state), job.step.state_sharding)
    checkpoints.close()
    return job, state


def test_it_is_what_pre_training_measured(finished, judged, tmp_path):
    """Of the same records, with the same k; of the trained and of the untrained encoder."""
    job, state = online(finished, 20)
    assert judged[1]["knn_top1"]["20"] == job.monitor.knn(state)
    arguments = ("--config.network=untrained", "--config.data.test_interpolation=bilinear", "--config.knn.k=20")
    untrained = judge(finished[0], tmp_path, *arguments)
    assert untrained["knn_top1"] == {"20": job.monitor.knn(job.step.init_state())}
    assert untrained["origin"]["branch"] == "untrained"
    assert untrained["weights_sha256"] != judged[1]["weights_sha256"]


def test_the_result_says_what_it_depends_on(finished, judged):
    workdir, result = judged
    assert list(result["knn_top1"]) == ["10", "20", "100", "200"]
    assert len(set(result["knn_top1"].values())) > 1
    assert result["origin"] == {
        "init_from": str(finished[0]), "framework": "moco_v3", "branch": "online", "step": 8,
    }  # fmt: skip
    expected = {
        "task": "knn", "feature": "pooled", "dtype": "float32", "train_records": 328, "test_records": 72,
        "unreadable": 0, "image_size": [32, 32], "test_crop": 1.0, "test_interpolation": "bilinear",
        "train_split": "train[:328]", "test_split": "test[:72]", "channels": 3, "batch_size": 16,
        "mean": [0.5] * 3, "std": [0.5] * 3, "labels": 1.0,
        "temperature": 0.07, "effective_rank": None,
    }  # fmt: skip
    assert {key: result[key] for key in expected} == expected
    data = {"name": "digits", "version": "1.0.0", "train_records": 328, "test_records": 72, "classes": 10}
    assert {key: result["data_set"][key] for key in data} == data
    assert result["data_set"] == json.loads((workdir / "data.json").read_text())["identity"]
    assert (result["encoder"]["name"], result["encoder"]["heads"]) == ("vit_s", [4])
    assert result["command"].startswith("python ")
    assert result["seconds"] > 0
    config = json.loads((workdir / "config.json").read_text())
    assert (config["step"], config["network"], config["encoder"]["width"]) == (8, "online", 32)
    (start,) = run_files.read_metrics(workdir / "starts.jsonl")
    assert "jax" in start["versions"]


def test_the_same_evaluation_twice_gives_the_same(finished, judged, tmp_path):
    again = judge(finished[0], tmp_path / "again", "--config.data.test_interpolation=bilinear")
    assert lasting(again) == lasting(judged[1])


def test_features_in_chunks_are_those_of_whole_batches(finished, judged, tmp_path, monkeypatch, two_devices):
    monkeypatch.setattr(sharding, "CHUNK", 3)  # of the eight images that each device has
    judge(finished[0], tmp_path / "k", "--config.data.test_interpolation=bilinear")
    np.testing.assert_allclose(features(tmp_path / "k"), features(judged[0]), atol=1e-5)


def test_a_finished_one_prints_its_summary(finished, judged, monkeypatch, capsys):
    monkeypatch.setattr(loader, "test_batches", lambda *a, **k: pytest.fail("measured again"))
    before = {file: file.stat().st_mtime_ns for file in judged[0].rglob("*") if file.name != ".lock"}
    assert judge(finished[0], judged[0], "--config.data.test_interpolation=bilinear") == judged[1]
    output = capsys.readouterr().out
    assert "This evaluation is finished." in output
    for k, value in judged[1]["knn_top1"].items():
        assert f"{value:.1%}  k = {k}\n" in output
    assert before == {file: file.stat().st_mtime_ns for file in judged[0].rglob("*") if file.name != ".lock"}


@pytest.mark.parametrize(("split", "batch"), [("train", 12), ("test", 3)])
def test_stopped_by_a_signal_it_goes_on(finished, judged, tmp_path, monkeypatch, capsys, split, batch):
    batches, starts = loader.test_batches, []

    def signalled(source, view, *, start, **settings):
        name = {328: "train", 72: "test"}[len(source)]
        starts.append((name, start))
        for number, images in enumerate(batches(source, view, start=start, **settings)):
            if (name, start, number) == (split, 0, batch):
                os.kill(os.getpid(), signal.SIGTERM)
            yield images

    monkeypatch.setattr(loader, "test_batches", signalled)
    argv = command(finished[0], tmp_path / "k", "--config.data.test_interpolation=bilinear")
    assert main.main(argv) == 128 + signal.SIGTERM
    error = capsys.readouterr().err
    assert f"Stopped after {batch * 16} of " in error
    assert f"{split} images; their features are kept.\n  The same command goes on from there:" in error
    assert not (tmp_path / "k" / "result.json").exists()
    first = list(starts)
    assert main.main(argv) == 0
    assert starts[len(first) :] == [("train", 21 if split == "test" else batch), ("test", batch * (split == "test"))]
    result = json.loads((tmp_path / "k" / "result.json").read_text())
    assert lasting(result) == lasting(judged[1])
    assert len(run_files.read_metrics(tmp_path / "k" / "starts.jsonl")) == 2


def features(workdir):
    return np.load(workdir / "features" / "test" / "features.npy")


def test_another_config_is_refused_unless_it_is_named(finished, judged, tmp_path, capsys):
    """Features that the change leaves as they are stay."""
    first = judge(finished[0], tmp_path / "k")
    assert first["test_interpolation"] == "bicubic"
    assert not np.array_equal(features(tmp_path / "k"), features(judged[0]))
    assert main.main(command(finished[0], tmp_path / "k", "--config.knn.k=(5,)")) == 1
    error = capsys.readouterr().err
    assert "This workdir holds a run with another config:\n  knn.k: [10, 20, 100, 200] -> [5]" in error
    assert main.main(command(finished[0], tmp_path / "k", "--config.network=target")) == 1
    assert "network: 'online' -> 'target'" in capsys.readouterr().err
    free = judge(finished[0], tmp_path / "k", "--config.data.workers=3")
    assert free == first
    result = judge(finished[0], tmp_path / "k", "--config.knn.k=(10, 5)", "--config.may_change=('knn.k',)")
    assert list(result["knn_top1"]) == ["5", "10"]
    assert result["knn_top1"]["10"] == first["knn_top1"]["10"]
    assert "made anew" not in capsys.readouterr().out


def test_features_of_something_else_are_not_taken(finished, judged, tmp_path, capsys):
    shutil.copytree(judged[0], tmp_path / "k")
    changes = {"network": "target", "feature": "mean", "dtype": "bfloat16", "data.test_crop": 0.9, "data.labels": 0.5,
               "data.mean": "(0.4, 0.4, 0.4)", "data.std": "(0.4, 0.4, 0.4)"}  # fmt: skip
    arguments = [f"--config.{key}={value}" for key, value in changes.items()]
    allowed = f"--config.may_change={(*changes, 'data.test_interpolation')}"
    result = judge(finished[0], tmp_path / "k", *arguments, allowed)
    output = capsys.readouterr().out
    others = {"test": "crop, dtype, feature, mean, std, weights.",
              "train": "crop, data set, dtype, feature, mean, part of the labels, std, weights."}  # fmt: skip
    for split, names in others.items():
        assert f"{tmp_path / 'k' / 'features' / split} are made anew: they are of another {names}" in output
    fresh = judge(finished[0], tmp_path / "fresh", *arguments)
    assert result["knn_top1"] == fresh["knn_top1"]


def test_a_start_that_kept_nothing_binds_nobody(finished, tmp_path, monkeypatch):
    """As after a device ran out of memory: the smaller batch that was proposed is taken."""
    with monkeypatch.context() as patch:
        patch.setattr(loader, "test_batches", lambda *a, **k: pytest.fail("no memory"))
        with pytest.raises(pytest.fail.Exception):
            main.main(command(finished[0], tmp_path / "k"))
    assert (tmp_path / "k" / "config.json").exists()
    assert judge(finished[0], tmp_path / "k", "--config.batch_size=8")["train_records"] == 328


def test_a_part_of_the_labels(finished, tmp_path, capsys):
    results = [
        judge(finished[0], tmp_path / f"{draw}", "--config.data.labels=0.1", f"--config.data.draw={draw}")
        for draw in (0, 1)
    ]
    output = capsys.readouterr().out
    assert "0.1 of the labels, draw 1: 30 training records" in output
    assert "k = 20\n" in output
    assert "k = 100, where all 30 vote\n" in output
    for draw, result in enumerate(results):
        assert (result["labels"], result["draw"], result["train_records"]) == (0.1, draw, 30)
        assert list(result["knn_top1"]) == ["10", "20", "100", "200"]
        assert result["knn_top1"]["100"] == result["knn_top1"]["200"]
        labels = np.load(tmp_path / f"{draw}" / "features" / "train" / "labels.npy")
        assert set(np.bincount(labels)) == {3}
    voters = [np.load(tmp_path / f"{draw}" / "features" / "train" / "features.npy") for draw in (0, 1)]
    assert not np.array_equal(*voters)


def test_the_temperature_is_the_configs(finished, judged, tmp_path):
    """So low that the nearest decides, whatever k is."""
    settings = ("--config.data.test_interpolation=bilinear", "--config.knn.temperature=1e-6")
    shutil.copytree(judged[0], tmp_path / "k")
    result = judge(finished[0], tmp_path / "k", *settings, "--config.may_change=('knn.temperature',)")
    assert result["temperature"] == 1e-6
    assert len(set(result["knn_top1"].values())) == 1
    assert result["knn_top1"]["200"] != judged[1]["knn_top1"]["200"]


def test_training_images_as_test_images_are_warned_of(finished, tmp_path, capsys):
    judge(finished[0], tmp_path / "k", "--config.data.test_split=train[:328]")
    assert "Warning: the test images are the training images" in capsys.readouterr().out


def test_the_workdir_of_another_task_is_not_taken(finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path / "run")
    assert main.main(command(finished[0], tmp_path / "run")) == 1
    error = capsys.readouterr().err
    assert "This workdir holds a run of the task pretrain, not of knn.\n  change:   --workdir" in error
    assert len(error.splitlines()) == 2


def pictures(folder):
    folder.mkdir()
    for number, pixels in enumerate(load_digits().images[:40]):
        cv2.imwrite(str(folder / f"{number}.png"), np.round(pixels * 255 / 16).astype(np.uint8))
    return f"--config.data.name=folder:{folder}"


def test_without_labels_it_is_the_effective_rank(finished, tmp_path, capsys):
    name = (pictures(tmp_path / "images"), *WHOLE)
    (tmp_path / "images" / "torn.png").write_bytes(b"none")
    result = judge(finished[0], tmp_path / "k", *name, "--config.data.max_unreadable=0.1")
    assert (result["knn_top1"], result["effective_rank_because"]) == (
        None,
        "training and test images have no labels in common",
    )
    assert (result["train_records"], result["unreadable"]) == (40, 1)
    found = np.load(tmp_path / "k" / "features" / "train" / "features.npy")[:40]
    assert result["effective_rank"] == rank.effective_rank(found)
    output = capsys.readouterr().out
    assert "effective rank  in place of k-NN: training and test images have no labels in common" in output
    assert "Warning: 1 of 41 train records could not be read and are left out." in output
    assert f"effective rank  {result['effective_rank']:.1f}  of 40 training images (RankMe;" in output
    assert main.main(command(finished[0], tmp_path / "l", *name)) == 1
    assert "1 of 41 train records could not be read.\n" in capsys.readouterr().err


MISTAKES = {
    "no encoder": (["--config.init_from="], "init_from is not set: which encoder?"),
    "no run": (["--config.init_from=configs"], "configs is neither a run, with a folder checkpoints, nor a file"),
    "unknown step": (["--config.step=7"], "has no checkpoint 7"),
    "unknown branch": (["--config.network=teacher"], "Unknown network 'teacher'"),
    "unknown feature": (["--config.feature=gap"], "Unknown feature 'gap'"),
    "too many blocks": (["--config.feature=cls7"], "feature is 'cls7', and the encoder has 2 blocks"),
    "no k": (["--config.knn.k=()"], "knn.k is ().\n  expected: whole numbers above 0"),
    "k that is no number": (["--config.knn.k=(True,)"], "knn.k is (True,)"),
    "k of nothing": (["--config.knn.k=(10, 0)"], "knn.k is (10, 0)"),
    "temperature 0": (["--config.knn.temperature=0.0"], "knn.temperature is 0.0"),
    "unknown interpolation": (["--config.data.test_interpolation=lanczos"], "Unknown data.test_interpolation"),
    "images that do not fit": (["--config.data.image_size=(30, 30)"], "cannot be cut into patches of 8 x 8"),
    "mean of two": (["--config.data.mean=(0.5, 0.5)"], "data.mean is (0.5, 0.5)"),
    "too many labels": (["--config.data.labels=1.5"], "data.labels is 1.5"),
    "other architecture": (["--config.encoder.depth=(3,)"], "encoder.depth is (3,), and"),
    "unknown split": (["--config.data.test_split=val"], "no split 'val'"),
    "unknown data set": (["--config.data.name=cifar11"], "Data set cifar11 was not found"),
    "key that is none": (["--config.may_change=('knn.n',)"], "may_change names 'knn.n'"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_one_message(finished, tmp_path, capsys, arguments, message):
    assert main.main(command(finished[0], tmp_path / "k", *arguments)) == 1
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    assert message in output.err
    assert 0 < len(output.err.strip().splitlines()) <= 8
    assert not (tmp_path / "k").exists(), "nothing is left of an evaluation that never began"


def test_labels_of_what_has_none(finished, tmp_path, capsys):
    arguments = (pictures(tmp_path / "images"), *WHOLE, "--config.data.labels=0.1")
    assert main.main(command(finished[0], tmp_path / "k", *arguments)) == 1
    assert "data.labels is 0.1, and 40 of 40 training records have no label" in capsys.readouterr().err


def test_devices_that_do_not_divide_the_batch(two_devices, finished, tmp_path, capsys):
    assert main.main(command(finished[0], tmp_path / "k", "--config.batch_size=13")) == 1
    assert "batch_size 13 cannot be split evenly over 2 devices" in capsys.readouterr().err
