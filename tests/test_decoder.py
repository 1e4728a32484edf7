"""The decoder: which features meet where, by hand, and every variant of Tables 4 and 5."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repre_jax.core.errors import UserError
from repre_jax.models import build_encoder, decoder

VIT = build_encoder("vit_s", width=6, depth=4, heads=2, patch=2, image_size=(6, 10), channels=1)
SWIN = build_encoder("swin_t", width=4, depth=(1, 1, 1), heads=(1, 2, 4), patch=2, window=2, channels=1)


def flat(levels=3, width=6, size=(3, 5), count=2):
    """A pyramid as ViT gives it."""
    return tuple(jax.random.normal(jax.random.key(i), (count, *size, width)) for i in range(levels))


def steep(sizes=((7, 5), (4, 3), (2, 2)), width=4, count=2):
    """A pyramid as Swin gives it, odd sides rounded up."""
    return tuple(jax.random.normal(jax.random.key(i), (count, *size, width * 2**i)) for i, size in enumerate(sizes))


def init(module, pyramid):
    return jax.jit(module.init)(jax.random.key(9), pyramid)


def apply(module, variables, pyramid):
    return jax.jit(module.apply)(variables, pyramid)


def kernels(variables):
    return {path: params["kernel"].shape for path, params in variables["params"].items()}


@pytest.mark.parametrize(("levels", "fusion_layers"), [(4, 2), (2, 1), (1, 2), (3, 4)])
def test_shapes_and_widths_for_vit(levels, fusion_layers):
    """2 C -> C, then C -> C."""
    pyramid = flat(levels)
    variables = init(decoder.build(VIT, fusion_layers=fusion_layers), pyramid)
    assert apply(decoder.build(VIT, fusion_layers=fusion_layers), variables, pyramid).shape == (2, 6, 10, 1)
    expected = {"to_pixels": (6, 4)}
    for block in range(1, levels):
        for layer in range(1, fusion_layers + 1):
            expected[f"block_{block}_conv_{layer}"] = (3, 3, 12 if layer == 1 else 6, 6)
    assert kernels(variables) == expected


def test_shapes_and_widths_for_swin():
    """C_deep + C_shallow -> C_shallow, then C_shallow -> C_shallow."""
    pyramid = steep()
    variables = init(decoder.build(SWIN), pyramid)
    assert apply(decoder.build(SWIN), variables, pyramid).shape == (2, 14, 10, 1)
    assert kernels(variables) == {
        "block_1_conv_1": (3, 3, 24, 8),
        "block_1_conv_2": (3, 3, 8, 8),
        "block_2_conv_1": (3, 3, 12, 4),
        "block_2_conv_2": (3, 3, 4, 4),
        "to_pixels": (4, 4),
    }


def test_it_walks_from_deep_to_shallow():
    """The deepest map passes every block, the shallowest only the last: by hand, with 1 x 1 maps."""
    pyramid = flat(size=(1, 1))
    module = decoder.build(VIT, fusion_layers=1)
    variables = init(module, pyramid)
    params = jax.tree.map(np.asarray, variables["params"])

    def fuse(name, deep, shallow):
        kernel, bias = params[name]["kernel"][1, 1], params[name]["bias"]
        return np.maximum(np.concatenate([deep, shallow], -1) @ kernel + bias, 0)

    shallow, middle, deep = (np.asarray(level[:, 0, 0]) for level in pyramid)
    x = fuse("block_2_conv_1", fuse("block_1_conv_1", deep, middle), shallow)
    x = x @ params["to_pixels"]["kernel"] + params["to_pixels"]["bias"]
    np.testing.assert_allclose(apply(module, variables, pyramid), x.reshape(2, 2, 2, 1), rtol=1e-5, atol=1e-6)


def test_light_brings_each_feature_to_a_small_width_first():
    """A lateral map per level, then the same walk: by hand, with 1 x 1 maps."""
    pyramid = flat(2, width=48, size=(1, 1))
    module = decoder.build(VIT, preset="light", fusion_layers=1)
    variables = init(module, pyramid)
    params = jax.tree.map(np.asarray, variables["params"])
    assert set(params) == {"lateral_1", "lateral_2", "block_1_conv_1", "to_pixels"}
    lateral = [
        np.asarray(level[:, 0, 0]) @ params[f"lateral_{i}"]["kernel"] + params[f"lateral_{i}"]["bias"]
        for i, level in enumerate(pyramid, start=1)
    ]
    assert lateral[0].shape == (2, 16)
    x = np.concatenate([lateral[1], lateral[0]], -1) @ params["block_1_conv_1"]["kernel"][1, 1]
    x = np.maximum(x + params["block_1_conv_1"]["bias"], 0)
    x = x @ params["to_pixels"]["kernel"] + params["to_pixels"]["bias"]
    np.testing.assert_allclose(apply(module, variables, pyramid), x.reshape(2, 2, 2, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("features", "views", "widths"),
    [
        ((384,) * 4, 1, (160,) * 4),
        ((384,) * 4, 2, (96,) * 4),
        ((768,) * 4, 1, (320,) * 4),
        ((768,) * 4, 2, (192,) * 4),
        ((96, 192, 384, 768), 1, (32, 64, 128, 256)),
        ((96, 192, 384, 768), 2, (24, 48, 96, 192)),
    ],
)
def test_light_has_the_widths_that_were_worked_out(features, views, widths):
    encoder = VIT if len(set(features)) == 1 else SWIN
    assert decoder.build(encoder, preset="light", views=views).widths(features) == widths
    assert decoder.build(encoder, views=views).widths(features) == features


@pytest.mark.parametrize(("operator", "preset"), [("conv", "paper"), ("conv", "light"), ("transformer", "paper")])
@pytest.mark.parametrize(("encoder", "features"), [(VIT, flat), (SWIN, steep)], ids=["vit", "swin"])
def test_single_reads_the_last_feature_alone(encoder, features, operator, preset):
    """The output follows the deepest map and none of the others; with all of them, it follows each."""
    pyramid = features()
    for single in (True, False):
        module = decoder.build(encoder, single=single, operator=operator, preset=preset, fusion_layers=1)
        variables = init(module, pyramid)
        gradients = jax.jit(jax.grad(lambda p, v, m=module: (m.apply(v, p) ** 2).sum()))(pyramid, variables)
        reached = [bool((jnp.abs(g) > 0).any()) for g in gradients]
        assert reached == ([False, False, True] if single else [True, True, True])
        if single:
            assert "lateral_1" not in variables["params"]
            blocks = {name.split("_")[1] for name in variables["params"] if name.startswith("block")}
            assert blocks == {"1", "2"}, "it keeps the decoder's K - 1 blocks"
            same_width = encoder is VIT and preset == "paper"
            assert not (same_width and "block_1_project" in variables["params"]), "nothing to project"


@pytest.mark.parametrize(("encoder", "features"), [(VIT, flat), (SWIN, steep)], ids=["vit", "swin"])
def test_transformer_fusion_layers(encoder, features):
    """Two blocks of two layers after a projection; in Swin's windows every other layer is shifted."""
    pyramid = features()
    module = decoder.build(encoder, operator="transformer", fusion_layers=2)
    variables = init(module, pyramid)
    names = {name for name in variables["params"] if name.startswith("block")}
    assert names == {f"block_{b}_{part}" for b in (1, 2) for part in ("project", "transformer_1", "transformer_2")}
    assert apply(module, variables, pyramid).shape[-1] == 1
    last = variables["params"]["block_2_transformer_2"]["attn"]
    assert last["qkv"]["kernel"].shape == (pyramid[0].shape[-1], 3 * pyramid[0].shape[-1])
    assert ("bias_table" in last) == (encoder is SWIN)


