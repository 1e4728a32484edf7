"""Attention and GELU with gradients of their own, against JAX's automatic ones and SciPy."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo
from scipy import special

from repre_jax.core.errors import UserError
from repre_jax.models import build_encoder, layers, platform, self_attention

SHAPE = (3, 5, 2, 7, 4)  # images, windows, heads, tokens, width of a head


def arrays(shape=SHAPE, bias=None, seed=0):
    rng = np.random.default_rng(seed)
    given = [jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(3)]
    return given if bias is None else [*given, jnp.asarray(rng.standard_normal(bias), jnp.float32)]


def plain(q, k, v, bias=None):
    logits = jnp.einsum("...qd,...kd->...qk", q, k) / q.shape[-1] ** 0.5
    return jax.nn.softmax(logits if bias is None else logits + bias) @ v


@pytest.mark.parametrize("bias", [None, (2, 7, 7), (5, 2, 7, 7), (1, 1, 2, 7, 1)])
def test_attend_and_its_gradients_are_the_textbooks(bias):
    given = arrays(bias=bias)
    cotangent = jnp.asarray(np.random.default_rng(1).standard_normal(SHAPE), jnp.float32)
    ours, back = jax.vjp(self_attention.attend, *given)
    expected, back_expected = jax.vjp(plain, *given)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    for gradient, wanted in zip(back(cotangent), back_expected(cotangent), strict=True):
        assert gradient.shape == wanted.shape
        np.testing.assert_allclose(gradient, wanted, atol=2e-5)


def test_heads_that_attend_one_by_one_do_what_all_do_at_once(monkeypatch):
    """Where an image has so many tokens: no weights of two heads at the same time."""
    qkv, cotangent = arrays((2, 9, 24))[0], arrays((2, 9, 8))[1]

    def both():
        output, back = jax.vjp(lambda x: self_attention.attend_qkv("xla", x, 2), qkv)
        return output, back(cotangent)[0]

    def written():
        return str(jax.make_jaxpr(jax.grad(lambda x: self_attention.attend_qkv("xla", x, 2).sum()))(qkv))

    at_once, before = both(), written()
    monkeypatch.setattr(self_attention, "LARGE", 4 * 2 * 9**2 - 1)
    for ours, expected in zip(both(), at_once, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert "[2,2,9,9]" in before
    assert "[2,2,9,9]" not in written()
    assert "[2,9,9]" in written()


def test_attend_is_jaxs_own():
    q, k, v = arrays((6, 2, 9, 8))
    ours = self_attention.attend(q, k, v).swapaxes(1, 2)
    theirs = jax.nn.dot_product_attention(*(x.swapaxes(1, 2) for x in (q, k, v)))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_attend_in_bfloat16_is_near_float32():
    """Softmax stays in float32; weights and products are rounded to 8 bits."""
    given = arrays((2, 3, 33, 16))
    narrow = [x.astype(jnp.bfloat16) for x in given]
    total = lambda *x: jnp.sum(self_attention.attend(*x).astype(jnp.float32) ** 2)  # noqa: E731
    wanted = jax.grad(total, argnums=(0, 1, 2))(*(x.astype(jnp.float32) for x in narrow))
    for ours, exact in zip(jax.grad(total, argnums=(0, 1, 2))(*narrow), wanted, strict=True):
        assert ours.dtype == jnp.bfloat16
        assert np.abs(ours.astype(jnp.float32) - exact).max() < 0.03 * np.abs(exact).max()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_is_exact(dtype):
    """x times the normal distribution's cumulative function, and its derivative."""
    x = jnp.linspace(-8, 8, 4001).astype(dtype)
    exact = np.asarray(x, np.float64)
    cumulative = special.ndtr(exact)
    slope = cumulative + exact * np.exp(-(exact**2) / 2) / np.sqrt(2 * np.pi)
    tolerance = {"float32": 1e-6, "bfloat16": 2**-7}[dtype]
    assert layers.gelu(x).dtype == dtype
    np.testing.assert_allclose(np.asarray(layers.gelu(x), np.float64), exact * cumulative, rtol=tolerance, atol=2e-6)
    gradient = jax.vmap(jax.grad(lambda one: layers.gelu(one).astype(jnp.float32)))(x)
    assert gradient.dtype == dtype
    np.testing.assert_allclose(np.asarray(gradient, np.float64), slope, rtol=tolerance, atol=2e-6)


def test_cudnn_is_refused_where_it_cannot_be_had():
    """In float32 on any device."""
    where = jax.default_backend()
    with pytest.raises(UserError, match=rf"float32, heads 64 wide, on {where}\.\n  expected: bfloat16.*NVIDIA GPU\n"):
        build_encoder("vit_s", attention="cudnn", dtype="float32")
    with pytest.raises(UserError, match=r"Unknown encoder.attention 'flash'.\n  expected: xla, cudnn, pallas or auto"):
        build_encoder("vit_s", attention="flash")


