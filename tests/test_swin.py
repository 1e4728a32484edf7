"""Swin: windows, shifts and the bias against brute force, and maps of every size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repre_jax.core.errors import UserError
from repre_jax.models import swin

windows = st.integers(1, 5)


@given(window=windows, high=st.integers(1, 4), wide=st.integers(1, 4))
def test_merge_inverts_partition(window, high, wide):
    x = np.arange(2 * high * wide * window**2 * 3).reshape(2, high * window, wide * window, 3)
    parts = swin.partition(x, window)
    assert parts.shape == (2, high * wide, window * window, 3)
    np.testing.assert_array_equal(swin.merge(parts, high * window, wide * window), x)
    for row, column in np.ndindex(high, wide):
        corner = x[1, row * window : (row + 1) * window, column * window : (column + 1) * window]
        np.testing.assert_array_equal(parts[1, row * wide + column], corner.reshape(-1, 3))


@given(window=st.integers(2, 5), high=st.integers(1, 4), wide=st.integers(1, 4), data=st.data())
def test_the_shift_mask_equals_a_brute_force_one(window, high, wide, data):
    """Two tokens of a window may see each other iff they came into it without crossing an edge of the map.

    On the map before the roll, a window covers rows start + shift .. start + shift + window; those beyond the last row
    come from the top. Two tokens belong together iff both or neither wrapped around, for rows and for columns.
    """
    shift = data.draw(st.integers(1, window - 1))
    rows, columns = high * window, wide * window
    mask = swin.shift_mask(rows, columns, window, shift)
    assert mask.shape == (high * wide, window**2, window**2)
    for w, a, b in np.ndindex(mask.shape):
        places = []
        for token in (a, b):
            row = w // wide * window + token // window + shift
            column = w % wide * window + token % window + shift
            places.append((row >= rows, column >= columns))
        assert mask[w, a, b] == (0 if places[0] == places[1] else -100)


@given(window=windows, extra=st.integers(0, 4))
def test_the_bias_of_a_pair_depends_on_its_offset_only(window, extra):
    """A smaller window reads from the same table the entries of the same offsets."""
    side = 2 * (window + extra) - 1
    index = swin.relative_index(window, window + extra)
    for i, j in np.ndindex(index.shape):
        down, right = i // window - j // window, i % window - j % window
        assert index[i, j] == (down + window + extra - 1) * side + right + window + extra - 1


def block(window, shifted, size, seed=0):
    """(attention output of a one-head block by our code, the same by brute force) on a map of `size`."""
    module = swin.SwinBlock(heads=1, window=window, shifted=shifted)
    x = jax.random.normal(jax.random.key(seed), (1, *size, 4))
    params = jax.tree.map(lambda p: p * 5 + 0.1, jax.jit(module.init)(jax.random.key(seed + 1), x)["params"])
    quiet = params | {"mlp": jax.tree.map(jnp.zeros_like, params["mlp"])}
    return np.asarray(jax.jit(module.apply)({"params": quiet}, x)[0] - x, np.float64)[0], x, params


def by_hand(x, params, window, shift):
    """Every query by itself: its window on the shifted grid, its neighbours by coordinates, zeros as padding."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = np.asarray(x[0], np.float64)
    rows, columns, width = x.shape
    used = min(window, rows, columns)
    high, wide = rows + -rows % used, columns + -columns % used
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    y = np.pad(y * p["norm1"]["scale"] + p["norm1"]["bias"], ((0, high - rows), (0, wide - columns), (0, 0)))
    q, k, v = np.split(y @ p["attn"]["qkv"]["kernel"] + p["attn"]["qkv"]["bias"], 3, axis=-1)
    table = p["attn"]["bias_table"].reshape(2 * window - 1, 2 * window - 1)

    def cell(i, side):  # which window a row or column falls into, and on which side of the map's edge
        moved = i - shift
        return (moved // used) if moved >= 0 else ("wrapped", (moved + side) // used)

    result = np.zeros((rows, columns, width))
    for i, j in np.ndindex(rows, columns):
        mates = [
            (a, b)
            for a, b in np.ndindex(high, wide)
            if cell(a, high) == cell(i, high) and cell(b, wide) == cell(j, wide)
        ]
        logits = np.array([q[i, j] @ k[a, b] / 2 + table[i - a + window - 1, j - b + window - 1] for a, b in mates])
        weights = np.exp(logits - logits.max())
        result[i, j] = sum(w * v[a, b] for w, (a, b) in zip(weights / weights.sum(), mates, strict=True))
    return result @ p["attn"]["proj"]["kernel"] + p["attn"]["proj"]["bias"]


@pytest.mark.parametrize(
    ("window", "shifted", "size", "shift"),
    [
        (3, False, (6, 9), 0),
        (3, True, (6, 9), 1),
        (3, True, (7, 5), 1),  # padded
        (4, True, (4, 9), 0),  # one window high: not shifted
        (4, True, (3, 7), 0),  # lower than the window: a window of 3 reads the middle of the table
        (2, True, (1, 1), 0),
    ],
)
def test_a_block_equals_brute_force(window, shifted, size, shift):
    got, x, params = block(window, shifted, size)
    np.testing.assert_allclose(got, by_hand(x, params, window, shift), rtol=1e-3, atol=1e-4)


def test_patch_merging_gathers_neighbours():
    """With a reduction that copies, each output holds its four inputs, column by column."""
    merging = swin.PatchMerging("float32")
    x = jax.random.normal(jax.random.key(0), (1, 3, 4, 2))
    params = merging.init(jax.random.key(1), x)["params"]
    for part, (down, right) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        kernel = jnp.zeros((8, 4)).at[2 * part, 0].set(1.0).at[2 * part + 1, 1].set(1.0)
        y = merging.apply({"params": params | {"reduction": {"kernel": kernel}}}, x)
        assert y.shape == (1, 2, 2, 4)
        padded = jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
        for i, j in np.ndindex(2, 2):
            four = jnp.concatenate([padded[0, 2 * i + r, 2 * j + c] for c in (0, 1) for r in (0, 1)])
            expected = (four - four.mean()) / jnp.sqrt(four.var() + 1e-5)
            picked = padded[0, 2 * i + down, 2 * j + right]
            picked = (picked - four.mean()) / jnp.sqrt(four.var() + 1e-5)
            np.testing.assert_allclose(y[0, i, j, :2], picked, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(picked, expected[2 * part : 2 * part + 2], rtol=1e-5)


def test_shapes_when_nothing_divides():
    encoder = swin.build(width=4, depth=(1, 2, 1), heads=(1, 2, 4), patch=2, window=3)
    images = jnp.zeros((2, 26, 14, 3))
    params = jax.jit(encoder.init)(jax.random.key(0), images)["params"]
    output = jax.jit(encoder.apply)({"params": params}, images)
    assert [level.shape for level in output.pyramid] == [(2, 13, 7, 4), (2, 7, 4, 8), (2, 4, 2, 16)]
    assert output.tokens.shape == (2, 8, 16)
    assert output.pooled.shape == (2, 16)
    assert output.cls is None


def test_pooled_is_the_mean_of_normalised_tokens():
    encoder = swin.build(width=4, depth=(1, 1), heads=(1, 2), patch=2, window=2)
    images = jax.random.normal(jax.random.key(0), (2, 12, 8, 3))
    params = jax.jit(encoder.init)(jax.random.key(1), images)["params"]
    output = jax.jit(encoder.apply)({"params": params}, images)
    x = np.asarray(output.pyramid[-1], np.float64).reshape(2, 6, 8)
    tokens = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(output.tokens, tokens, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output.pooled, tokens.mean(axis=1), rtol=1e-4, atol=1e-5)


def test_initialisation():
    encoder = swin.build(width=32, depth=(1, 1), heads=(4, 8), window=7)
    params = jax.jit(encoder.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    first = params["stage_1_block_1"]
    for values in (
        first["attn"]["bias_table"],
        first["mlp"]["fc1"]["kernel"],
        params["stage_1_merge"]["reduction"]["kernel"],
    ):
        np.testing.assert_allclose(np.std(values), 0.02, rtol=0.1)
    assert not first["attn"]["qkv"]["bias"].any()
    bound = (4 * 4 * 3) ** -0.5
    for values in params["patch_embed"].values():
        assert 0.8 * bound < np.abs(values).max() <= bound


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": (2, 2)}, "one number a stage in each"),
        ({"depth": 4}, "one number a stage in each"),
        ({"heads": (1, 2, 3)}, "width 16 must be a multiple of encoder.heads \\(3\\)"),
        ({"window": 0}, "encoder.window must be a whole number of at least 1"),
        ({"depth": (1, 0, 1)}, "encoder.depth must be a whole number"),
    ],
)
def test_numbers_that_do_not_fit_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        swin.build(**{"width": 4, "depth": (1, 1, 1), "heads": (1, 2, 4)} | changes)
