"""Where encoders look, against direct computations from their parameters."""

import jax
import numpy as np
import pytest
from scipy import special

from repre_jax.evaluation import attention
from repre_jax.models import swin, vit


def strong(params, seed=0):
    """Parameters large enough that attention is far from even."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: np.asarray(p + 0.4 * rng.standard_normal(p.shape), np.float32), params)


def doubles(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def normed(x, p, epsilon):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * p["scale"] + p["bias"]


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def vit_by_numpy(p, image, *, patch, heads, blocks):
    """Attention [heads, 1 + T, 1 + T] of the last of so many blocks, for one image, all from the parameters."""
    rows, columns = image.shape[0] // patch, image.shape[1] // patch
    cells = image.reshape(rows, patch, columns, patch, -1).swapaxes(1, 2).reshape(rows * columns, -1)
    x = cells @ p["patch_embed"]["kernel"].reshape(cells.shape[1], -1) + p["patch_embed"]["bias"]
    x = np.concatenate([p["cls_token"][0], x]) + p["pos_embed"][0]
    for number in range(1, blocks + 1):
        block = p[f"block_{number}"]
        qkv = dense(normed(x, block["norm1"], 1e-6), block["attn"]["qkv"]).reshape(len(x), 3, heads, -1)
        q, k, v = qkv.transpose(1, 2, 0, 3)
        weights = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
        x = x + dense((weights @ v).swapaxes(0, 1).reshape(x.shape), block["attn"]["proj"])
        y = dense(normed(x, block["norm2"], 1e-6), block["mlp"]["fc1"])
        x = x + dense(y * (1 + special.erf(y / np.sqrt(2))) / 2, block["mlp"]["fc2"])
    return weights


@pytest.mark.parametrize("block", [1, None])
def test_the_class_tokens_attention_equals_numpy_from_the_parameters(block):
    encoder = vit.build(width=8, depth=2, heads=2, patch=4, image_size=(8, 12), pyramid_levels=2)
    images = np.random.default_rng(1).standard_normal((2, 8, 12, 3), np.float32)
    params = strong(jax.jit(encoder.init)(jax.random.key(0), images)["params"])
    maps = jax.jit(attention.of_class_token(encoder, block))(params, images)
    assert maps.shape == (2, 2, 2, 3)
    for image, ours in zip(images, maps, strict=True):
        rows = vit_by_numpy(doubles(params), image, patch=4, heads=2, blocks=block or 2)
        np.testing.assert_allclose(ours.reshape(2, 6), rows[:, 0, 1:], atol=1e-5)
        np.testing.assert_allclose(ours.sum((1, 2)) + rows[:, 0, 0], 1, atol=1e-5)  # the rest is its own
    assert np.ptp(maps) > 0.3


def window_attention(seen, p, window, shifted, heads):
    """Dense [T, T] between the tokens of a map, mean over heads, from the normed map `seen` [h, w, D]: each query by
    itself, its window by coordinates; padding attended to is left out and the rest scaled."""
    rows, columns, width = seen.shape
    used = min(window, rows, columns)
    shift = window // 2 if shifted and min(rows, columns) > window else 0
    high, wide = rows + -rows % used, columns + -columns % used
    y = np.pad(seen, ((0, high - rows), (0, wide - columns), (0, 0)))
    q, k, _ = np.split(dense(y, p["qkv"]).reshape(high, wide, 3 * heads, -1), 3, axis=2)
    table = p["bias_table"].reshape(2 * window - 1, 2 * window - 1, heads)

    def cell(i, side):
        return ("inside", (i - shift) // used) if i >= shift else ("wrapped", (i - shift + side) // used)

    found = np.zeros((rows * columns, rows * columns))
    for i, j in np.ndindex(rows, columns):
        mates = [
            (a, b)
            for a, b in np.ndindex(high, wide)
            if (cell(a, high), cell(b, wide)) == (cell(i, high), cell(j, wide))
        ]
        logits = [
            (q[i, j] * k[a, b]).sum(-1) / np.sqrt(width // heads) + table[i - a + window - 1, j - b + window - 1]
            for a, b in mates
        ]
        weights = softmax(np.array(logits).T).mean(0)
        for weight, (a, b) in zip(weights, mates, strict=True):
            if a < rows and b < columns:
                found[i * columns + j, a * columns + b] = weight
    return found / found.sum(1, keepdims=True)


def merging(rows, columns):
    """Dense [merged tokens, tokens]: the share of each token in the merged one that it belongs to."""
    merged = np.array([[a // 2 * -(-columns // 2) + b // 2 for b in range(columns)] for a in range(rows)]).ravel()
    belongs = merged[None] == np.arange(merged.max() + 1)[:, None]
    return belongs / belongs.sum(1, keepdims=True)


def test_a_swins_rollout_equals_dense_matrices():
    """On maps of 7 x 10, 4 x 5 and 2 x 3 tokens: padded, shifted, merged at odd sides, smaller than the window."""
    encoder = swin.build(width=8, depth=(2, 3, 1), heads=(1, 2, 4), patch=2, window=3)
    images = np.random.default_rng(2).standard_normal((2, 14, 20, 3), np.float32)
    params = strong(jax.jit(encoder.init)(jax.random.key(0), images)["params"])
    maps = jax.jit(attention.rollout(encoder))(params, images)
    assert maps.shape == (2, 7, 10)
    np.testing.assert_allclose(maps.sum((1, 2)), 1, rtol=1e-5)

    @jax.jit
    def normed_maps(params):
        wanted = {"capture_intermediates": lambda module, _: module.name == "norm1", "mutable": ["intermediates"]}
        return encoder.apply({"params": params}, images, **wanted)[1]["intermediates"]

    kept = normed_maps(params)
    p, sizes = doubles(params), [(7, 10), (4, 5), (2, 3)]
    for number, ours in enumerate(maps):
        share = np.full(6, 1 / 6)
        for stage in (3, 2, 1):
            for block in range(encoder.depth[stage - 1], 0, -1):
                name = f"stage_{stage}_block_{block}"
                seen = np.asarray(kept[name]["norm1"]["__call__"][0], np.float64)[number]
                a = window_attention(seen, p[name]["attn"], 3, block % 2 == 0, encoder.heads[stage - 1])
                share = (share + a.T @ share) / 2
            if stage > 1:
                share = merging(*sizes[stage - 2]).T @ share
        np.testing.assert_allclose(ours.ravel(), share, atol=1e-6)
    assert maps.max() > 3 * maps.min()


def dinos(flat, threshold):
    """dino visualize_attention.py:181-187 for one head, in NumPy."""
    order = np.argsort(flat)
    kept = np.cumsum(flat[order] / flat.sum()) > 1 - threshold
    return kept[np.argsort(order)]


@pytest.mark.parametrize("mass", [0.1, 0.6, 0.95])
def test_the_fewest_patches_that_hold_the_mass_are_kept(mass):
    maps = np.random.default_rng(3).random((5, 2, 4, 7)) ** 3
    kept = attention.largest_mass(maps, mass)
    for values, chosen in zip(maps.reshape(10, 28), kept.reshape(10, 28), strict=True):
        held = np.sort(values[chosen]) / values.sum()
        assert held.sum() >= mass > held[1:].sum()
        assert values[chosen].min() > values[~chosen].max()
        np.testing.assert_array_equal(chosen, dinos(values, mass))


def test_of_equal_patches_as_many_are_kept_as_the_mass_needs():
    """Rounding of sums such as 0.2 + 0.2 + 0.2 > 1 - 0.4 must not keep one more."""
    for count in range(2, 30):
        for wanted in range(1, count):
            assert attention.largest_mass(np.ones((1, count)), wanted / count).sum() == wanted
    assert attention.largest_mass(np.ones((2, 5)), 1.0).all()
