"""Whole images tested by windows: where these lie, how logits are merged, sizes, mirror images."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.core.errors import UserError
from repre_jax.core.types import LabelMaps
from repre_jax.evaluation import sliding_window, windows
from repre_jax.evaluation.windows import SlidingTest
from repre_jax.models import resize

SETR = SlidingTest((768, 768), (512, 512))
SMALL = SlidingTest((6, 8), (4, 5))


def test_windows_start_where_setrs_do():
    """recipes: 2049 x 1025 has rows 0, 257 and columns 0, 512, 1024, 1281; 2048 x 1024 ends one earlier."""
    of = functools.partial(windows.starts, crop=768, stride=512)
    assert of(1025) == [0, 257]
    assert of(2049) == [0, 512, 1024, 1281]
    assert (of(1024), of(2048)) == ([0, 256], [0, 512, 1024, 1280])
    assert (of(768), of(769), of(1280), of(1281)) == ([0], [0, 1], [0, 512], [0, 512, 513])
    assert windows.places((700 + 68, 900), SETR.crop, SETR.stride) == [(0, 0), (0, 132)]


def test_images_are_resized_as_setr_does():
    assert SETR.sizes((1024, 2048)) == ((1024, 2048),)
    resized = SlidingTest((768, 768), (512, 512), resize_to=(1025, 2049))
    assert resized.sizes((1024, 2048)) == ((1025, 2049),)
    assert resized.sizes((2048, 1024)) == ((2049, 1025),)
    several = SlidingTest((768, 768), (512, 512), (1025, 2049), scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75))
    expected = [(768, 1536), (768, 1536), (1025, 2050), (1281, 2562), (1537, 3074), (1793, 3586)]
    assert list(several.sizes((1024, 2048))) == expected


def test_a_layout_has_room_for_every_image_and_refuses_one_below_the_crop():
    found = windows.layout([(6, 20), (15, 8)], SMALL)
    assert (found.canvas, found.scaled, found.windows) == ((15, 20), ((15, 20),), (4,))
    with pytest.raises(UserError, match=r"A test image of 5 x 20 pixels is smaller than the crop, 6 x 8") as caught:
        windows.layout([(6, 20), (5, 20)], SMALL)
    advice = "--config.segment.test_size='(8, 32)', which makes images larger before they are tested"
    assert str(caught.value).endswith(f"in a new --workdir, or\n            {advice}")
    with pytest.raises(UserError) as caught:
        windows.layout([(6, 20), (5, 20)], SMALL, trained=True)
    assert str(caught.value).endswith(f"at once.\n  change:   {advice}")
    enough = SlidingTest((6, 8), (4, 5), resize_to=(8, 32))
    assert windows.layout([(6, 20), (5, 20)], enough).scaled == ((8, 32),)


def of_place(pixels, xp=jnp):
    """Depends on the place within the window, so that averages do not hide a shift: [N, 6, 8, 3]."""
    rows, columns = np.arange(6, dtype=np.float32)[:, None], np.arange(8, dtype=np.float32)
    place = xp.broadcast_to(rows * 0.1 + columns * 0.2, pixels.shape[:3])
    return xp.stack([pixels.sum(-1), place, place * pixels[..., 0]], axis=-1)


def by_hand(image):
    """Merged logits [h, w, 3] of one image [h, w, C]."""
    height, width = image.shape[:2]
    total, cover = np.zeros((height, width, 3)), np.zeros((height, width, 1))
    for y, x in windows.places((height, width), SMALL.crop, SMALL.stride):
        total[y : y + 6, x : x + 8] += of_place(image[None, y : y + 6, x : x + 8], np)[0]
        cover[y : y + 6, x : x + 8] += 1
    assert cover.min() > 0
    return total / cover


def normalized(pixels):
    return ((pixels / np.float32(255) - np.array([0.4, 0.5])) / np.array([0.2, 0.3])).astype(np.float32)


SIZES = np.array([[9, 20], [15, 8], [6, 8], [0, 0]])


def canvases(sizes=SIZES):
    rng = np.random.default_rng(3)
    images = np.zeros((len(sizes), 15, 20, 2), np.uint8)
    for image, (height, width) in zip(images, sizes, strict=True):
        image[:height, :width] = rng.integers(0, 256, (height, width, 2))
    return images


def test_windows_of_an_image_are_seen_at_once_as_far_as_memory_goes():
    """Cityscapes' 8 windows in two halves, rather than as 7 and 1; 150 classes of ADE20K weigh more."""
    of = sliding_window.at_once
    assert of(images=1, crop=(768, 768), classes=19, windows=8) == 4
    assert of(images=1, crop=(512, 512), classes=150, windows=6) == 3
    assert of(images=16, crop=(64, 64), classes=12, windows=6) == 6
    assert of(images=16, crop=(768, 768), classes=19, windows=8) == 1
    assert of(images=1, crop=(4096, 4096), classes=2, windows=1) == 1


