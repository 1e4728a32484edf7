"""Flip and colours of images with label maps, against OpenCV's and Python's own way."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.data import dense_augment
from repre_jax.data.dense_augment import Distortion

OFF = Distortion(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0)


@pytest.fixture(scope="module")
def batch():
    """64 images, of which some have padding, whose red channel is the label map."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 8, 10, 3), dtype=np.uint8)
    extents = np.stack([rng.integers(3, 9, 64), rng.integers(3, 11, 64)], axis=1).astype(np.int32)
    extents[:8] = (8, 10)
    labels = images[..., 0].copy()
    for number, (height, width) in enumerate(extents):
        images[number, height:] = images[number, :, width:] = 0
        labels[number, height:] = labels[number, :, width:] = 255
    return images, labels, extents


def run(settings, batch, rows=None, key=0):
    found = jax.jit(lambda *arrays: dense_augment.augment(jax.random.PRNGKey(key), *arrays, settings, rows))(*batch)
    return tuple(map(np.asarray, found))


def test_image_and_label_map_are_flipped_together_within_the_image(batch):
    images, _, extents = batch
    pixels, maps = run(OFF, batch)
    flipped = 0
    for number, (height, width) in enumerate(extents):
        levels = (pixels[number] * 255).round().astype(np.uint8)
        mirrored = images[number].copy()
        mirrored[:, :width] = mirrored[:, :width][:, ::-1]
        is_flipped = not (levels == images[number]).all()
        np.testing.assert_array_equal(levels, mirrored if is_flipped else images[number])
        np.testing.assert_array_equal(maps[number, :height, :width], levels[:height, :width, 0])
        assert (maps[number, height:] == 255).all()
        assert (maps[number, :, width:] == 255).all()
        flipped += is_flipped
    assert 20 < flipped < 44
    assert (pixels.dtype, maps.dtype) == (np.float32, np.uint8)


def test_padding_is_nothing_whatever_the_colours_are(batch):
    images, _, extents = batch
    pixels, _ = run(Distortion(), batch)
    normal = np.asarray(dense_augment.normalise(pixels, jnp.asarray(extents), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)))
    for number, (height, width) in enumerate(extents):
        for found in (pixels[number], normal[number]):
            assert not found[height:].any()
            assert not found[:, width:].any()
        np.testing.assert_allclose(
            normal[number, :height, :width],
            (pixels[number, :height, :width] - np.array((0.5, 0.4, 0.3))) / 0.2,
            atol=1e-5,
        )
    of_images = dense_augment.normalised(images, jnp.asarray(extents), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    wanted = dense_augment.normalise(images / np.float32(255), jnp.asarray(extents), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    np.testing.assert_allclose(of_images, wanted, atol=1e-5)


def test_an_image_draws_by_its_row_alone(batch):
    whole, maps = run(Distortion(), batch)
    part = tuple(array[20:24] for array in batch)
    pixels, labels = run(Distortion(), part, rows=jnp.arange(20, 24))
    np.testing.assert_array_equal(pixels, whole[20:24])
    np.testing.assert_array_equal(labels, maps[20:24])
    again, _ = run(Distortion(), batch, key=1)
    assert (again != whole).any(axis=(1, 2, 3)).mean() > 0.9


def smooth(seed=0):
    """A picture with all hues, of moderate contrast."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), (48, 40))


def in_hsv(image, channel, change):
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., channel] = change(hsv[..., channel])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def mmseg(image, draws):
    """The distortion as mmsegmentation does it with uint8 and OpenCV.

    draws: what is drawn: an amount, or None where its coin says no; whether contrast comes first.
    """

    def convert(array, alpha=1.0, beta=0.0):
        return np.clip(array.astype(np.float32) * np.float32(alpha) + np.float32(beta), 0, 255).astype(np.uint8)

    if draws["brightness"] is not None:
        image = convert(image, beta=draws["brightness"])
    if draws["first"] and draws["contrast"] is not None:
        image = convert(image, alpha=draws["contrast"])
    if draws["saturation"] is not None:
        image = in_hsv(image, 1, lambda values: convert(values, alpha=draws["saturation"]))
    if draws["hue"] is not None:
        image = in_hsv(image, 0, lambda values: (values.astype(int) + draws["hue"]) % 180)
    if not draws["first"] and draws["contrast"] is not None:
        image = convert(image, alpha=draws["contrast"])
    return image


def draws_of(key):
    """What dense_augment.distort draws, by the same keys."""
    gates, amounts = jax.random.split(key)
    bright, first, contrast, saturation, hue = map(bool, jax.random.bernoulli(gates, 0.5, (5,)))
    keys = jax.random.split(amounts, 4)
    spans = ((-32, 32), (0.5, 1.5), (0.5, 1.5))
    shift, alpha, factor = (
        float(jax.random.uniform(each, minval=low, maxval=high))
        for each, (low, high) in zip(keys[:3], spans, strict=True)
    )
    return {
        "brightness": shift if bright else None,
        "first": first,
        "contrast": alpha if contrast else None,
        "saturation": factor if saturation else None,
        "hue": int(jax.random.randint(keys[3], (), -18, 18)) if hue else None,
    }


def test_colours_are_those_of_mmsegmentation():
    """To the level without HSV, which OpenCV rounds to 2 degrees; else by some levels, evenly to both sides."""
    image = smooth()
    distort = jax.jit(lambda key: dense_augment.distort(key, jnp.asarray(image, jnp.float32), Distortion()))
    seen = set()
    for seed in range(40):
        key = jax.random.PRNGKey(seed)
        draws, found = draws_of(key), np.asarray(distort(key))
        expected = mmseg(image, draws).astype(np.float32)
        assert (found == found.round()).all()
        assert 0 <= found.min() <= found.max() <= 255
        if draws["saturation"] is None and draws["hue"] is None:
            np.testing.assert_array_equal(found, expected)
        else:
            assert np.abs(found - expected).mean() < 2.0
            assert abs((found - expected).mean()) < 0.6
            assert np.abs(found - expected).max() <= 12
        seen.add((draws["first"], *(draws[name] is None for name in ("brightness", "contrast", "saturation", "hue"))))
    assert len(seen) > 15


def test_each_operation_comes_as_often_as_the_others():
    """Over many keys the draws lie in their ranges, and half of them are made."""
    draws = [draws_of(jax.random.PRNGKey(seed)) for seed in range(60)]
    for name, low, high in (
        ("brightness", -32, 32),
        ("contrast", 0.5, 1.5),
        ("saturation", 0.5, 1.5),
        ("hue", -18, 17),
    ):
        made = [each[name] for each in draws if each[name] is not None]
        assert 18 < len(made) < 42
        assert low <= min(made) < low + (high - low) / 4
        assert high - (high - low) / 4 < max(made) <= high


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channels_have_brightness_and_contrast_alone(channels):
    image = np.full((4, 4, channels), 100, np.float32)
    found = {
        float(np.asarray(dense_augment.distort(jax.random.PRNGKey(seed), jnp.asarray(image), Distortion()))[0, 0, 0])
        for seed in range(8)
    }
    assert len(found) > 2
