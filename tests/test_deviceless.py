"""What XLA makes of a small step for a GPU and a TPU that are not there: what is sent, in which dtype, what is fused.

REPRE_DEVICELESS_PYTHON names an interpreter with JAX's plugins for both (requirements-deviceless.txt), which then must
work; else this one is tried. The steps are compiled as users compile them, for two chips and for eight.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.patience import HANGS

ROOT = Path(__file__).resolve().parent.parent
NAMED = os.environ.get("REPRE_DEVICELESS_PYTHON")
PYTHON = str(ROOT / NAMED) if NAMED else sys.executable
PLUGINS = {"h200:2": "jax_cuda12_plugin", "v6e:2x4": "libtpu"}
FUSED = {"h200:2": ("cudnn", "__cudnn$fmha"), "v6e:2x4": ("pallas", "tpu_custom_call")}
EMBEDDING = 64  # of :tiny
PER_CHIP = 8


def has(module):
    command = [PYTHON, "-c", f"import importlib.util; assert importlib.util.find_spec({module!r})"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module", params=PLUGINS)
def found(request):
    """(chip, what benchmarks.deviceless prints of :tiny with fused attention and gradients reduced in float32)."""
    chip = request.param
    if not NAMED and not has(PLUGINS[chip]):
        pytest.skip(f"{PLUGINS[chip]} is not installed; make deviceless installs it elsewhere and runs this")
    given = ["--chip", chip, "--config", "configs/moco_vit_s.py:tiny", "--batch", str(PER_CHIP), "--json"]
    command = [PYTHON, "-m", "benchmarks.deviceless", *given, f"--config.encoder.attention={FUSED[chip][0]}"]
    environment = {name: value for name, value in os.environ.items() if name != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    settings = {"cwd": ROOT, "env": environment | {"XLA_FLAGS": ""}, "timeout": HANGS}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    return chip, json.loads(done.stdout)


@pytest.mark.slow
def test_keys_alone_are_gathered(found):
    """Two views of a contrastive loss; no image and no activation."""
    _, made = found
    gathered = [row for row in made["collectives"] if row["kind"] not in ("all-reduce", "reduce-scatter")]
    assert {row["kind"] for row in gathered} <= {"all-gather"}
    assert sum(row["bytes"] for row in gathered) <= 2 * 4 * EMBEDDING * PER_CHIP * made["chips"]