@pytest.mark.parametrize(("room", "together"), [(1, 1), (3, 3), (5, 4)])
def test_logits_are_averaged_by_the_number_of_windows_and_padding_is_in_none(room, together, monkeypatch):
    """However many are seen at once; the images have 8, 2, 1 and none."""
    seen = []

    def logits_of(pixels):
        seen.append(pixels.shape[0])
        return of_place(pixels)

    monkeypatch.setattr(sliding_window, "PIXELS", room * len(SIZES) * 6 * 8)
    images = canvases().astype(np.float32) / 255
    found = windows.layout([tuple(size) for size in SIZES[:3]], SMALL)
    (of_scale,) = windows.passes(SIZES, found, SMALL)
    merged = np.asarray(jax.jit(lambda x, w: sliding_window.merged(logits_of, x, w, SMALL.crop))(images, of_scale))
    for image, one, (height, width) in zip(images[:3], merged, SIZES, strict=False):
        np.testing.assert_allclose(one[:height, :width], by_hand(image[:height, :width]), atol=1e-5)
        assert not one[height:].any()
        assert not one[:, width:].any()
    assert not merged[3].any()
    assert (found.windows, set(seen)) == ((8,), {len(SIZES), len(SIZES) * together})


def predicted(images, sizes, how, label_sizes=None):
    batch = LabelMaps(images, np.zeros(images.shape[:3], np.uint8), sizes, label_sizes)
    own = sizes if label_sizes is None else label_sizes
    found = windows.layout([tuple(size) for size in own if size.any()], how)
    run = functools.partial(
        sliding_window.predict, of_place, found=found, how=how, mean=(0.4, 0.5), std=(0.2, 0.3), align_corners=False
    )
    return np.asarray(jax.jit(run)(batch, windows.passes(own, found, how)))


def test_what_an_image_gets_depends_on_no_other_image():
    images = canvases()
    together = predicted(images, SIZES, SMALL)
    for number, (height, width) in enumerate(SIZES[:3]):
        alone = predicted(images[number : number + 1, :height, :width], SIZES[number : number + 1], SMALL)
        np.testing.assert_array_equal(together[number, :height, :width], alone[0])
        expected = by_hand(normalized(images[number, :height, :width])).argmax(-1)
        np.testing.assert_array_equal(alone[0], expected)
    assert {0, 1, 2} == set(np.unique(together[:3]))


def test_a_mirror_image_is_mirrored_within_its_own_size():
    sizes = np.array([[9, 13], [15, 20]])
    images = canvases(sizes)
    found = np.asarray(sliding_window.flipped(images, sizes))
    np.testing.assert_array_equal(found[0, :9, :13], images[0, :9, 12::-1])
    np.testing.assert_array_equal(found[1], images[1, :, ::-1])


