"""Runs that version 0.1.0 left: checkpoints, config, result and export still read, and a run goes on.

tests/fixtures/run-0.1.0.tar.gz was written at commit 4830b74, by `configs/moco_vit_s.py:tiny` with the keys of COMMAND,
4 steps; by `configs/linear.py:mae,tiny` on it, 4 steps; and by `repre_jax.tools.export` of it.
"""

import json
import tarfile
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import main
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.renamed_keys import RENAMED, with_new_names
from repre_jax.core.types import TrainState
from repre_jax.interop import files
from repre_jax.models import build_encoder
from repre_jax.pretrained import saved_run, weight_file
from repre_jax.report import evaluated
from tests.helpers.runs import ROOT

ARCHIVE = Path(__file__).parent / "fixtures" / "run-0.1.0.tar.gz"
COMMAND = [
    "main.py", "--config=configs/moco_vit_s.py:tiny", "--config.encoder.width=16", "--config.encoder.depth=(2,)",
    "--config.encoder.heads=(2,)", "--config.encoder.hierarchies=2", "--config.encoder.patch=16",
    "--config.framework.hidden=8", "--config.framework.out=8", "--config.knn.times=1", "--config.tensorboard=False",
    "--config.checkpoint.keep=1", "--config.checkpoint.best=False", "--config.repre.preset=light",
    "--config.compile_cache=False",
]  # fmt: skip
STEP_6 = {"loss": 4.212338447570801, "contrastive": 3.626009464263916, "reconstruction": 0.5863955020904541}  # its own


@pytest.fixture
def earlier(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_a_run_goes_on_as_it_would_have(earlier, monkeypatch, capsys):
    """With the old names of keys on the command line: a note says the new one, and step 6 has the loss it had then."""
    monkeypatch.chdir(ROOT)
    run = earlier / "pretrain"
    longer = ["--config.total_steps=6", "--config.may_change=('total_steps',)", f"--workdir={run}"]
    assert main.main([*COMMAND, *longer]) == 0
    printed = capsys.readouterr().out
    assert "Note: --config.encoder.hierarchies is now called --config.encoder.pyramid_levels." in printed
    assert "Going on from step 4 of 6." in printed
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert {name: rows[-1][name] for name in STEP_6} == pytest.approx(STEP_6, rel=1e-4)


def test_a_finished_run_prints_its_summary(earlier, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main.main([*COMMAND, "--config.total_steps=4", f"--workdir={earlier / 'pretrain'}"]) == 0
    printed = capsys.readouterr().out
    assert "This run is finished." in printed
    assert "71.9%  trained encoder" in printed


def test_a_result_prints(earlier):
    printed = evaluated.linear(json.loads((earlier / "linear" / "result.json").read_text()))
    assert "linear top-1" in printed and "8.6%  trained encoder" in printed
    assert "moco_v3, online, step 4, feature cls" in printed


def test_running_statistics_have_moved(earlier):
    """A probe's mean and variance stood in the state's field `extra`; they are read as batch_stats, to the bit."""
    folder = earlier / "linear" / "checkpoints"
    raw = ocp.StandardCheckpointer().restore(folder / "4" / "state")
    checkpoints = Checkpoints(folder)
    shapes = TrainState(**checkpoints.shapes(4))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = checkpoints.restore(4, shapes, jax.tree.map(lambda _: here, shapes))
    checkpoints.close()
    assert set(raw["extra"]) == {"mean", "var"}
    assert state.framework_state == {}
    for name, values in raw["extra"].items():
        assert np.abs(values).max() > 0
        np.testing.assert_array_equal(state.batch_stats[name], values)
    np.testing.assert_array_equal(state.params["kernel"], raw["params"]["kernel"])


def test_an_export_and_a_checkpoint_hold_the_same_encoder(earlier):
    """The export's card and the checkpoint's record have the config's old keys."""
    (file,) = (earlier / "pretrain" / "export").glob("*.safetensors")
    card = weight_file.read(file).card
    saved = saved_run.saved(earlier / "pretrain", None, None)
    assert (saved.network, saved.step, saved.config.encoder.variant) == ("online", 4, "moco_v3")
    assert card["config"]["encoder"]["pyramid_levels"] == saved.config.encoder.pyramid_levels == 2
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    kernel = saved.load(mesh)["patch_embed"]["kernel"]
    theirs = files.read(file)["patch_embed.proj.weight"]
    np.testing.assert_array_equal(np.asarray(kernel).transpose(3, 2, 0, 1), theirs)


def test_every_old_key_has_one_new_name():
    old = {"branch": "target", "encoder": {"flavour": "dino", "hierarchies": 3}, "repre": {"balance_lr_scale": 2.0}}
    new = {
        "network": "target",
        "encoder": {"variant": "dino", "pyramid_levels": 3},
        "repre": {"weighting_lr_scale": 2.0},
    }
    assert with_new_names(old) == new
    assert with_new_names(new) == new
    assert len(RENAMED) == 4
    assert "flavour" in old["encoder"], "the original stays"


def test_build_encoder_takes_old_names(capsys):
    encoder = build_encoder("vit_ti", width=32, depth=2, heads=2, flavour="dino", hierarchies=2)
    assert (encoder.variant, encoder.pyramid_levels) == ("dino", 2)
    assert "setting hierarchies is now called pyramid_levels." in capsys.readouterr().out
