"""RoIAlign and mask targets, beside torchvision's (tests/golden/detection_geometry.py) and by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.models.detection import roi_align as module
from repre_jax.models.detection import windows
from repre_jax.models.detection.mask_targets import mask_targets
from repre_jax.models.detection.roi_align import roi_align
from tests.golden.detection_boxes import CANVAS, LEVELS, STRIDES, level_maps, mask_regions, masks, regions
from tests.golden.named_values import value

GOLDEN = Path(__file__).parent / "golden" / "detection_geometry.npz"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


def of_level(boxes, finest=windows.FINEST):
    """By the rule as it is written, in float64."""
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    relative = np.sqrt(sides.prod(axis=1)) / finest
    return np.clip(np.floor(np.log2(relative + 1e-6)), 0, 3).astype(int)


def test_regions_are_torchvisions(golden):
    """Thin, empty and border-crossing ones, each of its own level; float32 sums in another order."""
    boxes, finest = regions(), 12.0
    found = jax.jit(lambda levels, boxes: roi_align(levels, boxes, 7, finest=finest))(level_maps(), boxes)
    levels = of_level(boxes, finest)
    every = np.stack([golden[f"align/{stride}/7"] for stride in STRIDES])
    np.testing.assert_allclose(found, every[levels, np.arange(len(boxes))], atol=2e-5)
    assert np.bincount(levels, minlength=4).min() > 0


@pytest.mark.parametrize(("stride", "length"), [(4, 32), (32, 8), (4, 12)])
def test_a_level_and_its_gradient_are_torchvisions(golden, stride, length, monkeypatch):
    """Also where a line is gathered in pieces, of up to three of 12 cells here, as all long ones are at 800 x 1344."""
    monkeypatch.setattr(windows, "PIECE", length)
    at = STRIDES.index(stride)
    assert windows.window([LEVELS[at]], [stride]).length == length

    def weighed(level):
        found = roi_align([level], regions(), 14, (stride,))
        return (found * value("weights", (len(regions()), 3, 14, 14)).transpose(0, 2, 3, 1)).sum(), found

    gradient, found = jax.jit(jax.grad(weighed, has_aux=True))(level_maps()[at])
    np.testing.assert_allclose(found, golden[f"align/{stride}/14"], atol=2e-5)
    np.testing.assert_allclose(gradient, golden[f"gradient/{stride}"], atol=2e-4)


def test_a_region_by_hand():
    """A constant stays constant up to the border, a ramp gives the bins' centres less one half, nothing gives 0."""
    ones, ramp = np.ones((24, 32)), np.broadcast_to(np.arange(32.0), (24, 32))
    level = np.stack([ones, ramp], axis=-1).astype(np.float32)
    boxes = np.float32([[16, 8, 100, 36], [0, 0, 128, 96], [50, 50, 50, 60], [0, 0, 0, 0]])
    found = roi_align([level], boxes, 7, (4,))
    np.testing.assert_allclose(found[:2, ..., 0], 1, atol=1e-6)
    np.testing.assert_allclose(found[0, :, :, 1], np.tile(4 + 3 * (np.arange(7) + 0.5) - 0.5, (7, 1)), atol=1e-5)
    assert not found[2:].any()


def test_neither_chunks_nor_a_batch_change_anything(golden, monkeypatch):
    """Two images in 6 chunks of 7 regions: 42 for 40."""
    monkeypatch.setattr(module, "CHUNK", 7 * 4 * 3 * 24 * 32)
    levels, boxes = [np.stack([x, 2 * x]) for x in level_maps()], np.stack([regions(), regions()[::-1]])

    def weighed(levels):
        found = jax.vmap(lambda levels, boxes: roi_align(levels, boxes, 14))(levels, boxes)
        weights = value("weights", (40, 3, 14, 14)).transpose(0, 2, 3, 1)
        return (found * np.stack([weights, weights[::-1]])).sum(), found

    gradient, found = jax.jit(jax.grad(weighed, has_aux=True))(levels)
    np.testing.assert_allclose(found[0], golden["align/4/14"], atol=2e-5)
    np.testing.assert_allclose(found[1], 2 * golden["align/4/14"][::-1], atol=4e-5)
    for image in gradient[0]:
        np.testing.assert_allclose(image, golden["gradient/4"], atol=2e-4)
    assert not any(level.any() for level in gradient[1:])


