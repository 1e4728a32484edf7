"""Device augmentations against Pillow, SciPy and colorsys, operation by operation."""

import colorsys
import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from repre_jax.core import sharding
from repre_jax.data import colours, photometric
from repre_jax.data.photometric import Photometric

NOTHING = Photometric(
    jitter=(0.0, 0.0, 0.0, 0.0),
    jitter_probability=0.0,
    grey_probability=0.0,
    blur_probability=0.0,
    blur_sigma=(0.1, 2.0),
    solarize_probability=0.0,
    flip_probability=0.0,
)
EVERYTHING = Photometric((0.4, 0.4, 0.2, 0.1), 0.8, 0.2, 0.5, (0.1, 2.0), 0.2, 0.5)
PILLOW_STEPS = 1.01 / 255  # Pillow rounds to whole grey levels, at times twice


def picture(seed=0, height=13, width=9):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@functools.cache
def jitted(function, *static):
    """Each compiled once for all tests and images of one shape: op by op takes ten times as long."""
    return jax.jit(function, static_argnums=static)


@functools.cache
def on_image(operation):
    """An operation on planes as one on images [H, W, 3]."""
    return lambda image, *values: colours.joined(operation(colours.planes(image), *values))


def ours(operation, image, *values):
    return np.asarray(jitted(operation)(np.asarray(image, np.float32) / 255, *values))


def jitter(key, image, strengths, kind="torchvision"):
    return colours.joined(colours.jitter(key, colours.planes(image), strengths, kind))


def augment(key, images, settings):
    return np.asarray(jitted(photometric.augment, 2)(key, images, settings))


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


def test_it_does_not_matter_when_an_image_is_flipped():
    """Sources flip right after the crop (DINO, MoBY, SimCLR) or at the end (MoCo v2 and v3, BYOL, SimSiam)."""
    image = jnp.asarray(picture(8), jnp.float32) / 255
    for kind in colours.OPERATIONS:
        settings = dataclasses.replace(EVERYTHING, flip_probability=0.0, colours=kind)
        for seed in range(8):
            key = jax.random.PRNGKey(seed)
            first = photometric.augment_one(key, image[:, ::-1], settings)
            last = photometric.augment_one(key, image, settings)[:, ::-1]
            np.testing.assert_allclose(first, last, atol=1e-5)


def test_grey_equals_pillow():
    image = picture(1)
    theirs = np.asarray(Image.fromarray(image).convert("L").convert("RGB")) / 255
    np.testing.assert_allclose(ours(on_image(colours.grey), image), theirs, atol=PILLOW_STEPS)


def test_solarize_equals_pillow():
    image = picture(2)
    theirs = np.asarray(ImageOps.solarize(Image.fromarray(image))) / 255
    np.testing.assert_allclose(ours(photometric.solarize, image), theirs, atol=1e-6)


@pytest.mark.parametrize("turns", [-0.1, 0.0, 0.05, 0.5])
def test_hue_equals_colorsys(turns):
    image = picture(3)
    image[0, :3] = ((7, 7, 7), (0, 0, 0), (255, 255, 255))  # no hue at all
    theirs = np.empty((*image.shape[:2], 3))
    for index in np.ndindex(image.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*(image[index] / 255))
        theirs[index] = colorsys.hsv_to_rgb((h + turns) % 1, s, v)
    np.testing.assert_allclose(ours(on_image(colours.hue), image, turns), theirs, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_a_gaussian(sigma):
    image = picture(4, 31, 17) / 255
    theirs = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=8)
    mine = jitted(photometric.blur, 2)(image.astype(np.float32), sigma, 2.0)
    np.testing.assert_allclose(mine, theirs, atol=0.004)  # cut off at 3 sigma


