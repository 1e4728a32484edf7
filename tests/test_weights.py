"""A new run from another run's weights or a file's, the measure that needs no labels, and what `inspect` prints."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import cv2
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from sklearn.datasets import load_digits

import main
from repre_jax.core import manifest, run_files
from repre_jax.core.errors import UserError
from repre_jax.evaluation.rank import effective_rank
from repre_jax.interop import files, timm
from repre_jax.pretrained import warm_start, weight_file
from repre_jax.system import command_line
from repre_jax.tasks import pretrain
from repre_jax.tools import export, inspect
from tests.golden.published import as_framework
from tests.golden.weights import state_dict

ROOT = Path(__file__).resolve().parent.parent
SHORT = ["--config.total_steps=2", "--config.checkpoint.every=1"]


def command(workdir, *arguments, config="moco_vit_s", variants="tiny"):
    return ["main.py", "--config", f"configs/{config}.py:{variants}", "--workdir", str(workdir), *SHORT, *arguments]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "source"
    assert main.main(command(workdir)) == 0
    return workdir


def params(workdir, step):
    state = ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / "state")
    return state["params"], state["target"]


def test_a_new_run_starts_from_another_ones_weights(source, tmp_path, capsys):
    """At a rate of (nearly) zero nothing has moved after a step: parameters are the source's, and so is the target."""
    still = ["--config.optim.lr=1e-12", "--config.optim.weight_decay=0.0"]
    assert main.main(command(tmp_path / "new", f"--config.init_from={source}", *still)) == 0
    output = capsys.readouterr().out
    assert f"A new run, from the weights of {source} at step 2: balance, decoder, encoder, predictor" in output
    assert "Going on" not in output
    ours, target = params(tmp_path / "new", 1)
    theirs, _ = params(source, 2)
    chex.assert_trees_all_close(ours, theirs, atol=1e-9)
    chex.assert_trees_all_close(target, {name: theirs[name] for name in target}, atol=1e-9)
    measured, before = (run_files.read_metrics(folder / "metrics.jsonl") for folder in (tmp_path / "new", source))
    assert measured[0]["knn_top1"] == before[-1]["knn_top1"]
    assert json.loads((tmp_path / "new" / "starts.jsonl").read_text())["step"] == 0


def test_it_goes_on_from_its_own_checkpoint_then(source, tmp_path, monkeypatch, capsys):
    """Even when the source has gone; before there is one, from the checkpoint that was taken, though it trains on."""
    argv = command(tmp_path / "new", f"--config.init_from={tmp_path / 'moved'}")
    shutil.copytree(source, tmp_path / "moved")
    checkpoints, later = tmp_path / "moved" / "checkpoints", tmp_path / "later"
    later.mkdir()
    for name in ("2", "2.manifest.json"):
        shutil.move(checkpoints / name, later)
    with monkeypatch.context() as patch:
        patch.setattr(warm_start, "start_from", cut_short)
        assert main.main(argv) == 1
    for name in ("2", "2.manifest.json"):
        shutil.move(later / name, checkpoints)
    capsys.readouterr()
    assert main.main(argv) == 0
    assert "moved at step 1: balance" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "moved")
    shutil.rmtree(tmp_path / "new" / "checkpoints" / "2")
    (tmp_path / "new" / "result.json").unlink()
    capsys.readouterr()
    assert main.main(argv) == 0
    assert "Going on from step 1 of 2." in (output := capsys.readouterr().out)
    assert "A new run" not in output


def cut_short(*_):
    raise UserError("a start that ends before its first step")


