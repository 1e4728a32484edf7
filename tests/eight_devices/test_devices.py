"""Many devices: what is communicated, that it changes no number, and what is said about it."""

import dataclasses
import functools
import json
import math
import re
from collections import Counter

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import main
from repre_jax.builders import methods
from repre_jax.core import optim, sharding
from repre_jax.core.checkpoint import Checkpoints
from repre_jax.core.errors import UserError
from repre_jax.running import memory
from repre_jax.tasks import pretrain
from tests.helpers.collectives import collectives, sizes
from tests.helpers.pretraining import FAST, SIZE, SMALL, batch_for, build, init

EMBEDDING, BATCH = 64, 16


class Run:
    """A tiny framework + RePre, its step compiled for all devices or for one, and its state as shapes."""

    def __init__(self, framework, accumulate=1, split=False, devices=8):
        settings = SMALL | FAST | {"accumulate": accumulate, "shard_state": split}
        _, method = build("tiny", framework, **settings)
        self.mesh = Mesh(np.asarray(jax.devices()[:devices]), ("data",))
        self.method = (
            dataclasses.replace(method, gather=functools.partial(sharding.gather, mesh=self.mesh)) if split else method
        )
        self.shapes = jax.eval_shape(lambda: method.init_state(jax.random.PRNGKey(0), (*SIZE, 3)))
        self.layout = sharding.of_state(self.shapes, self.mesh, split=split)
        step = jax.jit(self.method.train_step, out_shardings=(self.layout, sharding.replicated(self.mesh)))
        state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), self.shapes, self.layout)
        self.step = step.lower(state, self.batch()).compile()
        self.collectives = collectives(self.step.as_text())

    def batch(self, seed=0):
        return sharding.shard_batch(batch_for(self.method, seed=seed), self.mesh)

    def state(self):
        return jax.device_put(init(self.method), self.layout)

    def after(self, steps):
        """(state, metrics of each step), on the host."""
        state, logged = self.state(), []
        for seed in range(steps):
            state, values = self.step(state, self.batch(seed))
            logged.append(values)
        return jax.device_get((state, logged))

    def trained(self):
        """Shapes of the parameters with a gradient: all but frozen ones."""
        scale = optim.values_by_path(self.shapes.params, self.method.rules, "lr_scale")
        pairs = zip(*map(jax.tree.leaves, (self.shapes.params, scale)), strict=True)
        return Counter(leaf.shape for leaf, scale in pairs if scale)


@functools.cache
def run(*arguments, **settings):
    return Run(*arguments, **settings)


def check_reductions(made):
    """The gradient of every large array is reduced over the devices, and beside gradients little is.

    An encoder that runs twice, as DINO's on local views, has two gradients.
    """
    reduced = sizes(made.collectives["all-reduce"] + made.collectives.get("reduce-scatter", Counter()))
    trained = made.trained()
    missing = sizes({shape: count for shape, count in trained.items() if math.prod(shape) >= 1024}) - reduced
    assert not missing, f"gradients of these numbers of elements are not reduced: {missing}"
    parameters = sum(math.prod(shape) * count for shape, count in trained.items())
    if made.method.framework.local_views:
        parameters += sum(leaf.size for leaf in jax.tree.leaves(made.shapes.params["encoder"]))
    elements = sum(size * count for size, count in reduced.items())
    assert 0.99 * parameters <= elements <= 1.1 * parameters, f"{elements:,} reduced, for {parameters:,} parameters"