def test_nothing_returns_the_pixels():
    images = np.stack([picture(seed)[None] for seed in range(4)])
    pixels = augment(jax.random.key(0), images, (NOTHING,))
    np.testing.assert_allclose(pixels, images / 255, atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"flip_probability": 1.0}, lambda x: x[:, :, ::-1]),
        ({"solarize_probability": 1.0}, lambda x: np.where(x >= 128 / 255, 1 - x, x)),
        ({"grey_probability": 1.0}, lambda x: (x @ np.array(colours.GREY))[..., None].repeat(3, -1)),
    ],
)
def test_probability_one_always_happens(changes, expected):
    images = np.stack([picture(seed)[None] for seed in range(5)])
    pixels = augment(jax.random.key(0), images, (dataclasses.replace(NOTHING, **changes),))
    np.testing.assert_allclose(pixels[:, 0], expected(images[:, 0] / 255), atol=1e-6)


GATES = {
    "jitter": {"jitter_probability": 0.3, "jitter": (0.9, 0.0, 0.0, 0.0)},
    "grey": {"grey_probability": 0.3},
    "blur": {"blur_probability": 0.3, "blur_sigma": (1.0, 2.0)},
    "solarize": {"solarize_probability": 0.3},
    "flip": {"flip_probability": 0.3},
}


def test_probabilities_are_met():
    """Each at 0.3 over 2,000 images, two views: within four standard deviations, and any two independent."""
    images = np.broadcast_to(picture(height=2, width=3), (2000, 2, 2, 3, 3))
    happened = {}
    for name, changes in GATES.items():
        setting = dataclasses.replace(NOTHING, **changes)
        pixels = augment(jax.random.key(5), images, (setting, setting))
        happened |= dict(
            zip((f"{name} 1", f"{name} 2"), (np.abs(pixels - images / 255) > 1e-3).any((2, 3, 4)).T, strict=True)
        )
    for one, other in itertools.combinations(happened, 2):
        assert happened[one].mean() == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 2000) ** 0.5), one
        both = (happened[one] & happened[other]).mean()
        assert both == pytest.approx(0.09, abs=4 * (0.09 * 0.91 / 2000) ** 0.5), (one, other)


def test_blurs_sigma_is_uniform():
    """Told by how much of a bright pixel stays in its place."""
    dot = np.zeros((400, 1, 13, 13, 3), np.uint8)
    dot[:, :, 6, 6] = 255
    setting = dataclasses.replace(NOTHING, blur_probability=1.0, blur_sigma=(0.5, 2.0))
    left = augment(jax.random.key(2), dot, (setting,))[:, 0, 6, 6, 0]
    sigmas = np.linspace(0.5, 2.0, 301)
    one_dot = np.float32(dot[0, 0] / 255)
    stays = np.asarray(jax.jit(jax.vmap(lambda sigma: photometric.blur(one_dot, sigma, 2.0)[6, 6, 0]))(sigmas))
    drawn = np.interp(-left, -stays, sigmas)
    for share, sigma in ((0.25, 0.875), (0.5, 1.25), (0.75, 1.625)):
        assert np.quantile(drawn, share) == pytest.approx(sigma, abs=4 * 1.5 * (share * (1 - share) / 400) ** 0.5)
    assert drawn.min() < 0.53
    assert drawn.max() > 1.97


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


def test_views_stay_in_range_and_differ():
    images = np.broadcast_to(picture(7, 8, 8), (16, 2, 8, 8, 3))
    pixels = augment(jax.random.key(1), images, (EVERYTHING,) * 2)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    flat = pixels[:6].reshape(12, -1)
    distances = np.abs(flat[:, None] - flat[None]).max(-1)
    assert (distances[~np.eye(12, dtype=bool)] > 1e-3).all(), "every view of every record has draws of its own"


def test_outcome_does_not_depend_on_the_devices(two_devices):
    images = np.random.default_rng(0).integers(0, 256, (16, 2, 8, 8, 3), dtype=np.uint8)
    mesh = sharding.make_mesh(16)
    spread = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    alone = jax.device_put(images, jax.devices()[0])
    one, many = (augment(jax.random.key(2), x, (EVERYTHING,) * 2) for x in (alone, spread))
    np.testing.assert_allclose(many, one, atol=1e-6)


def test_normalize():
    pixels = jnp.asarray(picture(8) / 255)
    expected = (picture(8) / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]
    np.testing.assert_allclose(photometric.normalize(pixels, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), expected, atol=1e-5)