def test_a_transformer_layer_sees_the_whole_map_of_a_vit():
    pyramid = flat(2)
    module = decoder.build(VIT, operator="transformer", fusion_layers=1)
    variables = init(module, pyramid)
    rebuilt = apply(module, variables, pyramid)
    moved = apply(module, variables, (pyramid[0].at[:, 0, 0].add(5.0), pyramid[1]))
    assert (jnp.abs(moved - rebuilt)[:, -2:, -2:].max()) > 1e-6, "the opposite corner feels it"


def test_every_other_window_is_shifted_in_swin():
    """Cells (1, 1) and (2, 2) lie in different windows of 2 x 2, and in one window after a shift by 1."""
    pyramid = steep(((6, 6), (3, 3)))
    for layers, reached in ((1, False), (2, True)):
        module = decoder.build(SWIN, operator="transformer", fusion_layers=layers)
        variables = init(module, pyramid)
        moved = (pyramid[0].at[:, 2, 2].add(1.0), pyramid[1])
        change = jnp.abs(apply(module, variables, moved) - apply(module, variables, pyramid))
        assert bool((change[:, 2:4, 2:4] > 0).any()) == reached, "pixels of cell (1, 1)"


@pytest.mark.parametrize("operator", decoder.OPERATORS)
def test_bfloat16_multiplies_and_float32_comes_out(operator):
    """Products in the encoder's dtype; upsampling, transformer layers' residual sum and the pixels in float32."""
    encoder = build_encoder("swin_t", width=4, depth=(1, 1), heads=(1, 2), patch=2, window=2, dtype="bfloat16")
    module = decoder.build(encoder, operator=operator, preset="light")
    pyramid = steep(((4, 4), (2, 2)))
    variables = init(module, pyramid)
    output, record = jax.eval_shape(functools.partial(module.apply, capture_intermediates=True), variables, pyramid)
    assert output.dtype == jnp.float32
    for name, calls in record["intermediates"].items():
        if name != "__call__" and "__call__" in calls:
            result = calls["__call__"][0]
            wanted = jnp.float32 if "transformer" in name else jnp.bfloat16
            assert (result[0] if isinstance(result, tuple) else result).dtype == wanted, name
    halves = jnp.arange(8.0).reshape(1, 8, 1, 1).astype(jnp.bfloat16)
    assert decoder._resize(halves, (13, 1)).dtype == jnp.float32


