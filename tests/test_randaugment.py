"""RandAugment's operations against their definitions in NumPy, what it draws, and its place in the stream."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from PIL.Image import Resampling

from repre_jax.core.errors import UserError
from repre_jax.data import crops, loader, randaugment, views
from repre_jax.data.randaugment import IMAGENET, OPERATIONS, RandAugment, Step

FILL = (10, 20, 30)
LEVELS = (-1.0, -0.9, -0.35, 0.0, 0.5, 0.9, 1.0)
NO_MAGNITUDE = ("AutoContrast", "Equalize", "Invert")
KERNELS = {  # of the distance to a pixel; the cubic of Pillow's transforms is Keys' with a = -1
    Resampling.BILINEAR: lambda d: np.maximum(1 - d, 0),
    Resampling.BICUBIC: lambda d: np.where(
        d < 1, d**3 - 2 * d**2 + 1, np.where(d < 2, -(d**3) + 5 * d**2 - 8 * d + 4, 0)
    ),
}


def picture(seed=0, height=40, width=31):
    """Not all grey levels occur, so that AutoContrast and Equalize have something to do."""
    return np.random.default_rng(seed).integers(30, 201, (height, width, 3), dtype=np.uint8)


def done(image, operation, level=1.0, resample=Resampling.BICUBIC, fill=FILL):
    return randaugment.apply(image, [Step(operation, level, resample)], fill)


def warped(image, resample, source):
    """source: centres of the pixels to make, x and y -> where each comes from; outside of the image it is FILL."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = np.broadcast_arrays(*source(x, y))
    result, column, row = np.zeros(image.shape), np.floor(x - 0.5).astype(int), np.floor(y - 0.5).astype(int)
    for i, j in itertools.product(range(-1, 3), repeat=2):
        weight = KERNELS[resample](abs(row + i + 0.5 - y)) * KERNELS[resample](abs(column + j + 0.5 - x))
        pixels = image[np.clip(row + i, 0, height - 1), np.clip(column + j, 0, width - 1)]
        result += weight[..., None] * pixels
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    return np.where(outside[..., None], FILL, np.clip(result, 0, 255))


def turned(image, resample, degrees):
    height, width = image.shape[:2]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle_x, middle_y = width / 2, height / 2
    return warped(
        image,
        resample,
        lambda x, y: (
            cos * (x - middle_x) - sin * (y - middle_y) + middle_x,
            sin * (x - middle_x) + cos * (y - middle_y) + middle_y,
        ),
    )


@pytest.mark.parametrize("resample", KERNELS)
@pytest.mark.parametrize("level", LEVELS)
def test_shears_translations_and_rotation(level, resample):
    """At most 0.3, 45 % of the side and 30 degrees."""
    image = picture()
    height, width = image.shape[:2]
    expected = {
        "ShearX": warped(image, resample, lambda x, y: (x + 0.3 * level * y, y)),
        "ShearY": warped(image, resample, lambda x, y: (x, y + 0.3 * level * x)),
        "TranslateX": warped(image, resample, lambda x, y: (x + 0.45 * level * width, y)),
        "TranslateY": warped(image, resample, lambda x, y: (x, y + 0.45 * level * height)),
        "Rotate": turned(image, resample, 30 * level),
    }
    for operation, values in expected.items():
        ours = done(image, operation, level, resample)
        np.testing.assert_allclose(ours, values, atol=1.01, err_msg=operation)  # Pillow rounds to whole grey levels


def smoothed(image):
    """3 x 3, the middle weighs 5 of 13; the border stays."""
    height, width = image.shape[:2]
    around = sum(image[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3))
    result = image.astype(float)
    result[1:-1, 1:-1] = (around + 4 * image[1:-1, 1:-1]) / 13
    return result


@pytest.mark.parametrize("level", LEVELS)
def test_blends(level):
    """1 - 0.9 to 1 + 0.9 of the way from grey, mean grey, black or smooth to the image."""
    image = picture(1).astype(float)
    grey = (image @ (0.299, 0.587, 0.114))[..., None]
    ends = {"Color": grey, "Contrast": round(grey.mean()), "Brightness": 0.0, "Sharpness": smoothed(image)}
    factor = 1 + 0.9 * level
    for operation, end in ends.items():
        expected = np.clip(end + factor * (image - end), 0, 255)
        ours = done(picture(1), operation, level)
        np.testing.assert_allclose(ours, expected, atol=1.01 + 0.5 * abs(1 - factor), err_msg=operation)


@pytest.mark.parametrize("level", LEVELS)
def test_look_ups(level):
    image = picture(2).astype(int)
    strength = abs(level)
    threshold = 256 - int(256 * strength)
    step = 2 ** (8 - 4 + int(4 * strength))
    added = image + np.where(image < 128, int(110 * strength), 0)
    expected = {
        "Solarize": np.where(image < threshold, image, 255 - image),
        "SolarizeAdd": np.minimum(added, 255),
        "Posterize": image // step * step,
    }
    for operation, values in expected.items():
        np.testing.assert_array_equal(done(picture(2), operation, level), values, err_msg=operation)


