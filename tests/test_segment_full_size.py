"""`configs/segment.py` at full size: SETR's numbers, the step's shapes, and two steps on Cityscapes in miniature."""

import json
import os
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.builders import augmentation, methods
from repre_jax.builders import segmentation as builder
from repre_jax.core import optim, run_files
from repre_jax.core.types import LabelMaps
from repre_jax.interop import files, timm
from repre_jax.models import build_encoder
from repre_jax.models.segmentation import build as heads
from tests.helpers import preparing
from tests.helpers.cityscapes import zips
from tests.helpers.hosts import ROOT, finish, started
from tests.helpers.patience import HANGS
from tests.test_configs import config_of
from tests.test_demo import TEST_ONLY

GIB = 2**30


def rate(peak, step, steps):
    """mmcv's poly: all groups fall from their own peak to the floor that they share."""
    return (peak - 1e-4) * (1 - step / steps) ** 0.9 + 1e-4


def built(variants):
    config = config_of("segment", variants)
    config.data.channels, config.data.mean, config.data.std = 3, *methods.IMAGENET.values()
    encoder = build_encoder("vit_s", image_size=(768, 768))
    encoder = builder.of_head(encoder, config.segment.head, None)
    plan = methods.build_plan(config, records=2975)
    return config, plan, builder.build_method(config, encoder, heads.build(config.segment.head, 19, encoder), plan)


@pytest.mark.parametrize(
    ("variants", "peak", "steps"), [("", 0.01, 80_000), ("mla", 0.002, 80_000), ("pup,short", 0.01, 40_000)]
)
def test_rates_are_setrs(variants, peak, steps):
    """recipes-dense.md 2.1, 2.3, D6: heads ten times, MLA's neck not; no weight decay, no warm-up."""
    config, plan, method = built(variants)
    assert (config.batch_size, plan.total_steps, plan.warmup_steps, plan.weight_decay(0)) == (8, steps, 0, 0)
    params = {"encoder": {"a": jnp.zeros(1)}, "head": {"neck": {"b": jnp.zeros(1)}, "decode": {"c": jnp.zeros(1)}}}
    if variants != "mla":
        del params["head"]["neck"]
    optimizer, ones = method.optimizer, jax.tree.map(jnp.ones_like, params)
    assert optim.values_by_path(params, method.rules, "peak_scale")["head"]["decode"]["c"] == 10
    for step in (0, 1000, steps - 1):
        updates, _ = optimizer.update(ones, optimizer.init(params), params, at_step=jnp.int32(step))
        assert updates["encoder"]["a"] == pytest.approx(-rate(peak, step, steps), rel=1e-3)
        assert updates["head"]["decode"]["c"] == pytest.approx(-rate(10 * peak, step, steps), rel=1e-3)
        if variants == "mla":
            assert updates["head"]["neck"]["b"] == pytest.approx(-rate(peak, step, steps), rel=1e-3)


@pytest.mark.parametrize("variants", ["naive", "pup", "mla"])
def test_the_step_takes_batches_of_8_crops_of_768(variants):
    """Naive's is traced, and the next test compiles it; of the others only what they have at this size: their steps
    are those of smaller sizes (test_segment_every_head.py)."""
    config, _, method = built(variants)
    assert augmentation.image_size(config) == (768, 768)

    def new_state():
        encoder = method.encoder.init(jax.random.key(0), jnp.zeros((1, 768, 768, 3)))["params"]
        return method.new_state(encoder, jnp.zeros(2, jnp.uint32))

    state = jax.eval_shape(new_state)
    assert method.encoder.pyramid_blocks == ((5, 8, 10, 12) if variants == "pup" else (3, 6, 9, 12))
    assert state.params["encoder"]["pos_embed"].shape == (1, 48 * 48 + (variants != "mla"), 384)
    if variants != "naive":
        return
    shapes = (((8, 768, 768, 3), np.uint8), ((8, 768, 768), np.uint8), ((8, 2), np.int32))
    batch = LabelMaps(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))
    after, metrics = jax.eval_shape(method.train_step, state, batch)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)
    assert {value.shape for value in metrics.values()} == {()}


@pytest.mark.slow
def test_the_step_compiles_without_the_logits_of_all_at_full_size():
    """As XLA plans it where nothing is left out: batch 8 of Naive takes 22.10 GiB on a CPU, and 22.98 with all logits
    at once. Of these are arguments, a state of 23 million parameters with their momentum, 0.19 GiB."""
    command = [sys.executable, "-m", "benchmarks.segment_memory", "--heads=naive", "--no-at-once"]
    environment = {key: value for key, value in os.environ.items() if key not in TEST_ONLY} | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANGS, check=False
    )
    assert done.returncode == 0, done.stderr
    titles, _, row = ([cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[-3:])
    found = dict(zip(titles, row, strict=True))
    assert (found["head"], found["GFLOP"]) == ("naive, vit_s", "4,778")
    sizes = {name: float(found[name].removesuffix(" GiB")) for name in ("arguments", "all")}
    assert sizes["arguments"] == pytest.approx(0.19, abs=0.01)
    assert 15 < sizes["all"] < 22.5


@pytest.mark.slow
def test_the_config_trains_on_cityscapes_in_miniature(tmp_path, monkeypatch):
    """Unchanged but for batch_size and how many steps and tests there are, from a file of DeiT's kind, whose learned
    positions of 14 x 14 patches become 48 x 48: crops of 768 of images of 1024 x 2048, tested at 1025 x 2049 by eight
    windows. In a process that compiles as users do, or it takes many times as long."""
    for name in TEST_ONLY:
        monkeypatch.delenv(name, raising=False)
    data_dir = tmp_path / "data"
    assert preparing.run("cityscapes", "--from", zips(tmp_path / "zips"), "--data-dir", data_dir, "--partial") == 0
    argv = ["main.py", "--config=configs/segment.py", f"--config.init_from={written(tmp_path / 'x.safetensors')}",
            "--config.encoder.name=vit_s", f"--config.data.dir={data_dir}", f"--workdir={tmp_path / 'w'}",
            "--config.batch_size=1", "--config.total_steps=2", "--config.evaluations=1"]  # fmt: skip
    with started(argv, devices=1) as children:  # which a batch of 1 needs
        ((status, output, error),) = finish(children)
    assert status == 0, (output, error)
    assert "  resized:  1: pos_embed\n" in output
    result = json.loads((tmp_path / "w" / "result.json").read_text())
    assert (result["steps"], result["skipped_steps"], result["trained_on"], result["test_images"]) == (2, 0, 3, 1)
    assert len(result["iou"]) == 19
    assert "road" in result["iou"]
    labelled = np.sum(result["confusion"])
    assert 0.4 * 1024 * 2048 < labelled < 0.7 * 1024 * 2048  # 19 of 34 ids are classes
    losses = [row["loss"] for row in run_files.read_metrics(tmp_path / "w" / "metrics.jsonl") if "loss" in row]
    assert losses
    assert np.isfinite(losses).all()
    assert result["encoder"]["name"] == "vit_s"
    # 4.01 GiB were held on 2 cores, with the package itself; XLA plans 2.85 for the step (benchmarks/segment_step.txt).
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / GIB  # of the largest child so far
    assert peak < 5, peak


def written(file):
    """A ViT-S for images of 224 with learned positions, by timm's names, of random numbers."""
    encoder = build_encoder("vit_s", variant="deit")
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: (0.02 * rng.standard_normal(x.shape)).astype(np.float32), shapes)
    files.write(file, timm.dump(params, encoder))
    return file