def test_initialisation():
    """He: the variance is 2 over what enters a value; heads of transformer layers are as wide as the encoder's."""
    params = init(decoder.build(VIT), flat(2, width=48))["params"]
    np.testing.assert_allclose(np.var(params["block_1_conv_1"]["kernel"]), 2 / (9 * 96), rtol=0.05)
    assert not params["block_1_conv_1"]["bias"].any()
    assert decoder.build(build_encoder("vit_b")).head_width == 64
    assert decoder.build(build_encoder("vit_s", variant="moco_v3")).head_width == 32
    assert decoder.build(build_encoder("swin_s")).head_width == 32


def test_upsampling_is_bilinear():
    """Half-pixel centres, borders repeated: 2 -> 4 weighs 3/4 and 1/4, and 4 x 4 -> 7 x 7 samples at (i + 0.5) 4/7."""
    x = jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(decoder._resize(x, (1, 4)).ravel(), [0, 0.25, 0.75, 1], atol=1e-6)
    line = np.array([3.0, -1.0, 4.0, 2.0])
    got = decoder._resize(jnp.asarray(line).reshape(1, 4, 1, 1), (7, 1)).ravel()
    np.testing.assert_allclose(got, np.interp((np.arange(7) + 0.5) * 4 / 7 - 0.5, np.arange(4), line), atol=1e-5)


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), patch=st.integers(1, 5), channels=st.integers(1, 4))
def test_rearranging_pixels_inverts_cutting_into_patches(rows, columns, patch, channels):
    image = np.arange(2 * rows * columns * patch**2 * channels).reshape(2, rows * patch, columns * patch, channels)
    cells = np.zeros((2, rows, columns, patch * patch * channels), int)
    for i, j in np.ndindex(rows, columns):
        cells[:, i, j] = image[:, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch].reshape(2, -1)
    np.testing.assert_array_equal(decoder.cells_to_image(jnp.asarray(cells), patch), image)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "tiny"}, "repre.preset is 'tiny'.\n  expected: paper or light"),
        ({"operator": "mlp"}, "repre.operator is 'mlp'.\n  expected: conv or transformer"),
        ({"views": 3}, "repre.views is 3.\n  expected: 1 or 2"),
        ({"fusion_layers": 0}, "repre.fusion_layers must be a whole number of at least 1, got 0"),
        ({"fusion_layers": 1.5}, "repre.fusion_layers must be a whole number of at least 1, got 1.5"),
    ],
)
def test_settings_that_do_not_exist_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        decoder.build(VIT, **changes)
