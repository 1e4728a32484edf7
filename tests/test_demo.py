"""The demo reaches the figures that it is there to show."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEST_ONLY = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")  # conftest sets them


@pytest.mark.slow
def test_the_demo_learns(tmp_path):
    """In a process of its own with the devices as they are, not the eight fake ones."""
    command = [sys.executable, "main.py", "--config", "configs/moco_vit_s.py:digits", "--workdir", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name not in TEST_ONLY}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["knn_top1"] >= 0.85
    assert result["knn_top1"] - result["knn_top1_untrained"] >= 0.20
    assert result["knn_top1_pixels"] == pytest.approx(0.944, abs=0.002)
    assert result["reconstruction_l1"] < result["reconstruction_l1_mean_colour"] / 4
