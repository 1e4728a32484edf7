"""Label maps as they are stored, and what they are refused for."""

import io

import numpy as np
import pytest
from PIL import Image

from repre_jax.data import crops, label_classes, label_maps
from repre_jax.data.label_classes import IGNORED
from tests.helpers.label_maps import SIZE, narrow_png, palette_png, png, values

CLASSES = label_classes.numbered(3)
COLOURS = [(0, 0, 0), (128, 64, 128), (70, 70, 70)]
FOUND = values(0)
FOUND[3, 4] = IGNORED
WITHIN = values(1)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (png(FOUND), FOUND),
        (FOUND, FOUND),
        (FOUND[..., None], FOUND),
        (npy(FOUND.astype(np.int64)), FOUND),
        (png(FOUND.astype(np.uint16)), FOUND),
        (png(np.repeat(FOUND[..., None], 3, axis=2)), FOUND),
        (palette_png(WITHIN, COLOURS), WITHIN),
        (narrow_png(WITHIN, 2), WITHIN),
        (narrow_png(WITHIN, 4), WITHIN),
        (narrow_png(WITHIN % 2, 1), WITHIN % 2),
    ],
    ids=["PNG", "array", "one channel", "npy", "16 bits", "grey as RGB", "palette", "2 bits", "4 bits", "1 bit"],
)
def test_a_stored_value_is_a_class(stored, expected):
    found = label_maps.classes_of(stored, CLASSES, SIZE)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_values_that_begin_at_one_are_shifted_and_lower_ones_ignored():
    """As ADE20K's, whose 0 is nothing."""
    classes = label_classes.plain(["wall", "sky"], first=1)
    np.testing.assert_array_equal(
        classes.of_values(np.array([[0, 1, 2, 3, 254, 255]], np.uint8)), [[255, 0, 1, 254, 254, 255]]
    )
    np.testing.assert_array_equal(classes.values(np.array([0, 1, 255], np.uint8)), [1, 2, 255])


def test_colours_are_read_by_their_table():
    """Pictures in colours, palettes whatever their indices, and ignored colours."""
    table = {colour: number for number, colour in enumerate(COLOURS)} | {(9, 9, 9): IGNORED}
    classes = label_classes.Classes(("a", "b", "c"), tuple(COLOURS), CLASSES.table, table)
    painted = np.array(COLOURS, np.uint8)[WITHIN]
    painted[0, 0] = (9, 9, 9)
    expected = WITHIN.copy()
    expected[0, 0] = IGNORED
    np.testing.assert_array_equal(label_maps.classes_of(png(painted), classes, SIZE), expected)
    turned = palette_png((WITHIN + 5).astype(np.uint8), [(1, 1, 1)] * 5 + COLOURS)
    np.testing.assert_array_equal(label_maps.classes_of(turned, classes, SIZE), WITHIN)
    grey = np.full(SIZE, 70, np.uint8)
    np.testing.assert_array_equal(label_maps.classes_of(png(grey), classes, SIZE), np.full(SIZE, 2))
    other = palette_png(WITHIN, [(1, 2, 3), *COLOURS[1:]])
    for wrong, given in (
        (png(np.full((*SIZE, 3), (1, 2, 3), np.uint8)), "1 2 3"),
        (other, "1 2 3"),
        (np.full(SIZE, 256 + 70), "326 326 326"),  # whose lowest 8 bits are a colour of a class
    ):
        with pytest.raises(label_maps.WrongLabelMap, match=rf"given:    {given}\n"):
            label_maps.classes_of(wrong, classes, SIZE)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (png(np.full(SIZE, 7, np.uint8)), ("expected: 0 to 2, the values of 3 classes", "given:    7\n")),
        (png(np.full(SIZE, 300, np.uint16)), ("given:    300\n",)),
        (np.full(SIZE, -1), ("given:    -1\n",)),
        (png(WITHIN[:, :10]), ("expected: 12 x 20", "given:    12 x 10", "that of a.jpg")),
        (png(np.array(COLOURS, np.uint8)[WITHIN]), ("a picture in colours", "classes.txt", "128 64 128 road")),
    ],
    ids=["values", "16 bits", "negative", "size", "colours"],
)
def test_what_is_no_map_of_these_classes_is_refused(stored, words):
    with pytest.raises(label_maps.WrongLabelMap) as raised:
        label_maps.classes_of(stored, CLASSES, SIZE, "a.jpg")
    assert not isinstance(raised.value, crops.UnreadableImage)  # which would be passed over
    for each in words:
        assert each in str(raised.value)


def test_a_jpeg_is_refused_and_half_a_file_is_unreadable():
    stream = io.BytesIO()
    Image.fromarray(WITHIN).save(stream, "JPEG")
    with pytest.raises(label_maps.WrongLabelMap, match="is a JPEG"):
        label_maps.read(stream.getvalue())
    with pytest.raises(label_maps.WrongLabelMap, match=r"^A label map is a JPEG, that of a/1\.png, which changes"):
        label_maps.classes_of(stream.getvalue(), CLASSES, SIZE, "a/1.png")
    for broken in (png(WITHIN)[:60], b"nothing", npy(WITHIN)[:100], np.zeros((4, 4))):
        with pytest.raises(crops.UnreadableImage):
            label_maps.read(broken)


def test_a_large_map_is_what_pillow_reads():
    """It is decoded by OpenCV, whatever else stands in it, but for what Pillow alone reads; half of one is none."""
    large = np.kron(np.arange(32, dtype=np.uint8).reshape(4, 8), np.ones((256, 128), np.uint8))

    def saved(pixels, **more):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", **more)
        return buffer.getvalue()

    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    for data in (saved(large), saved(large, transparency=3), saved(large, gamma=0.4, exif=exif)):
        assert label_maps.png.decode_large_map(data, crops.MAX_PIXELS) is not None
        np.testing.assert_array_equal(label_maps.read(data), large)
    for other in (saved(large.astype(np.uint16)), palette_png(large, [(9, 8, 7)] * 32), saved(large[::8])):
        assert label_maps.png.decode_large_map(other, crops.MAX_PIXELS) is None
    coloured = np.random.default_rng(0).integers(0, 256, (32, 3), dtype=np.uint8)[large]
    np.testing.assert_array_equal(label_maps.read(saved(coloured)), coloured)
    for whole in (saved(large), saved(coloured)):
        with pytest.raises(crops.UnreadableImage):
            label_maps.read(whole[: len(whole) // 2])


def test_colours_tell_classes_apart():
    """And begin as PASCAL VOC's do."""
    assert label_classes.palette(4) == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert len(set(label_classes.palette(254))) == 254
    painted = label_classes.numbered(2).painted(np.array([[0, 1, 255]], np.uint8))
    assert painted.tolist() == [[[0, 0, 0], [128, 0, 0], [255, 255, 255]]]
