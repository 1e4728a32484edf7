"""Encoder, heads and decoder: shapes, sizes, and values against independent computations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.core.errors import UserError
from repre_jax.models import decoder, heads, layers, vit


def count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def small_vit(**changes):
    settings = {"width": 24, "depth": 6, "heads": 3, "patch": 4, "hierarchies": 4, "image_size": (8, 20)}
    return vit.build(**settings | changes)


@pytest.fixture(scope="module")
def encoded():
    encoder = small_vit()
    images = jax.random.normal(jax.random.key(0), (3, 8, 20, 3))
    params = jax.jit(encoder.init)(jax.random.key(1), images)["params"]
    output, seen = encoder.apply({"params": params}, images, capture_intermediates=True)
    return encoder, params, images, output, seen["intermediates"]


@pytest.mark.parametrize(
    ("depth", "hierarchies", "blocks"),
    [(12, 4, (3, 6, 9, 12)), (6, 4, (1, 3, 4, 6)), (12, 1, (12,)), (4, 4, (1, 2, 3, 4)), (7, 3, (2, 4, 7))],
)
def test_pyramid_blocks(depth, hierarchies, blocks):
    assert vit.pyramid_blocks(depth, hierarchies) == blocks


def test_vit_shapes_on_a_rectangle(encoded):
    _, _, _, output, _ = encoded
    assert output.pooled.shape == output.cls.shape == (3, 24)
    assert output.tokens.shape == (3, 10, 24)
    assert [level.shape for level in output.pyramid] == [(3, 2, 5, 24)] * 4
    assert {output.pooled.dtype, output.tokens.dtype, output.pyramid[0].dtype} == {jnp.dtype("float32")}


def test_pyramid_holds_raw_block_outputs_row_by_row(encoded):
    _, _, _, output, seen = encoded
    for level, block in zip(output.pyramid, (1, 3, 4, 6), strict=True):
        raw = seen[f"block_{block}"]["__call__"][0]
        for row in range(2):
            for column in range(5):
                np.testing.assert_array_equal(level[:, row, column], raw[:, 1 + row * 5 + column])


def test_pooled_is_the_normalised_class_token(encoded):
    _, params, _, output, seen = encoded
    x = np.asarray(seen["block_6"]["__call__"][0][:, 0], np.float64)
    normalised = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    expected = normalised * params["norm"]["scale"] + params["norm"]["bias"]
    np.testing.assert_allclose(output.pooled, expected, rtol=1e-4, atol=1e-5)


def test_sincos_positions_follow_the_formula():
    table = layers.sincos_positions(2, 3, 8)
    for row in range(2):
        for column in range(3):
            for k in range(2):
                f = 10000 ** (-k / 2)
                expected = [math.sin(row * f), math.cos(row * f), math.sin(column * f), math.cos(column * f)]
                np.testing.assert_allclose(table[row * 3 + column, k::2], expected, rtol=1e-6, atol=1e-7)


def test_mixed_precision_keeps_float32_parameters_and_nearly_the_same_output(encoded):
    _, params, images, output, _ = encoded
    mixed = small_vit(dtype="bfloat16").apply({"params": params}, images)
    assert mixed.pooled.dtype == jnp.float32
    difference = jnp.abs(mixed.pooled - output.pooled).max()
    assert 0 < difference < 0.1


def test_paper_sizes():
    """ViT-S/16 has 21.67 M parameters with 197 learned positions; MoCo v3's are fixed. Heads and decoder: ours."""
    encoder = vit.build(width=384, depth=12, heads=12, patch=16, hierarchies=4, image_size=(224, 224))
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(encoder.init, jax.random.key(0), images)
    assert count(variables) == 21_665_664 - 197 * 384
    output = jax.eval_shape(encoder.apply, variables, images)
    branch = decoder.build(patch=16, channels=3, fusion_layers=2)
    convolutions = 3 * (9 * 768 * 384 + 384 + 9 * 384 * 384 + 384)
    assert count(jax.eval_shape(branch.init, jax.random.key(0), output.pyramid)) == convolutions + 385 * 768
    projector = heads.BatchNormMlp((4096, 4096), 256)
    pooled = jax.ShapeDtypeStruct((2, 2, 384), jnp.float32)
    expected = 384 * 4096 + 4096 * 4096 + 4096 * 256 + 2 * 2 * 4096
    assert count(jax.eval_shape(projector.init, jax.random.key(0), pooled)) == expected


def test_initialisation_follows_moco_v3():
    encoder = vit.build(width=64, depth=1, heads=2, patch=8, hierarchies=1, image_size=(16, 16))
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


def test_heads_normalise_each_view_by_itself():
    head = heads.BatchNormMlp((7,), 5)
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


