"""Images of more than 8 bits: what `prepare` measures and keeps, what is warned of, and what the network sees."""

import io
import json
import warnings

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import moco_vit_s
from repre_jax.builders import augmentation
from repre_jax.core.errors import UserError
from repre_jax.data import crops, deep, sources
from repre_jax.data.views import CentreView

RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (30, 40), dtype=np.uint16)
EIGHT = TWELVE // 16
FULL = RNG.integers(0, 65536, (30, 40), dtype=np.uint16)
SIGNED = TWELVE.astype(np.int16) - 1024
COLOUR = RNG.integers(0, 4096, (30, 40, 3), dtype=np.uint16)
SHIFTS = np.array([4, 2, 0], np.uint16)  # by which channels of 12, 10 and 8 bits become 8
BANDS = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint16) << SHIFTS


def encoded(values, kind="PNG"):
    if values.ndim == 3:
        order = [2, 1, 0, *range(3, values.shape[2])]
        return cv2.imencode(f".{kind.lower()}", values[..., order])[1].tobytes()
    stream = io.BytesIO()
    if values.dtype == np.int16:
        return cv2.imencode(".tiff", values)[1].tobytes()
    Image.fromarray(values).save(stream, kind)
    return stream.getvalue()


def npy(values):
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def write(folder, images, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        (folder / f"{number}.{suffix}").write_bytes(image)
    return folder


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("values", "ranges", "levels"),
    [
        (TWELVE, ((0, 4095),), TWELVE >> 4),
        (EIGHT, ((0, 255),), EIGHT),
        (FULL, ((0, 65535),), FULL >> 8),
        (SIGNED, ((-1024, 3071),), (SIGNED + 1024) >> 4),
        (TWELVE, ((100, 200),), np.clip((TWELVE.astype(int) - 100) * 256 // 101, 0, 255)),
    ],
)
def test_a_range_becomes_256_levels(values, ranges, levels, kind):
    image = encoded(values, kind)
    assert deep.is_deep(image)
    np.testing.assert_array_equal(crops.decode(image, 1, ranges)[..., 0], levels)
    np.testing.assert_array_equal(crops.decode(image, 3, ranges), np.repeat(levels[..., np.newaxis], 3, axis=2))
    np.testing.assert_array_equal(crops.decode(npy(values[..., np.newaxis]), 1, ranges)[..., 0], levels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colours_of_16_bits(kind):
    """All bits are read, each channel with a range of its own if there are several; alpha is dropped."""
    image = encoded(COLOUR, kind)
    np.testing.assert_array_equal(crops.decode(image, 3, ((0, 4095),)), COLOUR >> 4)
    own = crops.decode(image, 3, ((0, 4095), (0, 8191), (0, 16383)))
    np.testing.assert_array_equal(own, COLOUR >> np.array([4, 5, 6], np.uint16))
    with_alpha = np.dstack([COLOUR, FULL])
    np.testing.assert_array_equal(crops.decode(encoded(with_alpha, kind), 3, ((0, 4095),)), COLOUR >> 4)
    np.testing.assert_array_equal(crops.decode(encoded(with_alpha, kind), 4, ((0, 65535),)), with_alpha >> 8)
    grey = Image.fromarray((COLOUR >> 4).astype(np.uint8)).convert("L")
    assert np.abs(crops.decode(image, 1, ((0, 4095),))[..., 0].astype(int) - np.asarray(grey)).max() <= 1


def test_a_range_touches_no_image_of_8_bits():
    image = encoded((EIGHT).astype(np.uint8))
    assert not deep.is_deep(image)
    assert not deep.is_deep(encoded(EIGHT.astype(np.uint8), "TIFF"))
    np.testing.assert_array_equal(crops.decode(image, 1, ((0, 9),)), crops.decode(image, 1))
    assert not any(map(deep.is_deep, (b"", b"II*\0", b"P5", deep.PNG, EIGHT.astype(np.uint8))))


def test_floating_point_and_32_bits_need_a_range():
    floats = np.array([[0.0, 0.5, 1.0, np.nan, 9.0, np.inf, -np.inf]], np.float32)
    with pytest.raises(
        crops.UnreadableImage, match=r"floating-point numbers: their range must be given, by data\.value_range"
    ):
        crops.decode(encoded(floats, "TIFF"), 1)
    levels = crops.decode(encoded(floats, "TIFF"), 1, ((0, 1),))[0, :, 0]
    np.testing.assert_array_equal(levels, [0, 128, 255, 0, 255, 255, 0])
    wide = np.array([[0, 1 << 20]], np.int32)
    with pytest.raises(crops.UnreadableImage, match="more than 16 bits, 0 to 1,048,576"):
        crops.decode(encoded(wide, "TIFF"), 1)
    np.testing.assert_array_equal(crops.decode(encoded(wide, "TIFF"), 1, ((0, 1 << 20),))[0, :, 0], [0, 255])


def test_numbers_that_are_none_are_not_cast():
    """What a cast makes of them depends on the processor, and NumPy warns of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = deep.to_levels(np.array([np.nan, np.inf, -np.inf, 1e30])[:, np.newaxis], ((0, 1),))
    np.testing.assert_array_equal(found[:, 0], [0, 255, 0, 255])


@pytest.mark.parametrize(
    ("image", "channels"), [(COLOUR, 5), (COLOUR[..., :2], 3), (COLOUR[..., :2], 1), (COLOUR[:0], 3)]
)
def test_other_channels_than_asked_for_are_refused(image, channels):
    with pytest.raises(crops.UnreadableImage, match=rf"an image of shape .*, expected: \[height, width, {channels}\]"):
        crops.decode(npy(image), channels, ((0, 4095),))


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [(0, 100, (0, 255)), (0, 256, (0, 511)), (7, 3987, (0, 4095)), (0, 65535, deep.FULL), (-3, 99, (-3, 99))],
)
def test_whole_bits_are_taken(lowest, highest, expected):
    assert deep.used(lowest, highest) == expected


def test_negative_values_are_called_so():
    with pytest.raises(crops.UnreadableImage, match=r"negative values, -1,02\d to 3,0\d\d: .*data.value_range"):
        crops.decode(encoded(SIGNED), 1)
    for array in (npy(COLOUR), COLOUR):
        with pytest.raises(crops.UnreadableImage, match=r"type uint16: .*data.value_range(.|\n)*expected: uint8"):
            crops.decode(array)


def test_one_negative_value_gives_a_range_that_the_key_takes(tmp_path):
    """Of a lowest and a highest value that are the same."""
    assert deep.used(-5, -5) == (-5, -4)
    config = settings(tmp_path, deep.taken([(-5.0, -5.0)]))
    assert augmentation.value_range(config) == ((-5, -4),)


def settings(tmp_path, value_range=None):
    config = moco_vit_s.get_config("tiny")
    config.data.name, config.data.channels, config.data.value_range = f"folder:{tmp_path}", 1, value_range
    return config


def test_a_start_warns_and_the_key_that_it_names_helps(tmp_path, capsys):
    write(tmp_path, [encoded(image) for image in (TWELVE, TWELVE // 2, FULL // 32)])
    dataset = augmentation.open_dataset(settings(tmp_path))
    warning = capsys.readouterr().out
    assert "use a small part of them, from 0 to 4,085 in 3 that were looked at: they become 16 of 256" in warning
    number = dataset.train.files.index("0.png")
    assert "value_range" not in dataset.train[number]
    assert crops.decode(dataset.train[number]["image"], 1).max() == 15
    assert "--config.data.value_range='(0, 4095)'" in warning
    dataset = augmentation.open_dataset(settings(tmp_path, (0, 4095)))
    assert capsys.readouterr().out == ""
    view = CentreView((30, 40), 1.0, 1)
    np.testing.assert_array_equal(view(dataset.train[number], np.random.default_rng(0))["images"][..., 0], TWELVE >> 4)


@pytest.mark.parametrize("images", [[FULL], [EIGHT.astype(np.uint8)]], ids=["all 16 bits", "8 bits"])
def test_what_needs_no_warning_gets_none(images, tmp_path, capsys):
    write(tmp_path, [encoded(image) for image in images])
    augmentation.open_dataset(settings(tmp_path))
    assert capsys.readouterr().out == ""


def test_a_look_at_some_records():
    """Evenly spaced, the last among them; negative values are named, and wider ones left to whoever reads them."""
    shallow, wide = encoded(EIGHT.astype(np.uint8)), encoded(np.array([[0, 1 << 20]], np.int32), "TIFF")
    records = [{"image": shallow}] * 99 + [{"image": encoded(TWELVE)}]
    said = deep.look(records, 1, given=False)
    assert f"from 0 to {TWELVE.max():,} in 1 that were looked at: they become 16 of 256 levels." in said
    assert deep.look(records, 1, given=True) is deep.look(records[:99], 1, given=False) is None
    assert deep.look([{"image": wide}, *records], 1, given=False) is None
    low, high = SIGNED.min(), SIGNED.max()
    said = deep.look([{"image": encoded(SIGNED)}, {}], 1, given=False)
    assert f"from {low:,} to {high:,} in 1 that were looked at: negative ones cannot be read" in said
    assert f"--config.data.value_range='({low}, {high})'" in said
    assert deep.has_deep(records[-1:]) and not deep.has_deep([{}, *records[:9]])


def test_a_part_of_a_folder_keeps_the_range(tmp_path):
    write(tmp_path, [encoded(TWELVE)] * 4)
    dataset = sources.open_dataset(f"folder:{tmp_path}", None, "train[:50%]", "train[50%:]", ((0, 4095),))
    assert [dataset.test[1]["value_range"], dataset.train[0]["value_range"]] == [((0, 4095),)] * 2


@pytest.mark.parametrize("given", [(4095, 0), (0,), ((0, 1), (0, 2)), ("a", "b"), (), (0, float("inf")), (0, 1, 2)])
def test_a_range_that_is_none_is_refused(given, tmp_path):
    with pytest.raises(UserError, match=r"data.value_range is (.|\n)*--config.data.value_range='\(0, 4095\)'"):
        augmentation.value_range(settings(tmp_path, given))


def test_a_range_for_each_channel_and_configs_from_before(tmp_path):
    config = settings(tmp_path, ((0, 1), (0, 2), (0, 3)))
    config.data.channels = 3
    assert augmentation.value_range(config) == ((0, 1), (0, 2), (0, 3))
    before = ConfigDict(json.loads(json.dumps(config.to_dict())))
    del before.data["value_range"]
    assert augmentation.value_range(before) is None


def test_a_pgm_is_read_by_the_largest_value_that_it_names():
    """12 bits fill all levels without a key, and with one."""
    header = f"P5\n{TWELVE.shape[1]} {TWELVE.shape[0]}\n4095\n".encode()
    image = header + TWELVE.astype(">u2").tobytes()
    levels = crops.decode(image, 1)
    assert 254 <= levels.max() <= 255
    np.testing.assert_array_equal(crops.decode(image, 1, ((0, 4095),)), levels)