def test_gradients_in_bfloat16_add_up_in_float32():
    """Of 400 equal regions: in bfloat16 a sum of ones stops at 256."""
    boxes = jnp.tile(jnp.float32([[8, 8, 12, 12]]), (400, 1))
    gradient = jax.grad(lambda level: roi_align([level], boxes, 1, (4,)).sum())(jnp.ones((24, 32, 1), jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    assert gradient[2, 2, 0] == 400
    assert gradient.sum() == 400


def test_the_level_by_the_mean_side():
    sides = np.float32([0, 40, 111.9, 112, 223.9, 224, 447, 448, 5000])
    boxes = np.stack([0 * sides, 0 * sides, sides * 2, sides / 2], axis=1)
    np.testing.assert_array_equal(windows.level(boxes, 4), [0, 0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(windows.level(boxes, 2), [0, 0, 0, 1, 1, 1, 1, 1, 1])


def needed(boxes, sizes, length):
    """How many pieces of lines the cells under each box fill, in float64, from the samples themselves."""
    pieces = []
    for box, level in zip(boxes.astype(np.float64), of_level(boxes), strict=True):
        cells = []
        for axis in (0, 1):
            size = sizes[level][1 - axis]
            low, high = np.clip(box[[axis, axis + 2]] / STRIDES[level] - 0.5, 0, size - 1)
            cells.append(min(int(high) + 1, size - 1) - int(low) + 1)
        pieces.append(min(cells) * -(-max(cells) // length))
    return np.array(pieces)


@pytest.mark.parametrize("canvas", [(800, 1344), (1344, 800), CANVAS])
def test_the_static_window_holds_every_region(canvas):
    """Sides from a fraction of a cell to the canvas, near the places where the level changes, on any position."""
    rng = np.random.default_rng(0)
    sizes = [(canvas[0] // stride, canvas[1] // stride) for stride in STRIDES]
    mean = np.concatenate([rng.uniform(1, 800, 10000), np.repeat([112, 224, 448], 10000) - rng.exponential(1, 30000)])
    aspect = np.exp(rng.uniform(-6, 6, mean.size))
    sides = np.stack([mean * aspect, mean / aspect], axis=1)
    extent = np.array(canvas[::-1])
    sides = np.minimum(sides, extent)
    low = rng.uniform(0, 1, sides.shape) * (extent - sides)
    boxes = np.concatenate([low, low + sides], axis=1).astype(np.float32)
    lines, length = windows.window(sizes, STRIDES)
    found = needed(boxes, sizes, length)
    assert 0.9 * lines <= found.max() <= lines
    assert lines * length <= 2048


def test_mask_targets_are_torchvisions(golden):
    """Exactly its RoIAlign >= 0.5: no bin of these is so near one half that rounding decides."""
    packed = np.packbits(masks(), axis=-1)
    boxes = mask_regions()
    index = jnp.arange(len(boxes)) % 4
    compute = jax.jit(mask_targets)
    found = np.asarray(compute(packed, index, boxes, jnp.array(CANVAS)))
    assert np.abs(golden["covered"] - 0.5).min() > 1e-4
    np.testing.assert_array_equal(found, golden["covered"] >= 0.5)
    assert 0.1 < found.mean() < 0.9
    again = compute(packed, index, boxes, jnp.array(CANVAS) - 3)  # with padding it is the canvas
    np.testing.assert_array_equal(again, found)


def test_mask_targets_of_a_full_image_are_one_program():
    """Seven regions at a time, of 128: no second one for a rest. And a number that does not fit is answered whole."""

    def traced(canvas, regions):
        shapes = (
            ((4, canvas[0], canvas[1] // 8), "uint8"),
            ((regions,), "int32"),
            ((regions, 4), "float32"),
            ((2,), "int32"),
        )
        return jax.make_jaxpr(mask_targets)(*(jax.ShapeDtypeStruct(*each) for each in shapes))

    full, small = traced((800, 1344), 128), traced((64, 96), 128)
    assert "length=19" in str(full)
    assert str(full).count("dot_general") == str(small).count("dot_general") == 2
    assert full.out_avals[0].shape == (128, 28, 28)


def test_mask_targets_by_hand():
    mask = np.zeros((2, 64, 96), bool)
    mask[1, 8:36, 4:32] = True
    mask[0, :, :48] = True
    packed = np.packbits(mask, axis=-1)
    boxes = np.float32([[4, 8, 32, 36], [4, 8, 60, 64], [4.5, 8, 32.5, 36], [9, 9, 9, 9]])
    found = np.asarray(mask_targets(packed, jnp.array([1, 1, 1, 1]), boxes, jnp.array([64, 96])))
    assert found[0].all()
    np.testing.assert_array_equal(found[1], np.add.outer(np.arange(28) >= 14, np.arange(28) >= 14) == 0)
    assert found[2].all()  # its last column is covered by exactly one half
    assert not found[3].any()

    far = np.float32([[24, 20, 200, 200]])  # clipped to the image with padding, 64 x 64 of the canvas
    found = np.asarray(mask_targets(packed, jnp.array([0]), far, jnp.array([40, 40])))[0]
    assert found[:, :16].all()  # the mask ends at column 48: 24 of 40 pixels, 16.8 of 28 bins
    assert not found[:, 17:].any()
