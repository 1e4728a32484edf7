"""Operations on colours, against Pillow, colorsys and tf.image's formulas, and the jitter made of them."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from repre_jax.data import colours
from tests.helpers.pictures import PILLOW_STEPS, jitted, ours, picture


@functools.cache
def on_image(operation):
    """An operation on planes as one on images [H, W, 3]."""
    return lambda image, *values: colours.joined(operation(colours.planes(image), *values))


def jitter(key, image, strengths, kind="torchvision"):
    return colours.joined(colours.jitter(key, colours.planes(image), strengths, kind))


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7])
@pytest.mark.parametrize(
    ("operation", "enhance"),
    [
        (colours.brightness, ImageEnhance.Brightness),
        (colours.contrast, ImageEnhance.Contrast),
        (colours.saturation, ImageEnhance.Color),
    ],
)
def test_blends_equal_pillow(operation, enhance, factor):
    image = picture()
    theirs = np.asarray(enhance(Image.fromarray(image)).enhance(factor)) / 255
    np.testing.assert_allclose(ours(on_image(operation), image, factor), theirs, atol=(1 + factor) * PILLOW_STEPS)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.8])
def test_tensorflows_contrast_and_saturation(factor):
    """tf.image.adjust_contrast: (x - mean) * factor + mean of each channel; adjust_saturation: S of HSV, at most 1."""
    image = picture(6) / 255
    means = image.mean(axis=(0, 1))
    expected = np.clip((image - means) * factor + means, 0, 1)
    np.testing.assert_allclose(ours(on_image(colours.contrast_by_channel), image * 255, factor), expected, atol=1e-5)
    expected = np.array(
        [[colorsys.hsv_to_rgb(h, min(1.0, s * factor), v) for h, s, v in (colorsys.rgb_to_hsv(*p) for p in row)]
         for row in image]
    )  # fmt: skip
    np.testing.assert_allclose(ours(on_image(colours.saturation_in_hsv), image * 255, factor), expected, atol=1e-5)


def test_simclrs_jitter_uses_them():
    """The same draws give other colours; brightness alone is the same in both."""
    image = jnp.asarray(picture(7), jnp.float32) / 255
    key = jax.random.PRNGKey(3)
    for strengths, same in (((0.8, 0.0, 0.0, 0.2), True), ((0.0, 0.8, 0.0, 0.0), False), ((0.0, 0.0, 0.8, 0.0), False)):
        torch, google = (jitter(key, image, strengths, kind) for kind in colours.OPERATIONS)
        assert (np.abs(torch - google).max() < 1e-6) == same


def test_grey_equals_pillow():
    image = picture(1)
    theirs = np.asarray(Image.fromarray(image).convert("L").convert("RGB")) / 255
    np.testing.assert_allclose(ours(on_image(colours.grey), image), theirs, atol=PILLOW_STEPS)


@pytest.mark.parametrize("turns", [-0.1, 0.0, 0.05, 0.5])
def test_hue_equals_colorsys(turns):
    image = picture(3)
    image[0, :3] = ((7, 7, 7), (0, 0, 0), (255, 255, 255))  # no hue at all
    theirs = np.empty((*image.shape[:2], 3))
    for index in np.ndindex(image.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*(image[index] / 255))
        theirs[index] = colorsys.hsv_to_rgb((h + turns) % 1, s, v)
    np.testing.assert_allclose(ours(on_image(colours.hue), image, turns), theirs, atol=1e-5)


def test_jitter_draws_the_order_per_image():
    """Brightness then contrast differs from contrast then brightness; both orders must occur among equal images."""
    image = jnp.asarray(picture(6), jnp.float32) / 255
    keys = jax.random.split(jax.random.key(0), 40)
    results = jax.jit(jax.vmap(lambda key: jitter(key, image, (0.9, 0.9, 0.0, 0.0))))(keys)

    @jax.jit
    @jax.vmap
    def in_both_orders(key):
        _, first, second, *_ = jax.random.split(key, 5)
        b, c = (jax.random.uniform(k, minval=0.1, maxval=1.9) for k in (first, second))
        brightness, contrast = on_image(colours.brightness), on_image(colours.contrast)
        return contrast(brightness(image, b), c), brightness(contrast(image, c), b)

    orders = set()
    for result, one, other in zip(results, *in_both_orders(keys), strict=True):
        matches = [np.allclose(result, one, atol=1e-5), np.allclose(result, other, atol=1e-5)]
        assert any(matches)
        orders.add(tuple(matches))
    assert {(True, False), (False, True)} <= orders


@pytest.mark.parametrize("kind", colours.OPERATIONS)
@pytest.mark.parametrize("strengths", [(0.4, 0.4, 0.2, 0.1), (0.0, 0.4, 0.0, 0.2), (0.4, 0.4, 0.2, 0.0)])
def test_jitter_is_its_operations_in_the_drawn_order(strengths, kind):
    """Though hue, whose turn may be any, stands in one place of the program."""
    image = jnp.asarray(picture(9), jnp.float32) / 255
    keys = jax.random.split(jax.random.key(1), 30)
    results = jax.jit(jax.vmap(lambda key: jitter(key, image, strengths, kind)))(keys)
    seen = set()
    for key, result in zip(keys, results, strict=True):
        order_key, *own = jax.random.split(key, 5)
        used = [number for number in range(4) if strengths[number]]
        order = [used[turn] for turn in jax.random.permutation(order_key, len(used)).tolist()]
        expected = image
        for number in order:
            centre = 0.0 if number == 3 else 1.0
            low, high = centre - strengths[number], centre + strengths[number]
            amount = jax.random.uniform(own[number], minval=low, maxval=high)
            expected = jitted(on_image(colours.OPERATIONS[kind][number]))(expected, amount)
        np.testing.assert_allclose(result, expected, atol=1e-5)
        seen.add(tuple(order))
    assert len(seen) > 1