@pytest.mark.parametrize(("levels", "fusion_layers", "patch", "channels"), [(4, 2, 4, 3), (2, 1, 3, 1), (1, 2, 2, 3)])
def test_decoder_shapes(levels, fusion_layers, patch, channels):
    pyramid = tuple(jax.random.normal(jax.random.key(i), (2, 3, 5, 6)) for i in range(levels))
    branch = decoder.build(patch=patch, channels=channels, fusion_layers=fusion_layers)
    variables = branch.init(jax.random.key(9), pyramid)
    assert branch.apply(variables, pyramid).shape == (2, 3 * patch, 5 * patch, channels)
    convolutions = [name for name in variables["params"] if "conv" in name]
    assert len(convolutions) == (levels - 1) * fusion_layers


def test_decoder_walks_from_deep_to_shallow():
    """The deepest map passes every block, the shallowest only the last: by hand, with 1 x 1 maps."""
    pyramid = tuple(jax.random.normal(jax.random.key(i), (2, 1, 1, 3)) for i in range(3))
    branch = decoder.build(patch=2, channels=1, fusion_layers=1)
    variables = branch.init(jax.random.key(9), pyramid)
    params = jax.tree.map(np.asarray, variables["params"])

    def fuse(name, deep, shallow):
        kernel, bias = params[name]["kernel"][1, 1], params[name]["bias"]
        return np.maximum(np.concatenate([deep, shallow], -1) @ kernel + bias, 0)

    shallow, middle, deep = (np.asarray(level[:, 0, 0]) for level in pyramid)
    x = fuse("block_2_conv_1", fuse("block_1_conv_1", deep, middle), shallow)
    x = x @ params["to_pixels"]["kernel"] + params["to_pixels"]["bias"]
    np.testing.assert_allclose(branch.apply(variables, pyramid), x.reshape(2, 2, 2, 1), rtol=1e-5, atol=1e-6)


def test_cells_to_image_puts_each_vector_on_its_own_cell():
    rows, columns, patch, channels = 2, 3, 4, 3
    cells = jnp.arange(2 * rows * columns * patch * patch * channels).reshape(2, rows, columns, -1)
    image = decoder.cells_to_image(cells, patch)
    for n, i, j in np.ndindex(2, rows, columns):
        cell = image[n, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
        np.testing.assert_array_equal(np.ravel(cell), cells[n, i, j])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": (8, 22)}, "8 x 22 pixels cannot be cut into patches of 4 x 4"),
        ({"hierarchies": 7}, "hierarchies 7 does not fit an encoder of 6 blocks"),
        ({"hierarchies": 0}, "hierarchies 0"),
        ({"heads": 5}, "width 24 must be a multiple of encoder.heads"),
        ({"depth": 0}, "encoder.depth must be at least 1"),
    ],
)
def test_numbers_that_do_not_fit_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        small_vit(**changes)


def test_attention_equals_numpy():
    attention = layers.Attention(heads=3, tokens=5)
    x = jax.random.normal(jax.random.key(0), (2 * 5, 12)) * 2
    params = jax.tree.map(lambda p: p + 0.05, attention.init(jax.random.key(1), x)["params"])
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    qkv = (np.asarray(x) @ p["qkv"]["kernel"] + p["qkv"]["bias"]).reshape(2, 5, 3, 3, 4)
    expected = np.zeros((2, 5, 12))
    for n, head in np.ndindex(2, 3):
        q, k, v = (qkv[n, :, part, head] for part in range(3))
        logits = q @ k.T / np.sqrt(4)
        weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        expected[n, :, head * 4 : head * 4 + 4] = weights @ v
    expected = expected.reshape(10, 12) @ p["proj"]["kernel"] + p["proj"]["bias"]
    np.testing.assert_allclose(attention.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-5)


def test_positions_are_added_to_the_patches(encoded):
    """Swapping two patches of the image is not just swapping two tokens; for equal patches tokens still differ."""
    encoder, params, images, output, _ = encoded
    swapped = images.at[:, :4, :4].set(images[:, 4:, 16:]).at[:, 4:, 16:].set(images[:, :4, :4])
    other = encoder.apply({"params": params}, swapped)
    assert jnp.abs(other.pooled - output.pooled).max() > 1e-4
    flat = encoder.apply({"params": params}, jnp.ones_like(images), capture_intermediates=True)[1]["intermediates"]
    patches = flat["patch_embed"]["__call__"][0]
    np.testing.assert_allclose(patches[0, 0, 0], patches[0, 1, 4], rtol=1e-5)
    tokens = flat["block_1"]["__call__"][0][0, 1:]
    assert jnp.abs(tokens[0] - tokens[-1]).max() > 0.1