@pytest.mark.parametrize(
    ("framework", "accumulate"),
    [("moco_v3", 1), ("moco_v3", 2), ("dino", 1), pytest.param("moby", 1, marks=pytest.mark.slow)],
)
def test_data_parallel_steps_move_gradients_statistics_and_keys(framework, accumulate):
    """No image and no activation. DINO has no keys, and its encoder two gradients: of the views and of local ones."""
    made = run(framework, accumulate)
    keys = Counter({} if framework == "dino" else {EMBEDDING * BATCH // accumulate: 2})
    assert set(made.collectives) <= {"all-reduce", "all-gather"}
    assert sizes(made.collectives.get("all-gather", Counter())) == keys, "all-gathers are those of the keys, by view"
    check_reductions(made)


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_split_state_is_gathered_and_activations_stay(accumulate):
    """What is gathered are the split parameters, the online's and the target's, once a step, and the keys."""
    made = run("moco_v3", accumulate, split=True)
    wanted = Counter({EMBEDDING * BATCH // accumulate: 2})
    for name in ("params", "target"):
        leaves = zip(*map(jax.tree.leaves, (getattr(made.shapes, name), getattr(made.layout, name))), strict=True)
        wanted.update(leaf.size for leaf, layout in leaves if not layout.is_fully_replicated)
    assert set(made.collectives) <= {"all-reduce", "all-gather", "reduce-scatter"}
    assert sizes(made.collectives["all-gather"]) == wanted
    check_reductions(made)


def test_a_split_state_is_the_copied_one():
    """Over three steps, and it stays split."""
    copied, split = run("moco_v3"), run("moco_v3", split=True)
    one, one_logged = copied.after(3)
    two, two_logged = split.after(3)
    chex.assert_trees_all_close(two_logged, one_logged, rtol=1e-4)
    chex.assert_trees_all_close(two.params, one.params, rtol=1e-3, atol=1e-5)
    state, _ = split.step(split.state(), split.batch())
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    assert held == sharding.bytes_per_device(split.shapes, split.layout)
    assert held < 0.5 * sharding.bytes_per_device(copied.shapes, copied.layout)  # most arrays are small here


def test_a_device_holds_an_eighth_of_vit_s():
    config, _ = main.parse(["main.py", "--config", "configs/moco_vit_s.py"])
    method = methods.build_method(config, methods.build_plan(config, records=100_000))
    shapes = jax.eval_shape(lambda: method.init_state(jax.random.PRNGKey(0), (224, 224, 3)))
    mesh = sharding.make_mesh(config.batch_size)
    split, copied = (sharding.bytes_per_device(shapes, sharding.of_state(shapes, mesh, split=s)) for s in (True, False))
    assert copied == sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    assert 1 / 8 < split / copied < 1.02 / 8
    assert f"{split / 1e6:,.1f} MB each, {copied / 1e6:,.1f} MB if" in sharding.describe_split(shapes, mesh)


def test_large_arrays_are_split_along_their_largest_axis():
    mesh = Mesh(np.asarray(jax.devices()[:4]), ("data",))
    arrays = [(64, 100), (100, 64), (64, 64), (3, 9, 512), (4096,), (4095,), (63, 65), ()]
    tree = [jax.ShapeDtypeStruct(shape, np.float32) for shape in arrays]
    specs = [tuple(layout.spec) for layout in sharding.split_large(tree, mesh)]
    assert specs == [(None, "data"), ("data",), (None, "data"), (None, None, "data"), ("data",), (), (), ()]


def test_one_and_eight_devices_agree_in_parts():
    one, one_logged = run("moco_v3", 2, devices=1).after(1)
    many, many_logged = run("moco_v3", 2).after(1)
    chex.assert_trees_all_close(many_logged, one_logged, rtol=1e-4)
    chex.assert_trees_all_close(many.target, one.target, atol=1e-4)
    assert run("moco_v3", 2, devices=1).collectives == {}


def test_a_split_checkpoint_restores_on_other_devices(tmp_path):
    made = run("moco_v3", split=True)
    state, _ = made.step(made.state(), made.batch())
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {})
    checkpoints.wait()
    for count in (1, 4):
        mesh = Mesh(np.asarray(jax.devices()[:count]), ("data",))
        layout = sharding.of_state(made.shapes, mesh, split=True)
        again = checkpoints.restore(1, made.shapes, layout)
        chex.assert_trees_all_equal(jax.device_get(again), jax.device_get(state))
        assert jax.tree.map(lambda x: x.sharding, again) == layout
    checkpoints.close()


def test_a_run_with_a_split_state_in_parts(tmp_path, capsys):
    argv = ["main.py", "--config", "configs/moco_vit_s.py:tiny", "--workdir", str(tmp_path), "--config.total_steps=2"]
    assert main.main([*argv, "--config.shard_state=True", "--config.accumulate=2"]) == 0
    result, output = json.loads((tmp_path / "result.json").read_text()), capsys.readouterr().out
    assert 0 < result["knn_top1"] < 1
    assert result["reconstruction_l1"] > 0
    assert "8 x cpu, 2 images a step each, 1 at once" in output
    assert "accumulation   2 microbatches of 8 images: negatives and BatchNorm see one microbatch" in output
    assert "4 * temperature * ln(microbatch)" in output
    assert f"loss of {0.8 * math.log(8):.4g} would mean collapse" in output
    assert re.search(r"state +split over the devices: [\d.]+ MB each, [\d.]+ MB if copied", output)


@pytest.mark.parametrize(
    ("size", "accumulate", "words"),
    [
        (
            12,
            1,
            ["over 8 devices: 1.5 images each", "a multiple of 8", "batch_size=16 (images a device: 2)", "or 6 of the"],
        ),
        (24, 2, ["8 devices in 2 microbatches: 1.5 images", "multiple of 16", "accumulate=1", "or 6 of the devices"]),
        (
            48,
            4,
            [
                "in 4 microbatches",
                "batch_size=64 (images a device and microbatch: 2)",
                "--config.accumulate=3, or 6 of",
            ],
        ),
    ],
)
def test_devices_and_parts_that_do_not_divide_the_batch(size, accumulate, words):
    with pytest.raises(UserError, match=f"batch_size {size} cannot be split evenly") as caught:
        sharding.make_mesh(size, accumulate)
    for word in words:
        assert word in str(caught.value)


def test_a_full_memory_is_explained(tmp_path, monkeypatch, capsys):
    """XLA refuses a petabyte in the middle of a run."""
    monkeypatch.setattr(pretrain.loop, "fit", lambda *a, **k: jnp.zeros((1 << 50,)))
    argv = ["main.py", "--config", "configs/moco_vit_s.py:tiny", "--workdir", str(tmp_path)]
    assert main.main([*argv, "--config.batch_size=64", "--config.accumulate=2"]) == 1
    error = capsys.readouterr().err
    assert "Each of 8 devices had 8 images a step, 4 at once" in error
    assert "RESOURCE_EXHAUSTED" in error
    changes = re.findall(r"\d\. --config\.([\w.]+=\w+)", error)
    remat = ["encoder.remat_mlp=True", "encoder.remat=True"]
    assert changes == ["accumulate=4", *remat, "shard_state=True", "batch_size=32"]
    assert "(2 images a device at once" in error


def test_a_full_memory_offers_what_is_left_to_change():
    def proposed(**changes):
        settings = {"batch_size": 24, "devices": 1, "accumulate": 3, "remat": True, "shard_state": False} | changes
        return re.findall(r"\d\. --config\.([\w.]+=\w+)", str(memory.explain(Exception("full"), **settings)))

    assert proposed() == ["accumulate=6", "batch_size=12"]
    assert proposed(accumulate=1, remat=False) == ["accumulate=2", "encoder.remat=True", "batch_size=12"]
    assert proposed(accumulate=12) == []
    assert proposed(devices=8, accumulate=1) == ["accumulate=3", "shard_state=True", "batch_size=8"]
    assert proposed(devices=8, accumulate=3, shard_state=True) == []
    evaluation = str(memory.explain(Exception("full"), batch_size=16, devices=8))
    assert re.findall(r"\d\. (.+)", evaluation) == ["--config.batch_size=8 (1 images a device)"]
    assert "change:" not in str(memory.explain(Exception("full"), batch_size=8, devices=8))
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), memory.explained(batch_size=1):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
