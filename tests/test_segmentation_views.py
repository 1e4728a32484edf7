"""Crops and canvases of images with label maps: SETR's rules on small images."""

import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.data import label_classes, loader
from repre_jax.data.label_classes import IGNORED
from repre_jax.data.segmentation_views import SegmentationTestView, SegmentationView, rescaled, resized, view_with_room
from repre_jax.evaluation import sliding_window

CLASSES = label_classes.numbered(5)


def record(label_map, name="a"):
    """Its image has the class as red, the row as green and the column as blue."""
    rows, columns = np.indices(label_map.shape, dtype=np.uint8)
    return {"image": np.stack([label_map, rows, columns], axis=-1), "label_map": label_map, "file_name": name}


def mixed(height, width):
    return (np.indices((height, width)).sum(axis=0) % 5).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "ratio", "expected"),
    [
        ((1024, 2048), 0.5, (512, 1024)),
        ((1024, 2048), 1.0, (1025, 2049)),
        ((1024, 2048), 2.0, (2049, 4098)),
        ((2048, 1024), 1.0, (2049, 1025)),
        ((600, 600), 1.0, (1025, 1025)),
    ],
)
def test_sides_are_rounded_as_setr_rounds_them(size, ratio, expected):
    assert rescaled(size, (2049, 1025), ratio) == expected


def test_an_image_without_a_scale_keeps_its_size():
    assert rescaled((96, 128), None) == (96, 128)
    assert rescaled((96, 128), None, 0.5) == (48, 64)


