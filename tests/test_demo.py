"""The demo reaches the figures that it is there to show."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEST_ONLY = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")  # conftest sets them


@pytest.mark.slow
def test_the_demo_learns(tmp_path):
    """In a process of its own with the devices as they are, not the two fake ones."""
    command = [sys.executable, "main.py", "--config", "configs/moco_vit_s.py:digits", "--workdir", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name not in TEST_ONLY}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["knn_top1"] >= 0.85
    assert result["knn_top1"] - result["knn_top1_untrained"] >= 0.20
    assert result["knn_top1_pixels"] == pytest.approx(0.944, abs=0.002)
    assert result["reconstruction_l1"] < result["reconstruction_l1_mean_colour"] / 4


@pytest.mark.skipif(
    shutil.which("make") is None,
    reason="reads the Makefile as make does, and pytest may be run by itself on a machine without make",
)
@pytest.mark.parametrize(("target", "variant"), [("demo", "digits"), ("scenes", "scenes")])
def test_it_ends_with_its_accuracies_and_where_to_look(target, variant):
    """As make would do it: the linear probe's summary has k-NN's accuracy, too, and both of the untrained encoder."""
    folder = f"{target.upper()}_DIR=runs/x"
    command = ["make", "-n", target, "VENV=none", f"PYTHON={sys.executable}", "ACCELERATOR=cpu", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    text = done.stdout.replace("\\\n", "")
    lines = [line for line in text.splitlines() if not line.startswith("make")]  # under make it names folders
    first, figures, *others, last = (line for line in lines if "docs/scenes.md" not in line)
    linear = next(line for line in others if "configs/linear.py" in line)
    assert f"configs/moco_vit_s.py:{variant} --workdir runs/x" in first
    assert "repre_jax.tools.figures all runs/x" in figures
    assert f"configs/linear.py:{variant},cached --config.init_from=runs/x" in linear
    assert last.startswith("echo ") and "runs/x/report.html" in last
    if target == "scenes":
        *tasks, results = others[-5:]
        for task, kind in (("segment", "segmentation"), ("detect", "detection")):
            train, drawn, *tasks = tasks
            assert train.endswith(
                f"main.py --config configs/{task}.py:scenes --config.init_from=runs/x --workdir runs/x-{task}"
            )
            assert f"repre_jax.tools.figures {kind} runs/x-{task}" in drawn
        assert results.split()[-5:] == [
            "runs/x",
            *(f"runs/x-{task}" for task in ("knn", "linear", "segment", "detect")),
        ]