def equalized(channel):
    """Grey levels by how many pixels are darker, in steps of 1 / 255 of all that are not the brightest."""
    counts = np.bincount(channel.ravel(), minlength=256)
    step = counts[: channel.max()].sum() // 255
    darker = np.cumsum(counts) - counts
    return np.minimum((step // 2 + darker) // step, 255)[channel]


def test_operations_without_magnitude():
    image = picture(3)
    low, high = image.min((0, 1)).astype(float), image.max((0, 1)).astype(float)
    np.testing.assert_array_equal(done(image, "Invert"), 255 - image)
    np.testing.assert_allclose(done(image, "AutoContrast"), (image - low) * 255 / (high - low), atol=1.01)
    expected = np.stack([equalized(image[..., channel]) for channel in range(3)], axis=-1)
    np.testing.assert_array_equal(done(image, "Equalize"), expected)
    assert (expected != image).mean() > 0.9
    for operation in NO_MAGNITUDE:
        np.testing.assert_array_equal(done(image, operation, 0.0), done(image, operation, -1.0))


def test_extremes():
    image = picture(4)
    assert not done(image, "Posterize", 1.0).any(), "no bits left"
    np.testing.assert_array_equal(done(image, "Solarize", 1.0), 255 - image)
    assert (done(image, "TranslateX", 1.0)[:, -13:] == FILL).all()
    assert (done(image, "TranslateY", -1.0)[:18] == FILL).all()
    flat = np.full((6, 5, 3), 77, np.uint8)
    for operation in ("AutoContrast", "Equalize", "Color", "Contrast", "Sharpness"):
        np.testing.assert_array_equal(done(flat, operation), flat)


def test_no_magnitude_changes_nothing():
    image = picture(5)
    for operation in set(OPERATIONS) - {*NO_MAGNITUDE, "Posterize"}:  # which keeps 4 bits
        np.testing.assert_array_equal(done(image, operation, 0.0), image, err_msg=operation)


def test_when_an_image_is_flipped_matters_for_shear_y_alone():
    """Flipping before an operation is flipping after the same one of the other sign, if it moves pixels sideways."""
    image = picture(6)
    for operation in set(OPERATIONS) - {"ShearY"}:
        level = 0.77
        sign = -1 if operation in ("Rotate", "ShearX", "TranslateX") else 1
        first, last = done(image[:, ::-1], operation, level), done(image, operation, sign * level)[:, ::-1]
        np.testing.assert_allclose(first.astype(int), last, atol=1, err_msg=operation)
    steep = [done(picture(6), "ShearY", level) for level in (-0.9, 0.9)]
    edge = picture(6)[:, 0].astype(int)
    assert all(abs(image[5:-5, 0] - edge[5:-5]).mean() < 20 for image in steep), "the left edge nearly stays"
    assert all((image[:5, -1] == FILL).all() or (image[-5:, -1] == FILL).all() for image in steep)


def test_steps_follow_each_other():
    image = picture(7)
    steps = [Step("Rotate", 0.5, Resampling.BICUBIC), Step("Invert", 0.5, Resampling.BICUBIC)]
    np.testing.assert_array_equal(randaugment.apply(image, steps, FILL), 255 - done(image, "Rotate", 0.5))
    assert (randaugment.apply(image, steps[::-1], FILL) != 255 - done(image, "Rotate", 0.5)).any(), "the fill differs"


@pytest.fixture(scope="module")
def drawn():
    augment = RandAugment(interpolation="random")
    return [augment.draw(np.random.default_rng(seed)) for seed in range(6000)]


def within(share, expected, count):
    return abs(share - expected) < 4.5 * math.sqrt(expected * (1 - expected) / count)


def test_operations_are_drawn_evenly(drawn):
    """Each at both places, and each of two with probability 1 / 2, alone and together."""
    counts = Counter(map(len, drawn))
    assert all(within(counts[number] / 6000, share, 6000) for number, share in enumerate((0.25, 0.5, 0.25)))
    for place in (0, 1):
        names = Counter(steps[place].operation for steps in drawn if len(steps) == 2)
        assert set(names) == set(OPERATIONS)
        assert all(within(n / counts[2], 1 / 15, counts[2]) for n in names.values()), names
    twice = sum(steps[0].operation == steps[1].operation for steps in drawn if len(steps) == 2)
    assert within(twice / counts[2], 1 / 15, counts[2]), "with replacement"


def test_magnitudes_signs_and_interpolations(drawn):
    """9 of standard deviation 0.5, cut off at 10: 2.3 % lie beyond."""
    steps = [step for several in drawn for step in several]
    strength = 10 * np.abs([step.level for step in steps])
    assert strength.max() == 10
    assert np.median(strength) == pytest.approx(9, abs=0.03)
    assert strength[strength < 9].mean() == pytest.approx(9 - 0.5 * math.sqrt(2 / math.pi), abs=0.03)
    for share, expected in (
        ((strength == 10).mean(), 0.0228),
        (np.mean([step.level > 0 for step in steps]), 0.5),
        (np.mean([step.resample == Resampling.BICUBIC for step in steps]), 0.5),
    ):
        assert within(share, expected, len(steps))
    exact = RandAugment(magnitude=0.2, magnitude_std=0.0, probability=1.0).draw(np.random.default_rng(0))
    assert [abs(step.level) for step in exact] == [0.02, 0.02]
    weak = RandAugment(magnitude=0.1, magnitude_std=1.0, layers=200, probability=1.0).draw(np.random.default_rng(0))
    assert 0.3 < np.mean([step.level == 0 for step in weak]) < 0.6, "cut off at 0"


def test_layers_probability_and_interpolation_are_heeded():
    for name, kind in (("bicubic", Resampling.BICUBIC), ("bilinear", Resampling.BILINEAR)):
        steps = RandAugment(layers=7, probability=1.0, interpolation=name).draw(np.random.default_rng(0))
        assert [step.resample for step in steps] == [kind] * 7
    assert RandAugment(probability=0.0).draw(np.random.default_rng(0)) == []


@pytest.mark.parametrize("size", [(224, 160), (9, 33), (1, 1)])
def test_the_generator_alone_decides(size):
    image = picture(8, *size)
    before = image.copy()
    augment = RandAugment(probability=1.0)
    ours = [augment(image, np.random.default_rng(seed)) for seed in range(30)]
    np.random.seed(5)
    again = [augment(image, np.random.default_rng(seed)) for seed in range(30)]
    for one, other in zip(ours, again, strict=True):
        assert (one.dtype, one.shape) == (np.uint8, image.shape)
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(image, before)
    assert len({one.tobytes() for one in ours}) > (25 if image.size > 3 else 3)


def test_parse():
    assert randaugment.parse("rand-m9-mstd0.5-inc1") == RandAugment(9.0, 0.5, 2, 0.5, (124, 116, 104), "bicubic")
    ours = randaugment.parse("rand-inc1-p0.25-n3", (0.5, 1.0, 0.0), "random")
    assert ours == RandAugment(10.0, 0.0, 3, 0.25, (128, 255, 0), "random")
    assert RandAugment().fill == tuple(round(255 * value) for value in IMAGENET)


@pytest.mark.parametrize(
    "text",
    ["", "none", "rand", "rand-m9", "rand-m9-inc0", "rand-m11-inc1", "rand-m9-inc1-mmax10", "rand-m9-m8-inc1",
     "rand-p2-inc1", "rand-n0-inc1", "rand-n1.5-inc1", "augmix-m3-inc1", "rand-m-inc1", "rand--inc1", "rand-m-1-inc1"],
)  # fmt: skip
def test_parse_refuses_what_it_does_not_know(text):
    with pytest.raises(UserError, match=r"Unknown RandAugment '.*'\.\n  expected: such as 'rand-m9-mstd0\.5-inc1'"):
        randaugment.parse(text)


def test_a_labelled_view_augments_its_crop():
    """The crop is the one that is cut without it, and the draws come after the crop's."""
    record, cut = {"image": picture(9), "label": 3}, crops.RandomCrops(1, (12, 20), (0.3, 1.0), (0.75, 1.33))
    augment = RandAugment(layers=3, probability=1.0)
    plain, ours = (
        views.LabelledView(cut, randaugment=after)(record, np.random.default_rng(1)) for after in (None, augment)
    )
    rng = np.random.default_rng(1)
    (expected,) = cut(record["image"], rng)
    np.testing.assert_array_equal(plain["images"], expected)
    np.testing.assert_array_equal(ours["images"], augment(expected, rng))
    assert (ours["images"] != plain["images"]).any()
    assert (ours["images"].dtype, ours["images"].shape, int(ours["labels"])) == (np.uint8, (12, 20, 3), 3)


def test_the_stream_is_the_same_from_any_workers():
    source = [{"image": picture(seed, 16, 12), "label": seed} for seed in range(8)]
    view = views.LabelledView(crops.RandomCrops(1, (10, 8), (0.3, 1.0), (0.75, 1.33)), randaugment=RandAugment())
    settings = {"seed": 0, "batch_size": 4, "start_step": 1}
    here, there = (
        list(itertools.islice(loader.train_batches(source, view, **settings, workers=workers), 3)) for workers in (0, 1)
    )
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
