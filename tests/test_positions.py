"""Position tables: the sin-cos formula, and resizing against a sample-by-sample computation."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repre_jax.core.errors import UserError
from repre_jax.models import positions, vit


def test_sincos_follows_the_formula():
    table = positions.sincos(2, 3, 8)
    for row in range(2):
        for column in range(3):
            for k in range(2):
                f = 10000 ** (-k / 2)
                expected = [math.sin(row * f), math.cos(row * f), math.sin(column * f), math.cos(column * f)]
                np.testing.assert_allclose(table[row * 3 + column, k::2], expected, rtol=1e-6, atol=1e-7)


def cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


@pytest.mark.parametrize("guard", [0.0, 0.1])
def test_resize_equals_bicubic_sampling(guard):
    """One sample after the other, in float64, from the convolution with the cubic kernel of a = -0.75."""
    table = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
    size = (7, 2)
    expected = np.zeros((*size, 2))
    for i, j in np.ndindex(size):
        y = (i + 0.5) * 5 / (7 + guard) - 0.5
        x = (j + 0.5) * 3 / (2 + guard) - 0.5
        for r in range(math.floor(y) - 1, math.floor(y) + 3):
            for c in range(math.floor(x) - 1, math.floor(x) + 3):
                weight = cubic(y - r) * cubic(x - c)
                expected[i, j] += weight * table[min(max(r, 0), 4), min(max(c, 0), 2)]
    np.testing.assert_allclose(positions.resize(table, size, guard), expected, rtol=1e-5, atol=1e-6)


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_resizing_to_the_same_size_is_the_identity(rows, columns, seed):
    table = np.random.default_rng(seed).normal(size=(rows, columns, 3)).astype(np.float32)
    np.testing.assert_array_equal(positions.resize(table, (rows, columns)), table)


@given(old=st.integers(1, 9), new=st.integers(1, 12), guard=st.sampled_from([0.0, 0.1]))
def test_a_constant_table_stays_constant(old, new, guard):
    table = np.full((old, old, 1), 3.0, np.float32)
    np.testing.assert_allclose(positions.resize(table, (new, new), guard), 3.0, rtol=1e-5)


@pytest.mark.parametrize(("variant", "class_token"), [("deit", True), ("dino", False), ("moco_v3", True)])
def test_positions_resized_once_are_those_of_each_pass(variant, class_token):
    """Another size, and taller than wide; the class token's position stays; to their own size nothing changes."""
    settings = {"width": 8, "depth": 1, "heads": 1, "patch": 4, "pyramid_levels": 1, "image_size": (12, 20)}
    encoder = vit.build(**settings, variant=variant, class_token=class_token)
    images = jax.random.normal(jax.random.key(0), (2, 28, 16, 3))

    @jax.jit
    def run(key):
        params = encoder.init(key, images)["params"]
        resized = vit.resize_positions(encoder, params, (28, 16))
        same = vit.resize_positions(encoder, params, (12, 20))
        each_pass = encoder.apply({"params": params}, images).tokens
        once = vit.at_size(encoder, (28, 16)).apply({"params": resized}, images).tokens
        return params, same, resized, each_pass, once

    params, same, resized, each_pass, once = run(jax.random.key(1))
    np.testing.assert_allclose(once, each_pass, atol=1e-6)
    assert jax.tree.structure(resized) == jax.tree.structure(params)
    for one, other in zip(jax.tree.leaves(same), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(one, other)
    if variant != "moco_v3":
        assert resized["pos_embed"].shape == (1, 28 + class_token, 8)
    with pytest.raises(UserError, match="28 x 18 pixels cannot be cut into patches"):
        vit.at_size(encoder, (28, 18))
