"""Images with boxes and masks, resized, flipped and cropped together, by a reference that goes step by step."""

import cv2
import numpy as np
import pytest

from repre_jax.data import detection_order, loader, rle
from repre_jax.data.crops import UnreadableImage
from repre_jax.data.detection_views import DetectionTestView, DetectionView, nearest
from repre_jax.data.instances import Instances
from repre_jax.data.order import LANDSCAPE, PORTRAIT
from repre_jax.data.resizing import Placement, Resizing

SINGLE = Resizing(shorts=(800,), crop=0.0, flip_last=True)
SMALL = Resizing(shorts=(40, 48, 56, 64), longest=96, flip=0.5, crop=0.5, crop_shorts=(36, 44, 52), crop_sides=(24, 44))


def objects(size, count, seed=0, crowds=()):
    """Ellipses."""
    rng, masks = np.random.default_rng(seed), []
    for _ in range(count):
        mask = np.zeros(size, np.uint8)
        middle = (int(rng.integers(size[1])), int(rng.integers(size[0])))
        axes = (int(rng.integers(3, size[1] // 3)), int(rng.integers(3, size[0] // 3)))
        cv2.ellipse(mask, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        masks.append(mask.astype(bool))
    return of_masks(size, masks, crowds)


def of_masks(size, masks, crowds=(), boxes=None):
    return Instances(
        size=size,
        ids=np.arange(1, len(masks) + 1),
        category_ids=np.arange(1, len(masks) + 1),
        boxes=np.array([rle.box(mask) for mask in masks] if boxes is None else boxes, np.float64).reshape(-1, 4),
        areas=np.array([mask.sum() for mask in masks], np.float64),
        crowds=np.array([place in crowds for place in range(len(masks))], bool),
        counts=tuple(rle.encode(mask) for mask in masks),
    )


def record(found, number=7):
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(pixels, found.size[::-1], interpolation=cv2.INTER_CUBIC)
    return {
        "image": image,
        "objects": found,
        "classes": np.arange(len(found), dtype=np.int32) + 3,
        "record": number,
        "image_id": 5,
    }


def unpacked(sample):
    width = sample["images"].shape[1]
    return np.unpackbits(sample["masks"], axis=-1)[..., :width].astype(bool)


def step_by_step(given, placement):
    """Image, boxes and masks as mmdetection makes them: each step on the whole of each array."""
    image, found = given["image"], given["objects"]
    masks = [rle.decode(each, *found.size).astype(np.uint8) for each in found.counts]
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in found.boxes], np.float32).reshape(-1, 4)
    kept = np.arange(len(masks))

    def flip():
        nonlocal image, boxes, masks
        width, image, masks = image.shape[1], cv2.flip(image, 1), [cv2.flip(mask, 1) for mask in masks]
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)

    def resize(size):
        nonlocal image, boxes, masks
        boxes = boxes * np.array([size[1] / image.shape[1], size[0] / image.shape[0]] * 2, np.float32)
        boxes = boxes.clip(0, np.array([size[1], size[0]] * 2))
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
        masks = [cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST) for mask in masks]

    if placement.flip and not placement.flip_last:
        flip()
    if placement.crop:
        resize(placement.crop[0])
        top, left, height, width = placement.crop[1]
        image = image[top : top + height, left : left + width]
        boxes = (boxes - np.array([left, top] * 2)).clip(0, np.array([width, height] * 2))
        there = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        boxes, kept = boxes[there], kept[there]
        masks = [masks[place][top : top + height, left : left + width] for place in kept]
    resize(placement.last)
    if placement.flip and placement.flip_last:
        flip()
    return image, boxes, masks, kept


@pytest.mark.parametrize("how", [SMALL, Resizing(shorts=(61,), longest=93, crop=0.0, flip_last=True)])
@pytest.mark.parametrize("size", [(45, 71), (83, 52), (60, 60)])
def test_image_boxes_and_masks_go_through_the_same_steps(how, size):
    given = record(objects(size, 5))
    view, seen = DetectionView(how, slots=8), set()
    for seed in range(24):
        sample = view(given, np.random.default_rng(seed))
        placement = how.drawn(size, np.random.default_rng(seed))
        image, boxes, masks, kept = step_by_step(given, placement)
        seen.add((placement.flip, placement.crop is not None))
        height, width = sample["extents"]
        assert sample["images"].shape[:2] == ((64, 96) if height <= width else (96, 64))
        np.testing.assert_array_equal(sample["images"][:height, :width], image)
        assert not sample["images"][height:].any() and not sample["images"][:, width:].any()
        count = len(kept)
        assert sample["valid"].tolist() == [True] * count + [False] * (8 - count)
        assert sample["classes"][:count].tolist() == (kept + 3).tolist()
        np.testing.assert_allclose(sample["boxes"][:count], boxes, atol=1e-4)
        assert not sample["boxes"][count:].any()
        np.testing.assert_array_equal(unpacked(sample)[:count, :height, :width], masks)
        assert unpacked(sample).sum() == sum(mask.sum() for mask in masks)
        assert (sample["records"], sample["sizes"].tolist()) == (7, list(size))
        before = placement.crop[1][2:] if placement.crop else size
        np.testing.assert_allclose(sample["scale"], np.array([height, width]) / before, rtol=1e-6)
    assert len(seen) == (4 if how.crop else 2)


