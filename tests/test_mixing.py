"""Mixup, cutmix and random erasing against their definitions in NumPy, given what was drawn, and what is drawn."""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from repre_jax.core import sharding
from repre_jax.data import mixing
from repre_jax.data.mixing import Draw, ErasingNumbers, Mixing

MIXUP, CUTMIX = Mixing(cutmix_alpha=0.0), Mixing(mixup_alpha=0.0)
CLASSES = 7


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(0), 3000)


@functools.cache
def jitted(function, *static):
    """What NumPy's definitions are held against, each compiled once for all tests and images of one shape."""
    return jax.jit(function, static_argnums=static)


def erase(key, images, probability, rows=None):
    return jitted(mixing.erase, 2)(key, images, probability, rows)


def mix(key, pixels, labels, classes, settings):
    return jitted(mixing.mix, 3, 4)(key, pixels, labels, classes, settings)


def draws(keys, height, width, settings):
    """One of each key."""
    return jax.jit(jax.vmap(lambda key: mixing.draw(key, height, width, settings)))(keys)


def batch(seed=0, images=6, height=20, width=30):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(size=(images, height, width, 3)).astype(np.float32)
    return pixels, rng.integers(0, CLASSES, images).astype(np.int32)


def smoothed(labels, smoothing):
    """timm data/mixup.py: smoothing / classes, and 1 - smoothing more for the own class."""
    return np.eye(CLASSES)[labels] * (1 - smoothing) + smoothing / CLASSES


