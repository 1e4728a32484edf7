"""Attention as one kernel a layer, interpreted, against self_attention.attend: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.core import sharding
from repre_jax.models import row_attention, self_attention
from tests.helpers.collectives import collectives

DEVICES = ("tpu", "gpu")
CASES = {  # images, windows, tokens, heads, width of a head, windows that have a bias of their own (None: no bias)
    "vit": (1, 1, 197, 1, 64, None),
    "dino's small views": (3, 1, 37, 1, 16, None),
    "swin": (4, 1, 49, 1, 32, 1),
    "swin, shifted": (2, 2, 49, 2, 32, 2),
    "one bias for many windows": (2, 3, 9, 2, 128, 1),
    "more images than parts": (16, 1, 7, 1, 16, 1),
}


def both(case, dtype, device):
    """(output, gradients of qkv and bias) of row_attention and of self_attention.attend."""
    images, windows, tokens, heads, head, biased = case
    rng = np.random.default_rng(0)
    qkv = jnp.asarray(rng.standard_normal((images, windows, tokens, 3 * heads * head)), dtype)
    bias = None if biased is None else jnp.asarray(rng.standard_normal((biased, heads, tokens, tokens)), jnp.float32)
    cotangent = jnp.asarray(rng.standard_normal((images, windows, tokens, heads * head)), dtype)

    def plain(qkv, bias):
        split = qkv.reshape(images, windows, tokens, 3, heads, head).transpose(3, 0, 1, 4, 2, 5)
        return self_attention.attend(*split, bias).swapaxes(2, 3).reshape(images, windows, tokens, -1)

    def found(attention):
        output, back = jax.vjp(attention, qkv, bias)
        return output, *back(cotangent)

    ours = jax.jit(lambda: found(lambda *given: row_attention.attend(*given, heads, True, device)))()
    return ours, jax.jit(lambda: found(plain))()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_attend(case, device):
    for one, other in zip(*both(case, jnp.float32, device), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, atol=5e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", ["vit", "swin, shifted"])
def test_in_bfloat16_it_differs_by_its_rounding(case, device):
    for one, other in zip(*both(CASES[case], jnp.bfloat16, device), strict=True):
        if one is not None:
            assert one.dtype == other.dtype
            exact = np.asarray(other, np.float32)
            assert np.abs(np.asarray(one, np.float32) - exact).max() <= 0.02 * np.abs(exact).max()


@pytest.mark.parametrize("images", [4, 3])
def test_each_device_has_its_own_images(images, two_devices):
    """Nothing is moved but the bias's gradient; where devices do not divide the images, each computes all."""
    heads, tokens, head = 2, 9, 4
    rng = np.random.default_rng(0)
    shapes = (images, 2, tokens, 3 * heads * head), (images, 2, tokens, heads * head), (1, heads, tokens, tokens)
    given = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

    def found(qkv, cotangent, bias):
        output, back = jax.vjp(lambda *given: row_attention.attend(*given, heads, True), qkv, bias)
        return output, *back(cotangent)

    mesh = sharding.make_mesh(images * 2)
    split = sharding.along_batch(mesh) if images % 2 == 0 else sharding.replicated(mesh)
    places = split, split, sharding.replicated(mesh)
    placed = [jax.device_put(array, place) for array, place in zip(given, places, strict=True)]
    program = jax.jit(found).lower(*placed).compile()
    on_two = program(*placed)
    for one, other in zip(jax.jit(found)(*given), on_two, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    moved = collectives(program.as_text())
    assert moved == ({} if images % 2 else {"all-reduce": {(1, heads, tokens, tokens): 1}})
    assert on_two[0].sharding.is_equivalent_to(split, 4)


def test_images_are_taken_in_blocks_that_fit(monkeypatch):
    """What a bias gets is summed over blocks, too."""
    monkeypatch.setattr(row_attention, "BLOCK_BYTES", 2 * 49 * 96 * 4)
    ours, theirs = both(CASES["swin"], jnp.float32, "tpu")
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=5e-5)
    assert row_attention._largest_divisor(12, 5) == 4
    assert row_attention._largest_divisor(7, 0) == 1
