"""The contact sheet of what a network sees, and the input's benchmark, as commands."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from repre_jax.core import command_line
from repre_jax.data import loader
from repre_jax.report import figures as drawing
from repre_jax.tasks import setup
from repre_jax.tools import figures

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("config", ["dino_vit_s", "moco_vit_s"])
def test_the_contact_sheet_shows_what_the_first_step_sees(config, tmp_path, monkeypatch):
    """Not its pixels but its data: the first rows of the run's own first batch, augmented as there."""
    monkeypatch.chdir(ROOT)
    drawn = {}
    monkeypatch.setattr(
        drawing, "augmentations", lambda path, views, local: drawn.update(path=path, views=views, local=local)
    )
    flag = f"--config=configs/{config}.py:tiny"
    assert figures.main(["augmentations", flag, "--records=3", "--config.seed=4", f"--out={tmp_path / 'a.png'}"]) == 0
    job = setup.build(command_line.parse(["main.py", flag, "--config.seed=4"])[0])
    first = next(loader.train_batches(job.dataset.train, job.train_view, batch_size=16, start_step=0, workers=0))
    pixels = job.method.augment(job.init_state().rng, 0, first)
    np.testing.assert_allclose(drawn["views"], pixels.views[:3], atol=1e-5)
    assert (drawn["local"] is None) == (config == "moco_vit_s")
    if config == "dino_vit_s":
        np.testing.assert_allclose(drawn["local"], pixels.local[:3], atol=1e-5)


def test_it_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "sheet.png"
    assert figures.main(["augmentations", "--config=configs/dino_vit_s.py:tiny", "--records=2", f"--out={path}"]) == 0
    assert f"Drawn: {path}" in capsys.readouterr().out
    assert cv2.imread(str(path)).shape[1] > 500
    for wrong in (tmp_path / "none" / "a.png", tmp_path / "a.bmp"):
        assert figures.main(["augmentations", "--config=configs/dino_vit_s.py:tiny", f"--out={wrong}"]) == 1
        assert "expected: a .png or .pdf in a folder that exists" in capsys.readouterr().err
    assert figures.main(["augmentations", "--config=configs/none.py"]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert figures.main(["augmentations", "--config=configs/dino_vit_s.py:tiny", "--records=0"]) == 1
    assert "at least 1" in capsys.readouterr().err


def test_the_input_benchmark_prints_its_ratios():
    """Positive and consistent, not fast: speed is no test's business."""
    command = [sys.executable, "-m", "benchmarks.input_pipeline", "--json", "--records=64", "--workers=1"]
    command += ["--config=configs/moco_vit_s.py:tiny", "--batches=4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    parts = result["milliseconds"]
    host = sum(parts[name] for name in ("read", "decode", "crop", "batch"))
    assert result["ours_images_per_second_per_core"] == pytest.approx(1000 / host)
    assert result["ratio"] == pytest.approx(parts["Pillow, wholly"] / host)
    assert result["ratio_with_device_stage"] == pytest.approx(parts["Pillow, wholly"] / (host + parts["device stage"]))
    assert min(parts.values()) > 0
    assert result["images_per_second_with_workers"] > 0