@pytest.mark.parametrize("name", ["vit_s", "swin_t"])
def test_pallas_is_refused_on_a_cpu(name, monkeypatch):
    with pytest.raises(UserError, match=r"pallas: on cpu\.\n  expected: a TPU"):
        build_encoder(name, attention="pallas")
    monkeypatch.setattr(platform, "compiled_for", lambda: "tpu")
    assert build_encoder(name, attention="pallas").attention == "pallas"


@pytest.mark.parametrize("tokens", [6, 7])
def test_the_fused_attention_is_the_same_for_even_and_odd_numbers_of_tokens(tokens):
    """Here by XLA, which computes what cuDNN is asked for."""
    given = arrays((3, tokens, 2, 8))
    cotangent = jnp.asarray(np.random.default_rng(1).standard_normal(given[0].shape), jnp.float32)

    def found(attention):
        output, back = jax.vjp(attention, *given)
        return output, *back(cotangent)

    spare = self_attention.spare("cudnn", tokens)

    def with_spare(*parts):
        longer = [jnp.pad(x, ((0, 0), (0, spare), (0, 0), (0, 0)), constant_values=9.0) for x in parts]
        return self_attention.fused_attend(*longer, spare, implementation="xla")[:, :tokens]

    ours = jax.jit(lambda: found(with_spare))()
    theirs = jax.jit(lambda: found(lambda *x: plain(*(each.swapaxes(1, 2) for each in x)).swapaxes(1, 2)))()
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.fixture
def traced_for_an_h200(monkeypatch):
    """What cuDNN's attention is asked for, which need not be there, can be traced."""
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda least: float(least) <= 9.0)
    monkeypatch.setattr(fused_attention_stablehlo, "is_cuda_compute_capability_equal", lambda one: one == "9.0")
    monkeypatch.setattr(platform, "compiled_for", lambda: "gpu")


SMALL = {"width": 64, "depth": 2, "heads": 2, "patch": 4, "pyramid_levels": 1}


@pytest.mark.parametrize("tokens", [197, 37])
def test_cudnn_is_asked_for_gradients_that_jax_does_not_refuse(tokens, traced_for_an_h200):
    """ViT-S/16 at 224 pixels, and DINO's small views."""
    side = 4 * round((tokens - 1) ** 0.5)
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    encoder = build_encoder("vit_s", **SMALL, image_size=(side, side), dtype="bfloat16", attention="cudnn")
    params = jax.eval_shape(encoder.init, jax.random.key(0), images)
    gradients = jax.jit(jax.grad(lambda params, images: encoder.apply(params, images).pooled.sum()))
    traced = str(gradients.trace(params, images).jaxpr)
    assert traced.count("dot_product_attention_bwd") >= 2
    assert f"bf16[2,{tokens + 1},2,32]" in traced


def test_the_spare_token_changes_nothing(traced_for_an_h200, monkeypatch):
    """An encoder that cuDNN's attention gives one more token, here by XLA: maps, tokens, weights, gradients."""
    by_xla = functools.partial(self_attention.fused_attend, implementation="xla")
    monkeypatch.setattr(self_attention, "fused_attend", by_xla)
    images = jax.random.normal(jax.random.key(0), (2, 12, 12, 3))
    ours, theirs = (
        build_encoder("vit_s", **SMALL, image_size=(12, 12), dtype="bfloat16", attention=kind)
        for kind in ("cudnn", "xla")
    )
    ours, theirs = ours.clone(dtype=jnp.float32), theirs.clone(dtype=jnp.float32)  # cuDNN's alone is never float32
    params = jax.jit(theirs.init)(jax.random.key(1), images)
    assert jax.tree.structure(jax.eval_shape(ours.init, jax.random.key(1), images)) == jax.tree.structure(params)

    def found(encoder):
        def total(params):
            output = encoder.apply(params, images, attention_of=2)
            return sum(jnp.sum(x**2) for x in (output.pooled, output.tokens, *output.pyramid)), output

        return jax.jit(jax.grad(total, has_aux=True))(params)

    for one, other in zip(jax.tree.leaves(found(ours)), jax.tree.leaves(found(theirs)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(
    os.environ.get("REPRE_TEST_PLATFORM") != "cuda",
    reason="the kernel is cuDNN's, which runs on NVIDIA GPUs alone; REPRE_TEST_PLATFORM=cuda runs the tests on one",
)
def test_cudnns_attention_is_ours():
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    small = SMALL | {"image_size": (32, 32), "dtype": "bfloat16"}
    ours, theirs = (build_encoder("vit_s", **small, attention=kind) for kind in ("xla", "cudnn"))
    params = ours.init(jax.random.key(1), images)

    def gradients(encoder):
        return jax.grad(lambda params: jnp.sum(encoder.apply(params, images).pooled ** 2))(params)

    for one, other in zip(*(jax.tree.leaves(gradients(encoder)) for encoder in (ours, theirs)), strict=True):
        assert np.abs(one - other).max() <= 0.05 * np.abs(one).max() + 1e-6
