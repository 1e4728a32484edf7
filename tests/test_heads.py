"""Projection and prediction heads, and each framework's against its sources."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pretraining import CONFIGS
from small_frameworks import BATCH, DINO, PROTOTYPES, WIDTH, framework, plan

from repre_jax.frameworks import byol, dino, simclr
from repre_jax.models import heads


def test_heads_normalise_each_view_by_itself():
    head = heads.MlpHead((7,), 5, out_norm="plain")
    x = jax.random.normal(jax.random.key(0), (11, 2, 6)) * jnp.array([1.0, 4.0])[None, :, None]
    variables = head.init(jax.random.key(1), x)
    params = jax.tree.map(lambda p: np.asarray(p, np.float64) + 0.1, variables["params"])
    out = head.apply({"params": params}, x)
    for view in range(2):
        y = np.asarray(x[:, view], np.float64) @ params["fc1"]["kernel"]
        y = (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-5) * params["bn1"]["scale"] + params["bn1"]["bias"]
        y = np.maximum(y, 0) @ params["fc2"]["kernel"]
        y = (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-5)
        np.testing.assert_allclose(out[:, view], y, rtol=2e-4, atol=2e-5)
    assert set(params) == {"fc1", "bn1", "fc2"}, "the last BatchNorm has no gain and shift, Dense has no bias"
    assert set(params["fc1"]) == {"kernel"}


def test_the_papers_projector_has_its_size():
    projector = heads.MlpHead((4096, 4096), 256, out_norm="plain")
    pooled = jax.ShapeDtypeStruct((2, 2, 384), jnp.float32)
    params = jax.eval_shape(projector.init, jax.random.key(0), pooled)
    expected = 384 * 4096 + 4096 * 4096 + 4096 * 256 + 2 * 2 * 4096
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def head_params(head, width=10):
    return jax.eval_shape(head.init, jax.random.key(0), jax.ShapeDtypeStruct((BATCH, 2, width), jnp.float32))["params"]


# Layer -> its parameters and their shapes, for a feature of width 10 (recipes 1.1).
HEADS = {
    "simclr": (
        {
            "fc1": {"kernel": (10, 10)}, "bn1": {"scale": (10,), "bias": (10,)},
            "fc2": {"kernel": (10, 10)}, "bn2": {"scale": (10,), "bias": (10,)},
            "fc3": {"kernel": (10, 5)}, "bn3": {"scale": (5,)},
        },
        None,
    ),
    "byol": (
        {
            "fc1": {"kernel": (10, 8), "bias": (8,)}, "bn1": {"scale": (8,), "bias": (8,)},
            "fc2": {"kernel": (8, 5), "bias": (5,)},
        },
        {
            "fc1": {"kernel": (5, 8), "bias": (8,)}, "bn1": {"scale": (8,), "bias": (8,)},
            "fc2": {"kernel": (8, 5), "bias": (5,)},
        },
    ),
    "simsiam": (
        {
            "fc1": {"kernel": (10, 10)}, "bn1": {"scale": (10,), "bias": (10,)},
            "fc2": {"kernel": (10, 10)}, "bn2": {"scale": (10,), "bias": (10,)},
            "fc3": {"kernel": (10, 5)},
        },
        {
            "fc1": {"kernel": (5, 3)}, "bn1": {"scale": (3,), "bias": (3,)},
            "fc2": {"kernel": (3, 5), "bias": (5,)},
        },
    ),
    "moco_v2": ({"fc1": {"kernel": (10, 10), "bias": (10,)}, "fc2": {"kernel": (10, 5), "bias": (5,)}}, None),
    "moco_v3": (
        {
            "fc1": {"kernel": (10, 8)}, "bn1": {"scale": (8,), "bias": (8,)},
            "fc2": {"kernel": (8, 8)}, "bn2": {"scale": (8,), "bias": (8,)},
            "fc3": {"kernel": (8, 5)},
        },
        {"fc1": {"kernel": (5, 8)}, "bn1": {"scale": (8,), "bias": (8,)}, "fc2": {"kernel": (8, 5)}},
    ),
    "dino": (
        {
            "fc1": {"kernel": (10, 7), "bias": (7,)}, "fc2": {"kernel": (7, 7), "bias": (7,)},
            "fc3": {"kernel": (7, 4), "bias": (4,)}, "direction": (4, 11), "gain": (1, 11),
        },
        None,
    ),
}  # fmt: skip
HEADS["moby"] = HEADS["byol"]


@pytest.mark.parametrize("name", CONFIGS)
def test_heads_have_their_sources_layers(name):
    made = framework(name)
    projector, predictor = HEADS[name]
    assert jax.tree.map(lambda leaf: leaf.shape, head_params(made.projector)) == projector
    if predictor is None:
        assert made.predictor is None
    else:
        assert jax.tree.map(lambda leaf: leaf.shape, head_params(made.predictor, WIDTH)) == predictor


@pytest.mark.parametrize(
    ("name", "normalised", "joint"),
    [("simclr", True, True), ("simsiam", True, False), ("moco_v3", True, False), ("byol", False, False),
     ("moby", False, False), ("moco_v2", False, False)],
)  # fmt: skip
def test_the_last_batch_norm_spans_what_the_source_lets_it_span(name, normalised, joint):
    """Two views of different scale: statistics of each view, or of both together, or none at all."""
    made = framework(name)
    x = jax.random.normal(jax.random.key(0), (BATCH, 2, 10)) * jnp.array([1.0, 4.0])[None, :, None] + 3
    out = np.asarray(made.projector.apply(made.projector.init(jax.random.key(1), x), x))
    centred_together = np.abs(out.mean(axis=(0, 1))).max() < 1e-5
    centred_each = np.abs(out.mean(axis=0)).max() < 1e-5
    assert (centred_together, centred_each) == (normalised, normalised and not joint)


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
    fixed = dino.build(plan(), out=PROTOTYPES, **DINO | {"train_gain": False}, dtype=jnp.float32)
    assert "gain" not in head_params(fixed.projector)


def test_dinos_head_can_have_batch_norm_over_all_views():
    """Before the GELU, as use_bn_in_head: a shift and a scale of the first layer's output change nothing."""
    made = dino.build(plan(), out=PROTOTYPES, **DINO | {"batch_norm": True}, dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (BATCH, 2, 10)) * jnp.array([1.0, 4.0])[None, :, None]
    params = made.projector.init(jax.random.key(1), x)["params"]
    out = made.projector.apply({"params": params}, x)
    first = {"kernel": params["fc1"]["kernel"] * 300, "bias": params["fc1"]["bias"] + 2}
    np.testing.assert_allclose(made.projector.apply({"params": params | {"fc1": first}}, x), out, atol=0.02)
    alone = made.projector.apply({"params": params}, x[:, :1])
    assert np.abs(alone[:, 0] - out[:, 0]).max() > 0.1, "statistics span both views"


def test_heads_start_as_their_sources_do():
    """Standard deviations: SimCLR 0.01, DINO 0.02, the others PyTorch's uniform of 1 / sqrt(3 fan_in)."""
    x = jnp.zeros((BATCH, 2, 300))
    wide = {"out": 200, "dtype": jnp.float32}
    made = {
        0.01: simclr.build(plan(), hidden=400, temperature=0.1, **wide),
        0.02: dino.build(plan(), **DINO | {"hidden": 400}, **wide),
        900**-0.5: byol.build(plan(), hidden=400, **wide),
    }
    for deviation, built in made.items():
        kernel = built.projector.init(jax.random.key(0), x)["params"]["fc1"]["kernel"]
        np.testing.assert_allclose(kernel.std(), deviation, rtol=0.02)
    bias = made[900**-0.5].projector.init(jax.random.key(0), x)["params"]["fc1"]["bias"]
    assert 0.9 * 300**-0.5 < float(jnp.abs(bias).max()) <= 300**-0.5
