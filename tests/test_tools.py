"""The input's benchmark as a command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