def matrix(old, new, align_corners):
    """[new, old]"""
    unit = np.eye(old, dtype=np.float32)[None, :, None]
    return np.asarray(resize.bilinear(unit, (new, 1), align_corners))[0, :, 0]


def by_matrices(image, new, align_corners=False):
    """[h, w, D] -> [*new, D]"""
    rows, columns = (matrix(*sides, align_corners) for sides in zip(image.shape[:2], new, strict=True))
    return np.einsum("or,rwd,cw->ocd", rows, image, columns)


@pytest.mark.parametrize("align_corners", [False, True])
def test_each_image_is_resized_as_all_of_one_size_are(align_corners):
    images, canvas = canvases(SIZES[:2]).astype(np.float32), (16, 32)
    run = jax.jit(functools.partial(sliding_window.resized, canvas=canvas, align_corners=align_corners))
    for sizes in (((13, 9), (7, 31)), ((15, 20), (15, 8))):
        found = run(images, SIZES[:2], np.array(sizes))
        for image, one, old, new in zip(images, found, SIZES, sizes, strict=False):
            expected = by_matrices(image[: old[0], : old[1]], new, align_corners)
            np.testing.assert_allclose(one[: new[0], : new[1]], expected, atol=2e-3)


def test_scales_and_mirror_images_are_averaged_as_probabilities():
    size = np.array([[10, 14]])
    image = canvases(size)[:, :10, :14]
    how = SlidingTest((6, 8), (4, 5), scales=(0.5, 1.0, 1.5), flip=True)
    assert how.sizes((10, 14)) == ((6, 8), (10, 14), (15, 21))
    total = np.zeros((10, 14, 3))
    for new in how.sizes((10, 14)):
        pixels = by_matrices(image[0].astype(np.float32), new).round().astype(np.float32)
        pixels = normalized(pixels)
        for step in (1, -1):
            logits = by_matrices(by_hand(pixels[:, ::step]), (10, 14))[:, ::step]
            total += np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = predicted(image, size, how)[0]
    assert (found == total.argmax(-1)).mean() > 0.99  # ties by rounding
    assert len(np.unique(found)) > 1


def test_resized_images_are_scored_at_the_size_of_their_label_maps():
    """The view has resized 7 x 10 to 12 x 17; the label map stays."""
    how = SlidingTest((6, 8), (4, 5), resize_to=(12, 17))
    image = canvases(np.array([[12, 17]]))[:, :12, :17]
    found = predicted(image, np.array([[12, 17]]), how, np.array([[7, 10]]))
    assert found.shape == (1, 7, 10)
    expected = by_matrices(by_hand(normalized(image[0])), (7, 10)).argmax(-1)
    assert (found[0] == expected).mean() > 0.98


@pytest.mark.parametrize("resize_to", [None, (40, 90)])
def test_an_image_of_any_size_can_be_made_to_reach_the_crop(resize_to):
    """And its layout has room for all windows; images with as many in a row and column share it."""
    how = SlidingTest((32, 48), (16, 20), resize_to)
    for size in itertools.product((1, 7, 24, 31, 32, 40, 41, 100), (1, 30, 48, 49, 67, 68, 69, 200)):
        reached = windows.reaching(size, how)
        (new,) = reached.sizes(size)
        assert new[0] >= 32 and new[1] >= 48
        if (plain := how.sizes(size)[0])[0] >= 32 and plain[1] >= 48:
            assert reached == how
        found = windows.roomy(size, reached)
        assert all(room >= side for room, side in zip(found.scaled[0] + found.canvas, new + size, strict=True))
        assert found.windows == (len(windows.places(new, how.crop, how.stride)),)
    assert windows.roomy((33, 68), SlidingTest((32, 48), (16, 20))) == windows.Layout((48, 68), ((48, 68),), (4,))
    assert windows.roomy((48, 49), SlidingTest((32, 48), (16, 20))) == windows.Layout((48, 68), ((48, 68),), (4,))