def cut(share, y, x, height, width):
    """timm's rand_bbox in Python."""
    box_height, box_width = int(height * math.sqrt(1 - share)), int(width * math.sqrt(1 - share))
    top, left = max(0, y - box_height // 2), max(0, x - box_width // 2)
    return top, min(height, y + box_height // 2), left, min(width, x + box_width // 2)


@pytest.mark.parametrize("settings", [Mixing(), MIXUP, CUTMIX, Mixing(smoothing=0.0)])
def test_mix_does_what_was_drawn(keys, settings):
    pixels, labels = batch()
    height, width = pixels.shape[1:3]
    kinds = set()
    for key in keys[:30]:
        drawn = jitted(mixing.draw, 1, 2, 3)(key, height, width, settings)
        share, expected = float(drawn.share), pixels.copy()
        if drawn.cutmix:
            top, bottom, left, right = cut(share, *drawn.centre.tolist(), height, width)
            expected[:, top:bottom, left:right] = pixels[::-1, top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / (height * width)
        else:
            expected = share * pixels + (1 - share) * pixels[::-1]
        kinds.add(bool(drawn.cutmix))
        own = smoothed(labels, settings.smoothing)
        mixed, targets = mix(key, pixels, labels, CLASSES, settings)
        np.testing.assert_allclose(mixed, expected, atol=1e-6)
        np.testing.assert_allclose(targets, share * own + (1 - share) * own[::-1], atol=1e-6)
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        assert (mixed.dtype, targets.dtype) == (np.float32, np.float32)
    assert kinds == {settings.cutmix_alpha > 0, settings.mixup_alpha == 0}


def test_cutmixs_target_is_the_share_of_its_pixels(keys):
    """Told by images that are all 0 or all 1, whose classes are 0 and 1."""
    pixels = np.stack([np.full((16, 24, 1), value, np.float32) for value in (0, 1)])
    settings = dataclasses.replace(CUTMIX, smoothing=0.0)
    run = jax.jit(jax.vmap(lambda key: mixing.mix(key, pixels, np.arange(2), 2, settings)))
    mixed, targets = run(keys[:500])
    assert set(np.unique(mixed)) == {0, 1}
    np.testing.assert_allclose(mixed.mean(axis=(2, 3, 4)), targets[..., 1], atol=1e-6)
    drawn = draws(keys[:500], 16, 24, settings)
    cut_off = np.asarray(targets[:, 0, 0] - drawn.share)
    assert (cut_off > 0.1).any(), "boxes that the border cuts are smaller than what was drawn"


@pytest.mark.parametrize(
    ("share", "centre", "box"),
    [
        (0.75, (10, 15), (5, 15, 8, 22)),
        (0.75, (0, 29), (0, 5, 22, 30)),
        (0.0, (10, 15), (0, 20, 0, 30)),
        (1.0, (3, 4), (3, 3, 4, 4)),
    ],
)
def test_cut_boxes(share, centre, box):
    ours = jitted(mixing.cut_box, 2, 3)(np.float32(share), np.asarray(centre, np.int32), 20, 30)
    assert tuple(map(int, ours)) == box == cut(share, *centre, 20, 30)
    covered = np.zeros((20, 30), bool)
    covered[box[0] : box[1], box[2] : box[3]] = True
    np.testing.assert_array_equal(jitted(mixing.inside, 1, 2)(ours, 20, 30), covered)
    drawn = Draw(np.float32(share), np.bool_(True), np.asarray(centre, np.int32))
    weights, left = jitted(mixing.own_weights, 1, 2)(drawn, 20, 30)
    np.testing.assert_array_equal(weights, 1.0 - covered)
    assert float(left) == pytest.approx(1 - covered.mean())


@pytest.mark.parametrize("settings", [Mixing(mixup_alpha=0.0, cutmix_alpha=0.0), Mixing(probability=0.0)])
def test_nothing_to_mix_leaves_smoothed_labels(keys, settings):
    pixels, labels = batch(1)
    mixed, targets = mix(keys[0], pixels, labels, CLASSES, settings)
    np.testing.assert_array_equal(mixed, pixels)
    np.testing.assert_allclose(targets, smoothed(labels, 0.1), atol=1e-6)


def near(values, expected, deviation):
    """The mean, within 4.5 of its standard deviations."""
    return abs(np.mean(values) - expected) < 4.5 * deviation / math.sqrt(len(values))


def test_what_a_batch_draws(keys):
    """A symmetric beta distribution has mean 1 / 2 and variance 1 / (4 (2 alpha + 1))."""
    settings = Mixing(mixup_alpha=0.8, cutmix_alpha=3.0, switch_probability=0.3, probability=0.6)
    share, cutmix, centre = map(np.asarray, draws(keys, 4, 9, settings))
    mixed = share < 1
    assert near(mixed, 0.6, math.sqrt(0.6 * 0.4))
    assert near(cutmix, 0.3, math.sqrt(0.3 * 0.7))
    for kind, alpha in ((cutmix, 3.0), (~cutmix, 0.8)):
        chosen = share[mixed & kind]
        variance = 1 / (4 * (2 * alpha + 1))
        assert near(chosen, 0.5, math.sqrt(variance))
        assert chosen.var() == pytest.approx(variance, rel=0.15)
    for axis, size in ((0, 4), (1, 9)):
        places = np.bincount(centre[:, axis])
        assert len(places) == size
        assert all(near(centre[:, axis] == place, 1 / size, math.sqrt(1 / size)) for place in range(size))
    gone = draws(keys, 4, 9, Mixing(switch_probability=0.0))
    assert not gone.cutmix.any()
    assert (gone.share < 1).all()


def fitting(numbers, height, width):
    """timm's RandomErasing in Python: the first of the boxes that is lower and narrower than the image."""
    for area, ratio in zip(numbers.areas.tolist(), numbers.ratios.tolist(), strict=True):
        box_height = round(math.sqrt(area * height * width * ratio))
        box_width = round(math.sqrt(area * height * width / ratio))
        if box_height < height and box_width < width:
            y, x = numbers.place.tolist()
            top, left = math.floor(y * (height - box_height + 1)), math.floor(x * (width - box_width + 1))
            return top, top + box_height, left, left + box_width
    return None


@pytest.mark.parametrize("size", [(32, 32), (12, 60), (60, 9)])
def test_erased_boxes(keys, size):
    """Long images, so that boxes have to be drawn again."""
    run = jax.jit(lambda numbers: mixing.inside(mixing.erased_box(numbers, *size), *size))
    again = 0
    for key in keys[:200]:
        numbers, covered = jax.device_get(jitted(mixing.erasing_numbers)(key)), np.zeros(size, bool)
        if (box := fitting(numbers, *size)) is not None:
            covered[box[0] : box[1], box[2] : box[3]] = True
        np.testing.assert_array_equal(run(numbers), covered)
        again += fitting(numbers._replace(areas=numbers.areas[:1], ratios=numbers.ratios[:1]), *size) is None
    assert again > 0 or size == (32, 32)


def test_a_box_that_never_fits_is_empty():
    """The tenth is still tried; places reach both borders."""
    never = ErasingNumbers(*(np.asarray(x, np.float32) for x in ([0.2] * 10, [3.3] * 10, [0.0, 0.999])))
    box = jax.jit(lambda numbers: mixing.erased_box(numbers, 4, 40))
    assert fitting(never, 4, 40) is None
    assert not mixing.inside(box(never), 4, 40).any()
    last = never._replace(ratios=np.append(never.ratios[:9], np.float32(0.3)))
    assert tuple(map(int, box(last))) == fitting(last, 4, 40) == (0, 3, 30, 40)


def test_what_an_image_draws_to_erase(keys):
    numbers = jax.jit(jax.vmap(mixing.erasing_numbers))(keys)
    assert numbers.areas.shape == numbers.ratios.shape == (len(keys), 10), "ten tries"
    areas, ratios = np.asarray(numbers.areas).ravel(), np.log(np.asarray(numbers.ratios).ravel())
    for values, low, high in (
        (areas, 0.02, 1 / 3),
        (ratios, math.log(0.3), -math.log(0.3)),
        (np.asarray(numbers.place).ravel(), 0, 1),
    ):
        assert values.min() == pytest.approx(low, abs=0.002)
        assert values.max() == pytest.approx(high, abs=0.002)
        assert near(values, (low + high) / 2, (high - low) / math.sqrt(12))
        assert values.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.02)
    assert abs(np.corrcoef(areas, ratios)[0, 1]) < 0.03


@pytest.fixture(scope="module")
def erased(keys):
    """2,000 images of 100, far from any noise, and which of their pixels are."""
    images = np.full((2000, 24, 32, 3), 100, np.float32)
    ours = np.asarray(erase(keys[0], images, 0.25))
    return ours, ours != 100


def test_a_quarter_of_the_images_lose_one_box(erased):
    _, gone = erased
    np.testing.assert_array_equal(gone, np.broadcast_to(gone[..., :1], gone.shape))
    gone = gone[..., 0]
    assert near(gone.any((1, 2)), 0.25, math.sqrt(0.25 * 0.75))
    for image in gone[gone.any((1, 2))]:
        rows, columns = (np.flatnonzero(image.any(axis)) for axis in (1, 0))
        box_height, box_width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert image.sum() == box_height * box_width, "one whole box"
        # its sides were rounded by up to half a pixel
        assert (box_height + 0.5) * (box_width + 0.5) > 0.02 * 24 * 32
        assert (box_height - 0.5) * (box_width - 0.5) < 24 * 32 / 3
        assert (box_height + 0.5) / (box_width - 0.5) > 0.3
        assert (box_height - 0.5) / (box_width + 0.5) < 1 / 0.3
    share = gone[gone.any((1, 2))].mean(axis=(1, 2))
    assert near(share, (0.02 + 1 / 3) / 2, (1 / 3 - 0.02) / math.sqrt(12))


def test_what_is_erased_becomes_normal_noise(erased):
    ours, gone = erased
    noise = ours[gone]
    assert near(noise, 0, 1)
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean() == pytest.approx(3, abs=0.1)
    channels = ours[gone[..., 0]]
    assert abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.02
    assert len(np.unique(noise)) > 0.98 * len(noise), "pixels, channels and images differ"


def test_erasing_never_and_always(keys):
    images = batch(2, 64)[0]
    np.testing.assert_array_equal(erase(keys[0], images, 0.0), images)
    assert (np.asarray(erase(keys[0], images, 1.0)) != images).any((1, 2, 3)).all()


def test_parts_of_a_batch_erase_what_the_whole_does(keys):
    images = batch(3, 8)[0]
    rows = np.arange(8)
    whole = erase(keys[0], images, 0.9)
    for part in (rows[::2], rows[1::2]):
        np.testing.assert_array_equal(erase(keys[0], images[part], 0.9, part), whole[part])


def test_outcome_does_not_depend_on_the_devices(keys, two_devices):
    pixels, labels = batch(4, 16, 8, 8)

    @jax.jit
    def run(key, pixels, labels):
        return mixing.mix(key, mixing.erase(key, pixels, 0.5), labels, CLASSES, Mixing())

    spread = NamedSharding(sharding.make_mesh(16), PartitionSpec("data"))
    for key in keys[:6]:
        one = run(key, *(jax.device_put(x, jax.devices()[0]) for x in (pixels, labels)))
        two = run(key, *(jax.device_put(x, spread) for x in (pixels, labels)))
        assert len(two[0].sharding.device_set) == 2
        for here, there in zip(one, two, strict=True):
            np.testing.assert_allclose(here, there, atol=1e-6)