def test_the_recipes_sizes():
    """480 to 800 and at most 1333; crops of 384 to 600 out of 400, 500 or 600; all fit one of two canvases."""
    how, rng, shorts, crops = Resizing(), np.random.default_rng(0), set(), 0
    assert how.canvases == ((800, 1344), (1344, 800))
    assert SINGLE.canvases == how.canvases
    for _ in range(2000):
        placement = how.drawn((480, 640), rng)
        short = min(placement.last)
        if placement.crop is None:
            assert placement.last[1] == int(640 * short / 480 + 0.5)
            shorts.add(short)
        else:
            crops += 1
            first, (top, left, height, width) = placement.crop
            assert first in ((400, 533), (500, 667), (600, 800))
            assert 384 <= height <= min(600, first[0]) and 384 <= width <= min(600, first[1])
            assert 0 <= top <= first[0] - height and 0 <= left <= first[1] - width
        assert max(placement.last) <= 1333
    assert shorts == set(range(480, 801, 32))
    assert 920 < crops < 1080
    assert SINGLE.drawn((480, 640), rng).last == (800, 1067)
    assert SINGLE.drawn((300, 1000), rng).last == (400, 1333)
    assert how.tested((640, 480)).last == (1067, 800)


def test_the_order_of_draws():
    """Flip, whether to crop, first size, height, width, top, left, last size: what a run drew stays what it draws."""
    rng = np.random.default_rng(0)
    draws = [rng.random() for _ in range(2)]
    assert draws[1] < 0.5
    first = [(400, 533), (500, 667), (600, 800)][rng.integers(3)]
    height, width = (int(rng.integers(min(side, 384), min(side, 600) + 1)) for side in first)
    top, left = int(rng.integers(first[0] - height + 1)), int(rng.integers(first[1] - width + 1))
    short = 480 + 32 * int(rng.integers(11))
    found = Resizing().drawn((480, 640), np.random.default_rng(0))
    assert (found.flip, found.crop) == (draws[0] < 0.5, (first, (top, left, height, width)))
    assert min(found.last) == short


def test_flip_mirrors_boxes_and_masks():
    mask = np.zeros((64, 96), bool)
    mask[10:30, 5:20] = True
    how = Resizing(shorts=(64,), longest=96, flip=1.0, crop=0.0)
    sample = DetectionView(how, 2)(record(of_masks((64, 96), [mask])), np.random.default_rng(0))
    assert sample["boxes"][0].tolist() == [96 - 20, 10, 96 - 5, 30]
    assert rle.box(unpacked(sample)[0]) == (76, 10, 15, 20)


def test_what_nothing_is_trained_on():
    """Crowds are background; less than a pixel or outside is dropped; what stands out is cut at the edge."""
    size = (64, 96)
    masks = [np.ones(size, bool)] * 6
    boxes = [(5, 5, 10, 10), (0, 0, 96, 64), (5, 5, 0.9, 10), (96, 5, 10, 10), (-20, -10, 19, 9), (80, 50, 30, 30)]
    found = of_masks(size, masks, crowds=(1,), boxes=boxes)
    assert found.trainable().tolist() == [True, False, False, False, False, True]
    how = Resizing(shorts=(64,), longest=96, flip=0.0, crop=0.0)
    sample = DetectionView(how, 4)(record(found), np.random.default_rng(0))
    assert sample["boxes"][sample["valid"]].tolist() == [[5, 5, 15, 15], [80, 50, 96, 64]]
    assert sample["classes"][sample["valid"]].tolist() == [3, 8]
    nothing = DetectionView(how, 4)(record(of_masks(size, masks, crowds=range(6))), np.random.default_rng(0))
    assert not nothing["valid"].any() and not nothing["masks"].any()


def test_of_more_objects_than_slots_some_are_drawn():
    """Others in each epoch, in their order, each with its own mask; the picture is the same."""
    given = record(objects((64, 96), 12))
    few, all_slots = (DetectionView(SMALL, slots) for slots in (4, 12))
    chosen = set()
    for seed in range(20):
        some, whole = (view(given, np.random.default_rng(seed)) for view in (few, all_slots))
        np.testing.assert_array_equal(some["images"], whole["images"])
        taken = some["classes"][some["valid"]]
        if whole["valid"].sum() > 4:
            assert len(set(taken.tolist())) == 4 and (np.diff(taken) > 0).all()
        places = np.flatnonzero(np.isin(whole["classes"], taken) & whole["valid"])
        np.testing.assert_array_equal(some["boxes"][some["valid"]], whole["boxes"][places])
        np.testing.assert_array_equal(some["masks"][some["valid"]], whole["masks"][places])
        chosen |= set(taken.tolist())
    assert chosen == set(range(3, 15))


