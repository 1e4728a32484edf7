"""Device augmentations against Pillow, SciPy and colorsys, operation by operation."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from PIL import Image, ImageOps
from scipy import ndimage

from repre_jax.core import sharding
from repre_jax.data import colours, photometric
from repre_jax.data.photometric import Photometric
from tests.helpers.pictures import jitted, ours, picture

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


def augment(key, images, settings):
    return np.asarray(jitted(photometric.augment, 2)(key, images, settings))


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


def test_solarize_equals_pillow():
    image = picture(2)
    theirs = np.asarray(ImageOps.solarize(Image.fromarray(image))) / 255
    np.testing.assert_allclose(ours(photometric.solarize, image), theirs, atol=1e-6)


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
