"""The programs that measure speed: their arithmetic, and that they run."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import collectives, flops, products, scaling, sources, steps, table, task_steps, train_step
from repre_jax.builders import attention, attention_kinds, methods
from repre_jax.builders.attention_kinds import Found
from repre_jax.core.errors import UserError
from repre_jax.models import build_encoder, platform
from tests.helpers.patience import HANGS

ROOT = Path(__file__).resolve().parent.parent
TORCH = os.environ.get("REPRE_TORCH_PYTHON")  # an interpreter with torch, timm and safetensors
ONE_DEVICE = {"XLA_FLAGS": ""}


def start(module, *arguments):
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | ONE_DEVICE, capture_output=True, text=True, timeout=HANGS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_formula_gives_the_known_figures():
    """73.6 GFLOP a record for MoCo v3's step with ViT-S: 8 forwards of 4.598 GMACs; the decoder's 14.4 on top."""
    bare, whole = (
        steps.parse(path, ["--config.batch_size=8"])
        for path in ("configs/moco_vit_s.py:baseline", "configs/moco_vit_s.py")
    )

    def gflop(config):
        return flops.of_step(methods.build_method(config, methods.build_plan(config, records=1000)), config) / 8e9

    assert gflop(bare) == pytest.approx(73.6, abs=0.1)
    assert gflop(whole) - gflop(bare) == pytest.approx(6 * 2.399, abs=0.01)


def test_the_formula_is_what_xla_counts(two_devices):
    """Within a tenth, for a step with heads that are small beside the encoder."""
    config = steps.parse("configs/moco_vit_s.py:tiny", ["--config.encoder.width=128", "--config.encoder.patch=4"])
    program, seconds = steps.compile_step(config)
    assert seconds > 0
    assert flops.of_step(program.method, config) / 1e9 == pytest.approx(steps.gflop(program), rel=0.1)


def test_swins_maps_are_rounded_up():
    encoder = build_encoder("swin_t", width=16, depth=(1, 1), heads=(1, 2), patch=4, window=4)
    patches = 5 * 5 * 16 * 3 * 16
    first, second = flops.block_macs(25, 16, 16), flops.block_macs(9, 9, 32)
    assert flops.encoder_macs(encoder, (20, 20)) == patches + first + 9 * 64 * 32 + second


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vit_s", {"width": 32, "depth": 1, "heads": 2, "patch": 8, "pyramid_levels": 1, "image_size": (32, 32)}),
        ("swin_t", {"width": 16, "depth": (1, 1), "heads": (1, 2), "patch": 4, "window": 4}),
    ],
)
def test_what_is_computed_again_is_what_jax_traces(name, settings):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    traced = {}
    for policy in ("nothing", "remat_mlp", "remat"):
        encoder = build_encoder(name, **settings, **({} if policy == "nothing" else {policy: True}))
        params = jax.eval_shape(encoder.init, jax.random.PRNGKey(0), images)["params"]

        def loss(params, images, encoder=encoder):
            output = encoder.apply({"params": params}, images)
            return sum(level.sum() for level in output.pyramid) + output.pooled.sum()

        count = products.flops if policy == "remat_mlp" else lambda *given: 2 * products.macs(*given)
        traced[policy] = count(jax.grad(loss), params, images)
        traced["bare"] = traced.get("bare") or products.flops(jax.grad(loss), params, images)
    found = flops.recomputed(encoder, (32, 32))
    assert traced["remat"] - traced["nothing"] == found["remat"]
    assert traced["remat_mlp"] - traced["bare"] == pytest.approx(found["remat_mlp"], rel=0.01)


SMALL = ("--config.encoder.name=vit_ti", "--config.encoder.width=64", "--config.encoder.heads=(2,)",
         "--config.encoder.depth=(4,)", "--config.encoder.patch=8")  # fmt: skip
SMALL_SWIN = ("--config.encoder.width=32", "--config.encoder.depth=(1,1,1,1)", "--config.encoder.heads=(1,2,4,8)")


def test_a_task_that_trains_nothing_has_no_step():
    with pytest.raises(UserError, match="The task knn trains nothing"):
        task_steps.parse("configs/knn.py", [])


@pytest.mark.parametrize("task", ["finetune", "linear", "segment"])
def test_the_formula_of_a_task_is_what_jax_traces(task):
    """Of its step, built from shapes. Traced are heads and losses, too, and no gradient of the first layer's input."""
    more = () if task == "segment" else ("--config.data.image_size=(64,64)",)
    step = task_steps.build(task_steps.parse(f"configs/{task}.py:tiny", [*SMALL, *more]))
    traced = 2 * products.macs(step.train_step, step.state, step.batch, *step.frozen)
    assert step.flops == pytest.approx(traced, rel=0.1)
    share = step.shares_of_remat()["remat"]
    assert share == 0 if task == "linear" else 0.1 < share < 0.25


