"""Projection and prediction heads, and each framework's against its sources."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.frameworks import dino
from repre_jax.models import heads
from tests.helpers.expected import BATCH, WIDTH
from tests.helpers.pretraining import CONFIGS
from tests.helpers.small_frameworks import EXPECTED, framework, plan


def test_the_papers_projector_has_its_size():
    projector = heads.MlpHead((4096, 4096), 256, out_norm="plain")
    pooled = jax.ShapeDtypeStruct((2, 2, 384), jnp.float32)
    params = jax.eval_shape(projector.init, jax.random.key(0), pooled)
    expected = 384 * 4096 + 4096 * 4096 + 4096 * 256 + 2 * 2 * 4096
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def head_params(head, width=10):
    return jax.eval_shape(head.init, jax.random.key(0), jax.ShapeDtypeStruct((BATCH, 2, width), jnp.float32))["params"]


@pytest.mark.parametrize("name", CONFIGS)
def test_heads_have_their_sources_layers(name):
    made = framework(name)
    projector, predictor = EXPECTED[name].projector, EXPECTED[name].predictor
    assert jax.tree.map(lambda leaf: leaf.shape, head_params(made.projector)) == projector
    if predictor is None:
        assert made.predictor is None
    else:
        assert jax.tree.map(lambda leaf: leaf.shape, head_params(made.predictor, WIDTH)) == predictor


def by_hand(params, layers, x):
    x = np.asarray(x, np.float64)
    for number, (norm, activation) in enumerate(layers, start=1):
        dense, batch_norm = params[f"fc{number}"], params.get(f"bn{number}", {})
        x = x @ dense["kernel"] + dense.get("bias", 0.0)
        if norm:
            axes = (0, 1) if norm == "joint" else 0
            x = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
            x = x * batch_norm.get("scale", 1.0) + batch_norm.get("bias", 0.0)
        x = np.maximum(x, 0) if activation else x
    return x


@pytest.mark.parametrize("name", [name for name in CONFIGS if EXPECTED[name].forward])
def test_heads_compute_what_their_sources_do(name):
    """Two views of different scale; every parameter moved away from where it starts."""
    made = framework(name)
    for head, layers, width in zip((made.projector, made.predictor), EXPECTED[name].forward, (10, WIDTH), strict=True):
        if not layers:
            continue
        x = jax.random.normal(jax.random.key(0), (BATCH, 2, width)) * jnp.array([1.0, 4.0])[None, :, None] + 3
        params = jax.tree.map(lambda p: np.asarray(p, np.float64) + 0.3, head.init(jax.random.key(1), x)["params"])
        np.testing.assert_allclose(head.apply({"params": params}, x), by_hand(params, layers, x), rtol=2e-3, atol=2e-4)


def test_dinos_prototypes_have_length_one_and_see_a_unit_vector():
    made = framework("dino")
    x = 5 * jax.random.normal(jax.random.key(0), (BATCH, 2, 10))
    params = made.projector.init(jax.random.key(1), x)["params"]
    np.testing.assert_array_equal(params["gain"], 1)
    y = np.asarray(x, np.float64)
    for number in (1, 2, 3):
        y = y @ params[f"fc{number}"]["kernel"] + params[f"fc{number}"]["bias"]
        y = y if number == 3 else y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    y /= np.linalg.norm(y, axis=-1, keepdims=True)
    direction = np.asarray(params["direction"], np.float64)
    cosines = y @ (direction / np.linalg.norm(direction, axis=0))
    np.testing.assert_allclose(made.projector.apply({"params": params}, x), cosines, rtol=1e-4, atol=1e-6)
    longer = params | {"gain": params["gain"] * 3, "direction": params["direction"] * 7}
    np.testing.assert_allclose(made.projector.apply({"params": longer}, x), 3 * cosines, rtol=1e-4, atol=1e-5)
    fixed = dino.build(plan(), **EXPECTED["dino"].small | {"train_gain": False}, dtype=jnp.float32)
    assert "gain" not in head_params(fixed.projector)


def test_dinos_head_can_have_batch_norm_over_all_views():
    """Before the GELU, as use_bn_in_head: a shift and a scale of the first layer's output change nothing."""
    made = dino.build(plan(), **EXPECTED["dino"].small | {"batch_norm": True}, dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (BATCH, 2, 10)) * jnp.array([1.0, 4.0])[None, :, None]
    params = made.projector.init(jax.random.key(1), x)["params"]
    out = made.projector.apply({"params": params}, x)
    first = {"kernel": params["fc1"]["kernel"] * 300, "bias": params["fc1"]["bias"] + 2}
    np.testing.assert_allclose(made.projector.apply({"params": params | {"fc1": first}}, x), out, atol=0.02)
    alone = made.projector.apply({"params": params}, x[:, :1])
    assert np.abs(alone[:, 0] - out[:, 0]).max() > 0.1, "statistics span both views"


@pytest.mark.parametrize("name", CONFIGS)
def test_heads_start_as_their_sources_do(name):
    """SimCLR: N(0, 0.01). DINO: N(0, 0.02), biases 0. Its prototypes and the others: PyTorch's, to 1 / sqrt(fan_in)."""
    made = framework(name)
    for head, width in ((made.projector, 300), (made.predictor, WIDTH)):
        if head is None:
            continue
        wide = dataclasses.replace(head, **{"hidden": 200} if name == "dino" else {"hidden": (200,) * len(head.hidden)})
        params = wide.init(jax.random.key(0), jnp.zeros((BATCH, 2, width)))["params"]
        layers = {key: layer for key, layer in params.items() if key.startswith("fc")}
        assert len(layers) >= 2
        for layer in layers.values():
            kernel, bound = np.asarray(layer["kernel"]), layer["kernel"].shape[0] ** -0.5
            normal = {"simclr": 0.01, "dino": 0.02}.get(name)
            if normal:
                assert kernel.std() == pytest.approx(normal, rel=0.1)
                assert np.abs(kernel).max() > 2.5 * normal
            else:
                assert 0.97 * bound < np.abs(kernel).max() <= bound
            if "bias" in layer and name == "dino":
                assert not layer["bias"].any()
            elif "bias" in layer:
                assert 0.3 * bound < np.abs(layer["bias"]).max() <= bound
        if name == "dino":
            assert 0.9 * 4**-0.5 < np.abs(params["direction"]).max() <= 4**-0.5
