"""The vision transformer: shapes, initialisation, and values against independent computations."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.core.errors import UserError
from repre_jax.models import layers, pyramid, vit


def small_vit(**changes):
    settings = {"width": 24, "depth": 6, "heads": 3, "patch": 4, "image_size": (8, 20), "variant": "moco_v3"}
    return vit.build(**settings | changes)


@pytest.fixture(scope="module")
def encoded():
    encoder = small_vit()
    images = jax.random.normal(jax.random.key(0), (3, 8, 20, 3))
    params = jax.jit(encoder.init)(jax.random.key(1), images)["params"]
    output, seen = encoder.apply({"params": params}, images, capture_intermediates=True)
    return encoder, params, images, output, seen["intermediates"]


@pytest.mark.parametrize(
    ("depth", "pyramid_levels", "blocks"),
    [(12, 4, (3, 6, 9, 12)), (6, 4, (1, 3, 4, 6)), (12, 1, (12,)), (4, 4, (1, 2, 3, 4)), (7, 3, (2, 4, 7))],
)
def test_pyramid_blocks_are_spread_evenly(depth, pyramid_levels, blocks):
    assert pyramid.spread_blocks(depth, pyramid_levels) == blocks


def test_shapes_on_a_rectangle(encoded):
    _, _, _, output, _ = encoded
    assert output.pooled.shape == output.cls.shape == (3, 24)
    assert output.tokens.shape == (3, 10, 24)
    assert [level.shape for level in output.pyramid] == [(3, 2, 5, 24)] * 4
    assert output.attention is None
    assert {output.pooled.dtype, output.tokens.dtype, output.pyramid[0].dtype} == {jnp.dtype("float32")}


def test_pyramid_holds_raw_block_outputs_row_by_row(encoded):
    _, _, _, output, seen = encoded
    for level, block in zip(output.pyramid, (1, 3, 4, 6), strict=True):
        raw = seen[f"block_{block}"]["__call__"][0][0]
        for row in range(2):
            for column in range(5):
                np.testing.assert_array_equal(level[:, row, column], raw[:, 1 + row * 5 + column])


def test_pooled_is_the_normalised_class_token(encoded):
    _, params, _, output, seen = encoded
    x = np.asarray(seen["block_6"]["__call__"][0][0][:, 0], np.float64)
    normalised = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    expected = normalised * params["norm"]["scale"] + params["norm"]["bias"]
    np.testing.assert_allclose(output.pooled, expected, rtol=1e-4, atol=1e-5)


def test_moco_v3_initialisation():
    encoder = small_vit(width=64, depth=1, heads=2, patch=8, pyramid_levels=1, image_size=(16, 16))
    params = jax.jit(encoder.init)(jax.random.key(3), jnp.zeros((1, 16, 16, 3)))["params"]
    bounds = {
        "patch": (params["patch_embed"]["kernel"], math.sqrt(6 / (3 * 8 * 8 + 64))),
        "qkv": (params["block_1"]["attn"]["qkv"]["kernel"], math.sqrt(6 / (64 + 64))),
        "fc1": (params["block_1"]["mlp"]["fc1"]["kernel"], math.sqrt(6 / (64 + 256))),
    }
    for kernel, bound in bounds.values():
        assert 0.97 * bound < np.abs(kernel).max() <= bound
    assert 0 < np.abs(params["cls_token"]).max() < 1e-5
    assert not params["block_1"]["attn"]["qkv"]["bias"].any()
    assert not params["patch_embed"]["bias"].any()
    assert "pos_embed" not in params


def test_sincos_is_moco_v3_by_another_name():
    """But for the number of heads that build_encoder gives it."""
    one, other = small_vit(), small_vit(variant="sincos")
    images = jnp.ones((1, 8, 20, 3))
    params = one.init(jax.random.key(0), images)
    chex.assert_trees_all_equal(params, other.init(jax.random.key(0), images))
    chex.assert_trees_all_equal(one.apply(params, images), other.apply(params, images))


@pytest.mark.parametrize("variant", ["deit", "dino"])
def test_initialisation_with_learned_positions(variant):
    encoder = small_vit(width=64, depth=1, heads=2, patch=8, pyramid_levels=1, image_size=(32, 32), variant=variant)
    params = jax.jit(encoder.init)(jax.random.key(3), jnp.zeros((1, 16, 16, 3)))["params"]
    normal = [
        params["pos_embed"],
        params["block_1"]["attn"]["qkv"]["kernel"],
        params["block_1"]["mlp"]["fc2"]["kernel"],
    ]
    for values in normal:
        np.testing.assert_allclose(np.std(values), 0.02, rtol=0.1)
        assert np.abs(values).max() > 2.5 * 0.02, "not cut at two standard deviations"
    np.testing.assert_allclose(np.std(params["cls_token"]), 0.02, rtol=0.4)
    bound = 1 / math.sqrt(3 * 8 * 8)
    for values in params["patch_embed"].values():
        assert 0.9 * bound < np.abs(values).max() <= bound
    assert params["pos_embed"].shape == (1, 17, 64)
    assert not params["block_1"]["mlp"]["fc1"]["bias"].any()


def test_positions_are_added_to_the_patches(encoded):
    """Swapping two patches of the image is not just swapping two tokens; for equal patches tokens still differ."""
    encoder, params, images, output, _ = encoded
    swapped = images.at[:, :4, :4].set(images[:, 4:, 16:]).at[:, 4:, 16:].set(images[:, :4, :4])
    other = jax.jit(encoder.apply)({"params": params}, swapped)
    assert jnp.abs(other.pooled - output.pooled).max() > 1e-4
    flat = encoder.apply({"params": params}, jnp.ones_like(images), capture_intermediates=True)[1]["intermediates"]
    patches = flat["patch_embed"]["__call__"][0]
    np.testing.assert_allclose(patches[0, 0, 0], patches[0, 1, 4], rtol=1e-5)
    tokens = flat["block_1"]["__call__"][0][0][0, 1:]
    assert jnp.abs(tokens[0] - tokens[-1]).max() > 0.1


@pytest.mark.parametrize("variant", ["moco_v3", "deit"])
def test_without_a_class_token(variant):
    """The mean of the normalised tokens is pooled, the blocks chosen form the pyramid, and no weight is left of it."""
    encoder = small_vit(class_token=False, pyramid_blocks=(2, 5), depth=5, variant=variant)
    images = jax.random.normal(jax.random.key(0), (3, 8, 20, 3))

    @jax.jit
    def run(key):
        params = encoder.init(key, images)["params"]
        return params, encoder.apply(
            {"params": params}, images, attention_of=5, last=2, capture_intermediates=True, mutable=["intermediates"]
        )

    params, (output, kept) = run(jax.random.key(1))
    assert "cls_token" not in params
    assert (variant == "deit") == ("pos_embed" in params)
    assert variant == "moco_v3" or params["pos_embed"].shape == (1, 10, 24)
    assert output.cls is output.cls_of_last is None
    assert output.tokens.shape == (3, 10, 24)
    assert output.attention.shape == (3, 3, 10, 10)
    np.testing.assert_allclose(output.pooled, np.mean(output.tokens, axis=1), atol=1e-6)
    assert encoder.pyramid_levels == len(output.pyramid) == 2
    for level, block in zip(output.pyramid, (2, 5), strict=True):
        raw = kept["intermediates"][f"block_{block}"]["__call__"][0][0]
        np.testing.assert_array_equal(level, raw.reshape(3, 2, 5, 24))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": (8, 22)}, "8 x 22 pixels cannot be cut into patches of 4 x 4"),
        ({"pyramid_levels": 7}, "pyramid_levels 7 does not fit an encoder of 6 blocks"),
        ({"pyramid_levels": 0}, "encoder.pyramid_levels must be a whole number of at least 1, got 0"),
        ({"pyramid_levels": "4"}, "encoder.pyramid_levels must be a whole number of at least 1, got '4'"),
        ({"image_size": 224}, "image_size is 224.\n  expected: height and width"),
        ({"image_size": (8,)}, r"image_size is \(8,\)"),
        ({"dtype": "float16"}, "Unknown dtype 'float16'.\n  expected: float32 or bfloat16"),
        ({"heads": 5}, "width 24 must be a multiple of encoder.heads"),
        ({"depth": 0}, "encoder.depth must be a whole number of at least 1"),
        ({"variant": "moco"}, "Unknown encoder.variant 'moco'.\n  expected: deit, dino, moco_v3, sincos"),
        ({"width": 6}, "width 6 must be a multiple of 4"),
        ({"pyramid_blocks": (2, 2, 6)}, r"pyramid_blocks is \(2, 2, 6\).\n  expected: rising numbers from 1 to 6"),
        ({"pyramid_blocks": (0, 6)}, r"pyramid_blocks is \(0, 6\)"),
        ({"pyramid_blocks": (2, 7)}, r"pyramid_blocks is \(2, 7\)"),
        ({"pyramid_blocks": ()}, r"pyramid_blocks is \(\)"),
        ({"pyramid_blocks": 3}, "pyramid_blocks is 3"),
        ({"pyramid_blocks": (2, 6), "pyramid_levels": 3}, "pyramid_levels is 3, and encoder.pyramid_blocks names 2"),
        ({"class_token": 0}, "class_token is 0.\n  expected: True or False"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
        ({"drop_path": "0.1"}, "drop_path is '0.1'"),
    ],
)
def test_numbers_that_do_not_fit_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        small_vit(**changes)


def test_attention_equals_numpy():
    attention = layers.Attention(3, 5, layers.normal_02, layers.normal_02)
    x = jax.random.normal(jax.random.key(0), (2 * 5, 12)) * 2
    params = jax.tree.map(lambda p: p * 20 + 0.05, attention.init(jax.random.key(1), x)["params"])
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    qkv = (np.asarray(x) @ p["qkv"]["kernel"] + p["qkv"]["bias"]).reshape(2, 5, 3, 3, 4)
    expected, expected_weights = np.zeros((2, 5, 12)), np.zeros((2, 3, 5, 5))
    for n, head in np.ndindex(2, 3):
        q, k, v = (qkv[n, :, part, head] for part in range(3))
        logits = q @ k.T / np.sqrt(4)
        expected_weights[n, head] = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        expected[n, :, head * 4 : head * 4 + 4] = expected_weights[n, head] @ v
    expected = expected.reshape(10, 12) @ p["proj"]["kernel"] + p["proj"]["bias"]
    result, weights = attention.apply({"params": params}, x, return_weights=True)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-4, atol=1e-6)