@pytest.mark.slow
def test_the_step_of_a_detector_is_built_from_shapes(two_devices):
    step = task_steps.build(task_steps.parse("configs/detect.py:tiny", list(SMALL_SWIN)))
    canvas = step.batch.images.shape[1:3]
    encoder = 2 * 2 * 3 * flops.encoder_macs(step.encoder, canvas)
    assert encoder < step.flops < 100 * encoder
    assert (step.learnt, set(step.state.params)) == (
        {(96, 128): 1},
        {"encoder", "neck", "anchor_head", "box_head", "mask_head"},
    )


def test_bytes_of_collectives():
    text = """
      %a = f32[8,4]{1,0} all-reduce(f32[8,4] %x), replica_groups={}
      %b = (bf16[2]{0}, bf16[16]{0}) all-gather-start(bf16[2] %y), dimensions={0}
      %e = bf16[16]{0} all-gather-done((bf16[2], bf16[16]) %b)
      %c = pred[3]{0} collective-permute(pred[3] %z)
      %d = f32[99]{0} add(f32[99] %p, f32[99] %q)
    """
    assert collectives.moved(text) == {"all-reduce": 128, "all-gather": 32, "collective-permute": 3}


def test_what_auto_leaves_open_is_chosen_as_by_a_start(monkeypatch):
    asked = []

    def compare(kinds, attentions, *, timed):
        asked.append((kinds, len(attentions), timed))
        return {"pallas": Found(left_out="it fails: no"), "xla": Found(0.1, 2.0), "cudnn": Found(0.1, 1.5)}

    monkeypatch.setattr(platform, "compiled_for", lambda: "gpu")
    monkeypatch.setattr(attention_kinds, "compare", compare)
    monkeypatch.setattr(steps, "CHOSEN", {})
    config = steps.parse("configs/dino_vit_s.py:tiny", [])
    for batch_size in (16, 32):
        config.batch_size = batch_size
        assert steps.settled(config).encoder.attention == "cudnn"
    assert config.encoder.attention == "auto"
    config.data.image_size = (64, 64)
    assert attention.describe(*steps.chosen(config)) == (
        "cudnn (pallas left out, it fails: no; xla 2.00 ms; cudnn 1.50 ms)"
    )
    assert asked == [(("pallas", "xla", "cudnn"), 2, True)] * 2, "once for each size of views"


def test_takers_take_turns():
    """Of two seconds, at least three steps, after one that is not counted."""
    order = []

    def taker(name, seconds):
        return lambda count: order.append((name, count)) or seconds

    times = steps.in_turns({"a": taker("a", 0.1), "b": taker("b", 1.5)}, turns=2, warm_up=4)
    assert order == [("a", 4), ("b", 4)] + [("a", 1), ("a", 20), ("b", 1), ("b", 3)] * 2
    assert times == {"a": [0.1, 0.1], "b": [1.5, 1.5]}
    assert steps.spread([1.0, 2.0, 3.0])["median_ms"] == 2000


def test_tables_and_plot():
    rows = [{"batch": 64, "images/s": None, "memory, MiB": 5}, {"batch": 128, "images/s": 1234.5, "memory, MiB": 9}]
    assert scaling.markdown(rows)[2:] == ["| 64 | - | 5 |", "| 128 | 1,234.5 | 9 |"]
    others = [{"devices": 1, collectives.SENT: 0.5, "memory, MiB": 3}]
    figure = scaling.draw({"batch": rows, "devices": others}, "title")
    lines = [[tuple(line.get_ydata()) for line in axis.lines] for axis in figure.axes]
    assert lines == [[(1234.5,)], [(0.5,)], [(5, 9)], [(3,)]]

    failed = [{"devices": 1, "fails": "no word"}, *others]
    assert scaling.markdown(failed)[::2] == [
        "| devices | fails | collectives, MiB | memory, MiB |",
        "| 1 | no word | - | - |",
    ]
    assert [list(axis.lines[0].get_ydata()) for axis in scaling.draw({"devices": failed}, "title").axes] == [[0.5], [3]]


