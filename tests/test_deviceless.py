"""What XLA makes of a small step for two GPUs and eight TPUs that are not there: what is sent, in which dtype, what is
fused.

REPRE_DEVICELESS_PYTHON names an interpreter with JAX's plugins for both (requirements-deviceless.txt), which then must
work, as in .ci/run; else this one is tried. The steps are compiled as users compile them.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks import steps
from repre_jax.builders import compiled_step
from repre_jax.core import optim
from tests.helpers.patience import HANGS

ROOT = Path(__file__).resolve().parent.parent
NAMED = os.environ.get("REPRE_DEVICELESS_PYTHON")
PYTHON = str(ROOT / NAMED) if NAMED else sys.executable
CONFIG, PER_CHIP = "configs/moco_vit_s.py:tiny", 8
TRITON = "__gpu$xla.gpu.triton"  # XLA's name of a call of a kernel that Pallas wrote
BLOCKS, PASSES = 2, 3  # online, its gradient, target
# Chips: (the plugin, the attention, the kernel that fuses it, in which dtype gradients are reduced, the key for that).
CHIPS = {
    "h200:2": ("jax_cuda12_plugin", "cudnn", "__cudnn$fmha", "bf16", ()),
    "v6e:2x4": ("libtpu", "pallas", "tpu_custom_call", "f32", ("--config.gradient_reduction=float32",)),
}


def has(module):
    command = [PYTHON, "-c", f"import importlib.util; assert importlib.util.find_spec({module!r})"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def printed(plugin, *arguments):
    """By an interpreter that has the plugin, without the tests' settings of XLA."""
    if not NAMED and not has(plugin):
        pytest.skip(f"{plugin} is not installed; `make deviceless` installs it elsewhere and runs this")
    environment = {name: value for name, value in os.environ.items() if name != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    settings = {"cwd": ROOT, "env": environment | {"XLA_FLAGS": ""}, "timeout": HANGS}
    done = subprocess.run([PYTHON, *arguments], capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def compiled(plugin, chips, *more):
    """What benchmarks.deviceless prints of :tiny for them."""
    given = ["--chip", chips, "--config", CONFIG, "--batch", str(PER_CHIP), "--whole", "--json"]
    return printed(plugin, "-m", "benchmarks.deviceless", *given, *more)


@pytest.fixture(scope="module", params=CHIPS)
def found(request):
    """(chips, what is made of :tiny for them)."""
    plugin, attention, _, _, key = CHIPS[request.param]
    return request.param, compiled(plugin, request.param, f"--attention={attention}", *key)


@pytest.fixture(scope="module")
def trained():
    """How many parameters have a gradient."""
    step = compiled_step.build(steps.parse(CONFIG, []))
    scale = optim.values_by_path(step.shapes.params, step.method.rules, "lr_scale")
    pairs = zip(*map(jax.tree.leaves, (step.shapes.params, scale)), strict=True)
    return sum(math.prod(array.shape) for array, factor in pairs if factor)


@pytest.mark.slow
def test_what_chips_send_each_other_are_gradients_statistics_and_keys(found, trained):
    """No image and no activation. Gradients once, in the dtype that the docs say."""
    chips, made = found
    dtype = CHIPS[chips][3]
    sent = {"all-reduce": 0, "all-gather": 0}
    for row in made["collectives"]:
        sent[row["kind"]] += row["bytes"]  # KeyError for any other kind
    keys = 2 * 4 * 64 * PER_CHIP * made["chips"]  # float32, of two views, 64 wide
    assert sent["all-gather"] <= 2 * keys, "for the loss and for its gradient"
    reduced = [row for row in made["collectives"] if row["kind"] == "all-reduce"]
    of_gradients = sum(row["bytes"] for row in reduced if row["dtype"] == dtype)
    size = {"bf16": 2, "f32": 4}[dtype]
    assert 0.9 * size * trained <= of_gradients <= 1.2 * size * trained
    assert sum(row["bytes"] for row in reduced if row["dtype"] != dtype) <= 0.3 * of_gradients


@pytest.mark.slow
def test_products_are_in_bfloat16_and_attention_is_one_kernel(found):
    chips, made = found
    assert made["flops_of_products"] > 0
    assert made["flops_of_float32"] <= 0.1 * made["flops_of_products"]
    fused = sum(count for name, count in made["libraries"].items() if name.startswith(CHIPS[chips][2]))
    assert fused == BLOCKS * PASSES


@pytest.mark.slow
def test_a_gpu_takes_the_row_kernel_unless_told_otherwise():
    """Triton's, forward and backward: where nothing can be timed, it is the first in the order of preference."""
    made = compiled("jax_cuda12_plugin", "h200")
    assert made["attention"] == "pallas"
    assert {name: made["libraries"].get(name) for name in (TRITON, "__cudnn$fmha")} == {
        TRITON: BLOCKS * PASSES,
        "__cudnn$fmha": None,
    }


@pytest.mark.slow
def test_the_row_kernel_compiles_at_full_size_for_a_gpu():
    """One kernel forward and one backward for rows of ViT-S, ViT-B and DINO's small views, and for Swin's windows."""
    assert printed("jax_cuda12_plugin", "-m", "tests.helpers.row_kernel") == {
        "(2, 1, 197, 1152) 12": 2,
        "(2, 1, 197, 2304) 12": 2,
        "(2, 1, 37, 1152) 6": 2,
        "(2, 4, 49, 288) 3 biased": 2,
    }