def test_parts_that_do_not_fit_are_new(source, tmp_path, capsys):
    """Another framework takes the encoder and the decoder; its own heads are new."""
    argv = command(tmp_path / "new", f"--config.init_from={source}", config="moco_v2_vit_s")
    assert main.main([*argv, "--config.encoder.variant=moco_v3"]) == 0
    output = capsys.readouterr().out
    assert "at step 2: balance, decoder, encoder." in output
    assert "new:      projector, optimiser, step 0" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.init_from={tmp}/none"], "There is no whole checkpoint in {tmp}/none/checkpoints."),
        (["--config.init_from={tmp}/new"], "init_from is the run's own workdir"),
        (["--config.init_from={source}", "--config.encoder.width=64"], "encoder.width: 32 -> 64"),
        (["--config.init_from={source}", "--config.encoder.variant=deit"], "encoder.variant: 'moco_v3' -> 'deit'"),
        (["--config.init_from={source}", "--config.data.channels=1", "--config.data.mean=(0.5,)",
          "--config.data.std=(0.5,)"], "patch_embed/kernel: (8, 8, 3, 32) -> (8, 8, 1, 32)"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_taken(source, tmp_path, capsys, arguments, message):
    filled = [argument.format(tmp=tmp_path, source=source) for argument in arguments]
    assert main.main(command(tmp_path / "new", *filled)) == 1
    assert message.format(tmp=tmp_path) in capsys.readouterr().err


@pytest.fixture(scope="module")
def exported(source):
    """The source's encoder as a file with a card."""
    assert export.main([str(source), "--format=npz", "--network=target"]) == 0
    return source / "export" / "moco_v3-vit_s-target-2.npz"


def test_a_new_run_starts_from_a_file(source, exported, tmp_path, capsys):
    """Its encoder alone, and the target starts as a copy of it; heads, decoder and optimiser are new."""
    still = ["--config.optim.lr=1e-12", "--config.optim.weight_decay=0.0"]
    assert main.main(command(tmp_path / "new", f"--config.init_from={exported}", *still)) == 0
    output = capsys.readouterr().out
    assert f"from the weights of the target encoder of moco_v3, step 2, in {exported}: encoder.\n" in output
    assert "new:      balance, decoder, predictor, projector, optimiser, step 0" in output
    ours, target = params(tmp_path / "new", 1)
    _, theirs = params(source, 2)
    chex.assert_trees_all_close(ours["encoder"], theirs["encoder"], atol=1e-9)
    chex.assert_trees_all_close(target["encoder"], theirs["encoder"], atol=1e-9)
    start = json.loads((tmp_path / "new" / "starts.jsonl").read_text())
    assert (start["step"], start["init_from"], start["init_step"]) == (0, str(exported), 2)
    assert (start["branch"], start["sha256"]) == ("target", weight_file.sha256(exported))


def test_a_framework_s_file_starts_a_run_with_what_its_authors_evaluate(tmp_path, capsys):
    """Of DINO the teacher; positions of another grid are resized, as they would be for larger images."""
    online = state_dict("dino")
    target = {name: array + 1 for name, array in online.items()}
    files.write(tmp_path / "dino.safetensors", as_framework("DINO", online, target))
    job = pretrain.build(small := dino_config(f"--config.init_from={tmp_path / 'dino.safetensors'}"))
    found = warm_start.find(small, tmp_path / "new")
    assert (found.path, found.network) == (tmp_path / "dino.safetensors", "target")
    state = warm_start.start_from(job.step, found)
    assert "the target encoder of dino, in" in (output := capsys.readouterr().out)
    assert "resized:  1: pos_embed" in output
    expected = timm.load(target, job.step.method.encoder, resize=True)
    chex.assert_trees_all_equal(jax.device_get(state.params["encoder"]), expected)
    chex.assert_trees_all_equal(jax.device_get(state.target["encoder"]), expected)


def dino_config(*arguments):
    """One whose encoder the weights of tests/golden fit, for images of twice their size."""
    sizes = ["width=24", "depth=(6,)", "heads=(3,)", "patch=4"]
    argv = ["main.py", "--config=configs/dino_vit_s.py:tiny", *(f"--config.encoder.{size}" for size in sizes)]
    return command_line.parse([*argv, *arguments])[0]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("{exported}", ["--config.encoder.width=64"], "{exported} has another encoder:\n  encoder.width: 32 -> 64"),
        ("{exported}", ["--config.encoder.variant=deit"], "encoder.variant: 'moco_v3' -> 'deit'"),
        ("{plain}", [], "is not MoCo v3's fixed table"),
        ("{plain}", ["--config.encoder.variant=deit"], "{plain}\n  change:   --config.encoder.name, variant"),
        ("{odd}", [], "of an unknown kind"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_taken(exported, tmp_path, capsys, name, arguments, message):
    paths = {"exported": exported, "plain": tmp_path / "x.safetensors", "odd": tmp_path / "x.onnx"}
    files.write(paths["plain"], state_dict("deit"))
    paths["odd"].write_bytes(b"")
    argv = command(tmp_path / "new", f"--config.init_from={name.format(**paths)}", *arguments)
    assert main.main(argv) == 1
    assert message.format(**paths) in capsys.readouterr().err


def test_effective_rank_of_known_features():
    rng = np.random.default_rng(0)
    line = rng.normal(size=(50, 1)) * rng.normal(size=(1, 9))
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    directions = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    assert effective_rank(np.concatenate([directions, -directions])) == pytest.approx(9, rel=1e-4)
    two = np.diag([3.0, 1.0])
    assert effective_rank(two) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))), rel=1e-5)
    assert effective_rank(np.zeros((4, 3))) == pytest.approx(1, abs=1e-3)