@pytest.mark.parametrize("where", ["settled", "compile_step"])
def test_a_size_that_fails_leaves_the_reason_and_the_others_are_measured(where, monkeypatch):
    """It may do so where attention is chosen, where it is compiled, or where it runs."""

    def full(sized):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore")

    monkeypatch.setattr(steps, where, full)
    config = steps.parse("configs/moco_vit_s.py:tiny", [])
    rows = list(scaling.of_batch(config, argparse.Namespace(longest=1.0), []))
    assert [row["batch"] for row in rows] == list(scaling.BATCHES)
    assert {row[scaling.NOT_TIMED] for row in rows} == {"fails: RESOURCE_EXHAUSTED: Out of memory"}
    assert scaling.markdown(rows)[2].startswith("| 64 | - | - |")


def test_a_row_of_the_table_that_fails_is_in_the_exit_status(tmp_path, monkeypatch, capsys):
    """And a row that another device measured, or other code, does not stay beside it."""

    def measured(row, _):
        return {"failed": "no word"} if row is rows[1] else {"median_ms": 1.0, "images_per_second": 2.0}

    def run(number):
        monkeypatch.setattr(sys, "argv", ["table", "--only", number, "--out", str(tmp_path)])
        return table.run()

    rows = table.ON_CPU
    monkeypatch.setattr(table, "asked_of_jax", lambda: ("cpu", "2 x cpu"))
    monkeypatch.setattr(table, "measured", measured)
    assert (run("1"), run("2")) == (0, 1)
    assert "not measured: no word" in capsys.readouterr().out
    known = tmp_path / "table-cpu.json"
    assert list(json.loads(known.read_text())) == [rows[0].name, rows[1].name]
    monkeypatch.setattr(sources, "digest", lambda: "other code")
    assert run("2") == 1
    assert list(json.loads(known.read_text())) == [rows[1].name]
    monkeypatch.setattr(table, "asked_of_jax", lambda: ("cpu", "1 x cpu"))
    assert run("1") == 0
    assert list(json.loads(known.read_text())) == [rows[0].name]
    text = (tmp_path / "table-cpu.md").read_text()
    assert "1 x cpu" in text and rows[1].name not in text


@pytest.mark.slow
def test_a_step_is_measured():
    path = "configs/moco_vit_s.py:tiny"
    printed = start("train_step", f"--config={path}", "--peer=off", "--breakdown", "--turns=2", "--json")
    found = json.loads(printed)
    assert (found["repre"], found["attention"], found["attention_compared"]) == ("paper", "xla", {})
    assert found["p10_ms"] <= found["median_ms"] <= found["p90_ms"]
    assert found["images_per_second"] == pytest.approx(16e3 / found["median_ms"])
    assert 0 < found["mfu_of_matrix_product"] < 1
    assert found["mfu_of_data_sheet"] is None
    assert found["flops_over_off"] > 1
    parts = found["breakdown_ms"]
    assert set(parts) >= {"augmentation", "target forward", "decoder, forward and backward", "their backward"}
    names = set(parts) - {"sum of parts", "whole step"}
    assert sum(parts[name] for name in names) == pytest.approx(parts["sum of parts"])
    assert "RePre adds" in train_step.table(found)


@pytest.mark.slow
def test_growing_work_is_measured(tmp_path):
    arguments = ["--config=configs/moco_vit_s.py:tiny", "--only=fusion,devices", f"--out={tmp_path}"]
    printed = start("scaling", *arguments)
    written = (tmp_path / "scaling-cpu.md").read_text()
    assert "| fusion layers | images/s |" in printed
    assert "| devices | collectives, MiB |" in written
    assert (tmp_path / "scaling-cpu.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(
    TORCH is None,
    reason="PyTorch is no requirement, not even of the tests: REPRE_TORCH_PYTHON=PYTHON names an interpreter that has "
    "requirements-torch.txt",
)
@pytest.mark.parametrize("path", ["configs/moco_vit_s.py:tiny", "configs/moby_swin_t.py:tiny"])
def test_pytorch_computes_the_same_loss(path):
    size = ["--config.data.image_size=(64,64)"] if "swin" in path else []
    peer = ["--peer=torch", f"--torch-python={TORCH}"]
    found = json.loads(start("train_step", f"--config={path}", *peer, "--turns=1", "--json", *size))
    assert abs(found["first_loss"] - found["first_loss_torch"]) < 1e-4
    assert found["ratio_to_torch"] > 0
