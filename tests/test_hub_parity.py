"""Exported folders opened by Hugging Face transformers itself: its features and pixels are ours.

REPRE_HUB_PYTHON names an interpreter with requirements-transformers.txt, which then must work, as in `make hub`; else
this one is tried.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from benchmarks import hub_parity
from repre_jax.core.errors import UserError
from repre_jax.pretrained import weight_file
from repre_jax.tools import export
from tests.export.test_export import RECTANGLE
from tests.helpers.saved import GREY, saved_run

ROOT = Path(__file__).resolve().parent.parent
NAMED = os.environ.get("REPRE_HUB_PYTHON")
PYTHON = str(ROOT / NAMED) if NAMED else sys.executable
SWIN = ["--config.encoder.depth=(2,2)", "--config.encoder.heads=(1,2)", "--config.encoder.window=3"]
RUNS = {
    "sin-cos positions, half of the image cut": ("moco_vit_s", "--config.data.test_crop=0.5"),
    "learned positions of a rectangle, grey": ("moco_vit_s", "--config.encoder.variant=deit", *RECTANGLE, *GREY),
    "no class token": ("moco_vit_s", "--config.encoder.class_token=False"),
    "learned, no class token": ("dino_vit_s", "--config.encoder.class_token=False"),
    "windows that fit": ("moby_swin_t", "--config.data.image_size=(24,24)", *SWIN),
    "windows padded and shifted, grey": ("moby_swin_t", "--config.data.image_size=(24,36)", *SWIN, *GREY),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not NAMED and not importlib.util.find_spec("transformers"),
        reason="transformers is not installed; `make hub` installs it elsewhere and runs this",
    ),
]


def folder_of(run, config, *overrides):
    saved_run(run, config, *overrides)
    assert export.main([str(run), "--format=transformers"]) == 0
    (folder,) = (run / "export").iterdir()
    return folder


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Name of a run -> what transformers sees in its export; one process opens them all."""
    folders = [folder_of(tmp_path_factory.mktemp("hub") / "run", *run) for run in RUNS.values()]
    return dict(zip(RUNS, hub_parity.compare(folders, PYTHON), strict=True))


@pytest.mark.parametrize("name", RUNS)
def test_transformers_sees_what_we_do(seen, name):
    found = seen[name]
    assert max(found.tokens, found.pooled) < 2e-5, found
    assert found.pixels < 1e-6, found


def test_what_does_not_fit_is_told(tmp_path):
    """A tensor that transformers would draw at random, and a setting that changes the features."""
    folder = folder_of(tmp_path / "run", "moco_vit_s")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-2}))
    (found,) = hub_parity.compare([folder], PYTHON)
    assert found.pooled > hub_parity.TOLERANCE
    arrays = load_file(folder / "model.safetensors")
    del arrays["layernorm.bias"]
    (folder / "config.json").write_text(json.dumps(config))
    card = json.loads((folder / "model.safetensors.json").read_text())
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    card["sha256"] = weight_file.sha256(folder / "model.safetensors")
    (folder / "model.safetensors.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"missing: +norm\.bias"):
        hub_parity.compare([folder], PYTHON)
    done = subprocess.run(
        [PYTHON, "-P", str(hub_parity.PEER), str(folder), "none.npz", "none.npz"],
        env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "'missing_keys': ['layernorm.bias']" in done.stderr.splitlines()[-1]