def test_image_and_label_map_are_cropped_at_one_place():
    view = SegmentationView((8, 8), CLASSES, ratios=(1.0, 1.0))
    found = [view(record(mixed(30, 40)), np.random.default_rng(seed)) for seed in range(8)]
    for sample in found:
        np.testing.assert_array_equal(sample["images"][..., 0], sample["label_maps"])
        np.testing.assert_array_equal(np.diff(sample["images"][..., 1].astype(int), axis=0), 1)
        assert sample["extents"].tolist() == [8, 8]
    assert len({sample["images"].tobytes() for sample in found}) == 8


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("factor", [2, 3, 5])
def test_an_image_is_made_smaller_without_an_average_whatever_the_factor(factor, channels):
    """Samples at half-pixel centres: of an odd factor one pixel of the old ones, of 2 the mean of four."""
    image = np.random.default_rng(factor).integers(0, 256, (6 * factor, 8 * factor, channels), dtype=np.uint8)
    found = resized(image, (6, 8))
    assert found.shape == (6, 8, channels)
    if factor % 2:
        np.testing.assert_array_equal(found, image[factor // 2 :: factor, factor // 2 :: factor])
    else:
        mean = image.reshape(6, 2, 8, 2, channels).mean(axis=(1, 3))
        assert np.abs(found - mean).max() <= 0.5
    if channels == 3:
        sizes = np.array([[6 * factor, 8 * factor]]), np.array([[6, 8]])
        device = sliding_window.resized(jnp.asarray(image[None], jnp.float32), *sizes, (6, 8))
        assert np.abs(np.asarray(device)[0] - found).max() <= 0.5


def test_crops_and_whole_images_are_resized_alike():
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    labels = mixed(60, 90)
    expected = resized(image, (20, 30))
    found = {"image": image, "label_map": labels}
    crop = SegmentationView((20, 30), CLASSES, scale_to=(30, 20), ratios=(1.0, 1.0))(found, np.random.default_rng(0))
    whole = SegmentationTestView((60, 90), CLASSES, scale_to=(30, 20))(found, np.random.default_rng(0))
    np.testing.assert_array_equal(crop["images"], expected)
    np.testing.assert_array_equal(whole["images"], expected)
    assert resized(image, (60, 90)) is image


def test_resizing_takes_the_nearest_label_and_blends_the_image():
    """Enlarged twice, each label becomes 2 x 2, as in OpenCV."""
    view = SegmentationView((12, 12), CLASSES, ratios=(2.0, 2.0))
    labels = mixed(6, 6)
    sample = view(record(labels), np.random.default_rng(0))
    np.testing.assert_array_equal(sample["label_maps"], labels.repeat(2, axis=0).repeat(2, axis=1))
    assert sample["images"][0, :4, 2].tolist() == [0, 0, 1, 1]  # 0, 1/4, 3/4 and 5/4, in whole levels


def test_what_an_image_lacks_of_the_crop_is_padding():
    sample = SegmentationView((8, 10), CLASSES, ratios=(1.0, 1.0))(record(mixed(5, 20)), np.random.default_rng(0))
    assert sample["extents"].tolist() == [5, 10]
    assert not sample["images"][5:].any()
    assert (sample["label_maps"][5:] == IGNORED).all()
    assert (sample["label_maps"][:5] < 5).all()


@pytest.mark.parametrize(
    ("pixels", "mixed"),
    [
        ([0, 0, 0, 1], False),
        ([0, 0, 0, 0, 1, 1], True),
        ([0, 0, 0, 0], False),
        ([0, 255, 255, 255], False),
        ([255, 255, 255, 255], False),
        ([0, 1, 255, 255, 255, 255], True),
    ],
    ids=["three quarters", "less", "one class", "one, and ignored", "all ignored", "two, and ignored"],
)
def test_how_much_of_one_class_a_crop_may_have(pixels, mixed):
    view = SegmentationView((1, len(pixels)), CLASSES)
    assert view._is_mixed(np.array([pixels], np.uint8)) is mixed


def places(seed, free, count):
    """Of so many boxes, as they are drawn after the ratio."""
    rng = np.random.default_rng(seed)
    rng.uniform(1, 1)
    return [(int(rng.integers(free[0] + 1)), int(rng.integers(free[1] + 1))) for _ in range(count)]


def test_ten_crops_are_tried_and_an_eleventh_is_taken_as_it_is():
    view = SegmentationView((4, 4), CLASSES, ratios=(1.0, 1.0))
    sample = view(record(np.zeros((20, 20), np.uint8)), np.random.default_rng(3))
    assert tuple(sample["images"][0, 0, 1:]) == places(3, (16, 16), 11)[-1]
    untried = SegmentationView((4, 4), CLASSES, ratios=(1.0, 1.0), largest_share=1.0)
    sample = untried(record(np.zeros((20, 20), np.uint8)), np.random.default_rng(3))
    assert tuple(sample["images"][0, 0, 1:]) == places(3, (16, 16), 1)[0]


def test_the_first_crop_that_is_mixed_enough_is_taken():
    labels = np.zeros((4, 40), np.uint8)
    labels[:, 30:] = mixed(4, 10)
    view = SegmentationView((4, 4), CLASSES, ratios=(1.0, 1.0))
    taken = []
    for seed in range(20):
        drawn = [left for _, left in places(seed, (0, 36), 11)]
        good = [left for left in drawn[:10] if left >= 28]  # from there on at least half is of other classes
        sample = view(record(labels), np.random.default_rng(seed))
        if good and not any(left == 27 for left in drawn[: drawn.index(good[0])]):
            assert sample["images"][0, 0, 2] == good[0]
            taken.append(drawn.index(good[0]))
    assert max(taken) > 1


def test_the_same_crops_come_to_any_number_of_hosts():
    """A sample is a function of (seed, epoch, record)."""
    source = [record(mixed(20 + number, 30), str(number)) for number in range(6)]
    view = SegmentationView((16, 16), CLASSES)

    def batches(start, **hosts):
        stream = loader.train_batches(source, view, seed=5, batch_size=4, start_step=start, workers=0, **hosts)
        return [next(stream) for _ in range(3 - start)]

    whole = batches(0)
    halves = [batches(1, host=host, hosts=2) for host in range(2)]
    for step in range(2):
        for name in ("images", "label_maps", "extents"):
            both = np.concatenate([getattr(halves[host][step], name) for host in range(2)])
            np.testing.assert_array_equal(both, getattr(whole[step + 1], name))
    assert whole[0].label_extents is None


def test_the_test_view_keeps_all_of_the_image():
    view = view_with_room({(6, 10): 3, (8, 4): 1}, CLASSES)
    assert (view.size, view.canvas) == ((8, 10), (8, 10))
    labels = mixed(6, 10)
    sample = view(record(labels), np.random.default_rng(0))
    np.testing.assert_array_equal(sample["label_maps"][:6], labels)
    np.testing.assert_array_equal(sample["images"][:6, :, 0], labels)
    assert (sample["label_maps"][6:] == IGNORED).all()
    assert sample["extents"].tolist() == sample["label_extents"].tolist() == [6, 10]
    shapes = {name: (value.shape, value.dtype) for name, value in view.filler.items()}
    assert shapes == {name: (value.shape, value.dtype) for name, value in sample.items()}
    assert (view.filler["label_maps"] == IGNORED).all()


def test_a_test_image_is_resized_and_its_label_map_is_not():
    view = view_with_room({(6, 10): 1, (10, 6): 1}, CLASSES, scale_to=(20, 13))
    assert (view.size, view.canvas) == ((10, 10), (20, 20))
    sample = view(record(mixed(6, 10)), np.random.default_rng(0))
    assert sample["extents"].tolist() == [12, 20]
    assert sample["label_extents"].tolist() == [6, 10]
    np.testing.assert_array_equal(sample["label_maps"][:6], mixed(6, 10))
    assert sample["images"].shape == (20, 20, 3)
    assert not sample["images"][12:].any()
    assert SegmentationTestView((1024, 2048), CLASSES, scale_to=(2049, 1025)).canvas == (1025, 2049)