def test_without_masks_none_travel():
    sample = DetectionView(SMALL, 5, masks=False)(record(objects((64, 96), 3)), np.random.default_rng(0))
    assert sample["masks"].shape == (5, 0, 0)
    assert sample["valid"].any()


def test_objects_of_another_size_than_the_image_are_refused():
    given = record(objects((64, 96), 2)) | {"image": np.zeros((96, 64, 3), np.uint8)}
    with pytest.raises(UnreadableImage, match="96 x 64 pixels, whose objects were marked on one of 64 x 96"):
        DetectionView(SMALL, 2)(given, np.random.default_rng(0))


def test_nearest_is_opencvs():
    """Whose index is floor(i * (1 / (to / from))), in double: on some sides one less than floor(i * from / to)."""
    differing = 0
    for size, to in [
        (640, 1067),
        (480, 800),
        (427, 961),
        (333, 1301),
        (500, 389),
        (640, 640),
        (612, 1099),
        (400, 498),
        (400, 848),
        (75, 1),
    ]:
        column = np.random.default_rng(size).integers(0, 2, (size, 1), dtype=np.uint8)
        resized = cv2.resize(column, (1, to), interpolation=cv2.INTER_NEAREST)
        np.testing.assert_array_equal(column[nearest(size, to)], resized)
        formula = np.minimum(np.floor(np.arange(to) * (1 / (to / size))), size - 1)
        np.testing.assert_array_equal(nearest(size, to), formula)
        differing += (nearest(size, to) != np.arange(to) * size // to).any()
    assert differing


def test_the_test_view_keeps_the_whole_image():
    given = record(objects((45, 71), 3))
    sample = DetectionTestView(SMALL, (64, 96))(given, np.random.default_rng(0))
    assert sample["extents"].tolist() == [61, 96]
    expected = cv2.resize(given["image"], (96, 61), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(sample["images"][:61, :96], expected)
    assert sample["boxes"].shape == (0, 4) and sample["masks"].shape == (0, 0, 0)
    np.testing.assert_allclose(sample["scale"], [61 / 45, 96 / 71], rtol=1e-6)
    filler = DetectionTestView(SMALL, (64, 96)).filler
    assert filler["records"] == -1
    assert {key: value.shape for key, value in filler.items()} == {key: value.shape for key, value in sample.items()}


def test_orientations_are_those_of_the_samples():
    """Known from sizes alone, in every epoch; so that each batch is of one canvas, whatever crops turn."""
    sizes = np.array([(45, 71), (83, 52), (60, 60), (50, 90)] * 5, np.int32)
    records = [record(objects(tuple(size), 2), number) for number, size in enumerate(sizes.tolist())]
    view, order = DetectionView(SMALL, 3), detection_order.grouped(sizes, SMALL, 4)
    before = np.where(sizes[:, 0] > sizes[:, 1], PORTRAIT, LANDSCAPE)
    turned = 0
    for epoch in range(3):
        found = order.groups_of(5, epoch)
        for number, given in enumerate(records):
            shape = view(given, loader.draws(5, epoch, number))["images"].shape
            assert shape[:2] == ((64, 96) if found[number] == LANDSCAPE else (96, 64))
        turned += (found != before).sum()
    assert turned > 3
    batches = loader.train_batches(records, view, seed=5, batch_size=4, start_step=0, workers=0, order=order)
    shapes = [next(batches).images.shape for _ in range(12)]
    assert set(shapes) == {(4, 64, 96, 3), (4, 96, 64, 3)}
    fixed = detection_order.grouped(sizes, Resizing(shorts=(64,), longest=96, crop=0.0), 4)
    assert fixed.groups_of(0, 0).tolist() == before.tolist() == fixed.groups_of(1, 9).tolist()
    assert len(fixed) == sum(-(-int((before == kind).sum()) // 4) * 4 for kind in (LANDSCAPE, PORTRAIT))
    square = detection_order.grouped(sizes, Resizing(shorts=(64,), longest=64, crop=0.5), 4)
    assert (len(square), set(square.groups_of(0, 0))) == (-(-len(sizes) // 4) * 4, {LANDSCAPE})


def test_a_test_goes_through_each_canvas():
    sizes = np.array([(45, 71), (83, 52), (60, 60)], np.int32)
    parts = detection_order.by_canvas(sizes, SMALL)
    assert [(canvas, numbers.tolist()) for canvas, numbers in parts] == [((64, 96), [0, 2]), ((96, 64), [1])]
    assert [canvas for canvas, _ in detection_order.by_canvas(sizes[:1], SMALL)] == [(64, 96)]


def test_a_placement_without_a_crop_is_resized_from_the_image():
    assert Placement(flip=False, last=(4, 5)).before_last((8, 9)) == (8, 9)
    assert Placement(flip=False, last=(4, 5), crop=((10, 10), (1, 2, 3, 6))).before_last((8, 9)) == (3, 6)