def test_without_labels_the_effective_rank_is_measured(tmp_path, capsys):
    """A folder of images: on the way, at the end, and to choose the best checkpoint by."""
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(load_digits().images[:40]):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.round(pixels * 255 / 16).astype(np.uint8))
    workdir = tmp_path / "run"
    argv = command(workdir, f"--config.data.name=folder:{tmp_path / 'images'}", "--config.checkpoint.keep=1")
    argv += ["--config.checkpoint.every=99", "--config.optim.lr=0.05", "--config.total_steps=6"]
    assert main.main([*argv, "--config.knn.times=6"]) == 0
    rows = run_files.read_metrics(workdir / "metrics.jsonl")
    ranks = {row["step"]: row["effective_rank"] for row in rows if "effective_rank" in row}
    assert set(ranks) == set(range(7))
    assert all(1 <= value <= 32 for value in ranks.values())
    result = json.loads((workdir / "result.json").read_text())
    assert result["effective_rank"] == pytest.approx(ranks[6], rel=1e-6)
    assert result["effective_rank_untrained"] == pytest.approx(ranks[0], rel=1e-6)
    del ranks[0]
    kept = {int(path.name) for path in (workdir / "checkpoints").iterdir() if path.is_dir()}
    assert kept == {6, max(ranks, key=ranks.get)}
    assert "effective rank" in capsys.readouterr().out


def test_inspect_prints_what_is_inside(source, capsys):
    """As a command of its own, which must not need a second device or an accelerator."""
    before = {file: file.stat().st_mtime_ns for file in source.rglob("*")}
    done = subprocess.run(
        [sys.executable, "-m", "repre_jax.tools.inspect", str(source)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for wanted in (
        "Checkpoint 2:", "whole, online measure 0.", "encoder 0.03 M", "name digits", "train_records 1437",
        "optim.lr ", "from step 0, ", "opt_state ", "target ",
    ):  # fmt: skip
        assert wanted in done.stdout, wanted
    assert f"{manifest.size(source / 'checkpoints' / '2') / 1e6:.3f}"[:4] in done.stdout
    assert before == {file: file.stat().st_mtime_ns for file in source.rglob("*")}


def test_inspect_names_what_is_damaged(source, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(source, run)
    (run / "checkpoints" / "2" / "record" / "metadata").write_text("{}")
    assert inspect.main([str(run), "--verify"]) == 0
    output = capsys.readouterr().out
    assert "damaged: its file record/metadata has 2 of" in output
    assert "Checkpoint 1:" in output
    for arguments, message in (
        (["--step=2"], "Checkpoint 2 is damaged"),
        (["--step=7"], "expected: one of 1, 2"),
    ):
        assert inspect.main([str(run), *arguments]) == 1
        assert message in capsys.readouterr().err
    assert inspect.main([str(tmp_path)]) == 1
    assert "holds no run" in capsys.readouterr().err
