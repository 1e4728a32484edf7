"""Images of more than 8 bits: what `prepare` measures and keeps, what is warned of, and what the network sees."""

import io
import json

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import moco_vit_s
from repre_jax.builders import augmentation
from repre_jax.core.errors import UserError
from repre_jax.data import crops, deep, measuring, sources
from repre_jax.data.views import VALUE_RANGE, CentreView
from repre_jax.tools import prepare

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


def prepared(tmp_path, images, channels=1, *more, suffix="png"):
    """The data set that `prepare folder` makes of them, and the pixels that a view sees, in the order of the files."""
    origin = write(tmp_path / "images", images, suffix)
    arguments = ["folder", "--from", origin, "--name=mine", "--data-dir", tmp_path, "--channels", channels, *more]
    assert prepare.main([str(argument) for argument in arguments]) == 0
    dataset = sources.open_dataset("mine", str(tmp_path))
    records = sorted((dataset.train[i] for i in range(len(images))), key=lambda record: record["file_name"])
    return dataset, [crops.decode(r["image"], channels, r.get("value_range")) for r in records]


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
    np.testing.assert_array_equal(crops.decode(image, 1, ((0, 9),)), crops.decode(image, 1))
    assert not any(map(deep.is_deep, (b"", b"II*\0", b"P5", deep.PNG, EIGHT.astype(np.uint8))))


def test_floating_point_and_32_bits_need_a_range():
    floats = np.array([[0.0, 0.5, 1.0, np.nan, 9.0]], np.float32)
    with pytest.raises(
        crops.UnreadableImage, match=r"floating-point numbers: their range must be given, by data\.value_range"
    ):
        crops.decode(encoded(floats, "TIFF"), 1)
    np.testing.assert_array_equal(crops.decode(encoded(floats, "TIFF"), 1, ((0, 1),))[0, :, 0], [0, 128, 255, 0, 255])
    wide = np.array([[0, 1 << 20]], np.int32)
    with pytest.raises(crops.UnreadableImage, match="more than 16 bits, 0 to 1,048,576"):
        crops.decode(encoded(wide, "TIFF"), 1)
    np.testing.assert_array_equal(crops.decode(encoded(wide, "TIFF"), 1, ((0, 1 << 20),))[0, :, 0], [0, 255])


def test_negative_values_are_called_so():
    with pytest.raises(crops.UnreadableImage, match=r"negative values, -1,02\d to 3,0\d\d: .*data.value_range"):
        crops.decode(encoded(SIGNED), 1)
    for array in (npy(COLOUR), COLOUR):
        with pytest.raises(crops.UnreadableImage, match=r"type uint16: .*data.value_range(.|\n)*expected: uint8"):
            crops.decode(array)


@pytest.mark.parametrize(
    ("images", "channels", "ranges", "levels"),
    [
        ([TWELVE, TWELVE // 2], 1, ((0, 4095),), [TWELVE >> 4, TWELVE >> 5]),
        ([EIGHT, EIGHT // 2], 1, ((0, 255),), [EIGHT, EIGHT // 2]),
        ([FULL, EIGHT], 1, ((0, 65535),), [FULL >> 8, EIGHT >> 8]),
        ([COLOUR, COLOUR // 2], 3, ((0, 4095),), [COLOUR >> 4, COLOUR >> 5]),
        ([BANDS, BANDS // 2], 3, ((0, 4095), (0, 1023), (0, 255)), [BANDS >> SHIFTS, BANDS >> SHIFTS + 1]),
        ([SIGNED, SIGNED // 2], 1, ((float(SIGNED.min()), float(SIGNED.max())),), None),
    ],
    ids=["12 bits", "8 bits", "16 bits", "colours", "channels of other bits", "negative"],
)
def test_prepare_measures_the_range_and_keeps_it(images, channels, ranges, levels, tmp_path, capsys):
    dataset, pixels = prepared(tmp_path, [encoded(image, "TIFF") for image in images], channels, suffix="tiff")
    assert dataset.value_range == ranges
    low, high = ranges[0]
    if levels is None:
        levels = [np.floor((image - low) * 256.0 / (high - low + 1)).astype(int) for image in images]
    for seen, expected in zip(pixels, levels, strict=True):
        np.testing.assert_array_equal(seen.reshape(expected.shape), expected)
    together = np.concatenate([seen.reshape(-1, channels) for seen in pixels]) / 255
    np.testing.assert_allclose(dataset.mean, together.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(dataset.std, together.std(axis=0), atol=1e-6)
    words = ", ".join(f"{low:,.0f} to {high:,.0f}" for low, high in ranges)
    assert f"; {words} become 0 to 255" in capsys.readouterr().out
    assert isinstance(dataset.train, deep.Ranged) == (high != 65535), "what keeps the upper 8 bits is read as before"


def test_deep_and_shallow_images_in_one_data_set(tmp_path):
    dataset, pixels = prepared(tmp_path, [encoded(TWELVE), encoded(EIGHT.astype(np.uint8))])
    for seen, expected in zip(pixels, [TWELVE >> 4, EIGHT], strict=True):
        np.testing.assert_array_equal(seen[..., 0], expected)
    np.testing.assert_allclose(dataset.mean, [np.mean([TWELVE >> 4, EIGHT]) / 255], atol=1e-6)


@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_prepare_takes_a_range_that_is_given(suffix, tmp_path):
    image = encoded(TWELVE) if suffix == "png" else npy(TWELVE[..., np.newaxis])
    dataset, (pixels,) = prepared(tmp_path, [image], 1, "--value-range", 0, 1023, suffix=suffix)
    np.testing.assert_array_equal(pixels[..., 0], np.minimum(TWELVE >> 2, 255))
    np.testing.assert_allclose(dataset.mean, [pixels.mean() / 255], atol=1e-6)


def test_arrays_of_many_channels_become_8_bits(tmp_path, capsys):
    bands = RNG.integers(0, 4096, (8, 9, 13), dtype=np.uint16)
    _, (pixels,) = prepared(tmp_path, [npy(bands)], 13, "--value-range", 0, 4095, suffix="npy")
    np.testing.assert_array_equal(pixels, bands >> 4)


@pytest.mark.parametrize("channels", [3, 13])
def test_arrays_are_measured_before_they_become_8_bits(channels, tmp_path, capsys):
    """Each channel by its own range, whole bits where nothing is negative; `.npy` and others by the same one."""
    shifts = np.arange(channels, dtype=np.uint16) % 3
    bands = RNG.integers(0, 1024, (16, 9, channels), dtype=np.uint16) << shifts
    dataset, (pixels, half) = prepared(tmp_path, [npy(bands), npy(bands // 2)], channels, suffix="npy")
    np.testing.assert_array_equal(pixels, bands >> shifts + 2)
    np.testing.assert_array_equal(half, bands // 2 >> shifts + 2)
    assert dataset.value_range == tuple((0, (1024 << int(shift)) - 1) for shift in shifts)
    np.testing.assert_allclose(dataset.mean, np.mean([pixels, half], axis=(0, 1, 2)) / 255, atol=1e-6)
    assert "range       0 to 1,023, 0 to 2,047, 0 to 4,095" in capsys.readouterr().out


def test_negative_arrays_and_images_beside_them(tmp_path):
    """What is brightest may be no array; a negative range needs no --value-range either."""
    low, high = int(SIGNED.min()) - 7, int(SIGNED.max()) + 9
    first, second = SIGNED.copy(), SIGNED.copy()
    first[0, 0], second[1, 1] = low, high
    write(tmp_path / "images", [npy(first)], "npy")
    (tmp_path / "images" / "1.tiff").write_bytes(encoded(second))
    arguments = ["folder", "--from", tmp_path / "images", "--name=mine", "--data-dir", tmp_path, "--channels", 1]
    assert prepare.main([str(argument) for argument in arguments]) == 0
    dataset = sources.open_dataset("mine", str(tmp_path))
    assert dataset.value_range == ((low, high),)
    images = {b"0.npy": first, b"1.tiff": second}
    for record in (dataset.train[0], dataset.train[1]):
        expected = np.floor((images.pop(record["file_name"]) - low) * 256.0 / (high - low + 1))
        np.testing.assert_array_equal(crops.decode(record["image"], 1, record[VALUE_RANGE])[..., 0], expected)


def test_arrays_of_other_numbers_need_a_range(tmp_path, capsys):
    """Also where whole numbers lie beside them, whose range would else be taken for theirs."""
    write(tmp_path / "images", [npy(TWELVE[..., np.newaxis]), npy(np.zeros((4, 4, 1), np.float32))], "npy")
    arguments = ["folder", "--from", tmp_path / "images", "--name=mine", "--data-dir", tmp_path, "--channels", 1]
    assert prepare.main([str(argument) for argument in arguments]) == 1
    assert "in `prepare` by --value-range LOW HIGH" in capsys.readouterr().err


def test_a_range_for_each_channel_is_given_to_prepare(tmp_path, capsys):
    more = [word for shift in (4, 2, 0) for word in ("--value-range", 0, (256 << shift) - 1)]
    dataset, (pixels,) = prepared(tmp_path, [encoded(BANDS)], 3, *more)
    np.testing.assert_array_equal(pixels, BANDS >> SHIFTS)
    assert dataset.value_range == ((0, 4095), (0, 1023), (0, 255))
    again = ["folder", "--from", tmp_path, "--name=x", "--data-dir", tmp_path / "x", *more[:6]]
    assert prepare.main([str(argument) for argument in again]) == 1
    assert "--value-range is there 2 times" in capsys.readouterr().err


def test_one_negative_value_gives_a_range_that_the_key_takes(tmp_path):
    """Of a lowest and a highest value that are the same."""
    assert deep.used(-5, -5) == (-5, -4)
    config = settings(tmp_path, deep.taken([(-5.0, -5.0)]))
    assert augmentation.value_range(config) == ((-5, -4),)


def test_one_stray_value_is_named():
    """Of 16 bits because of a few bright pixels: nobody would see why the rest is black."""
    statistics = measuring.Statistics(1)
    stray = np.tile(TWELVE, (3, 3))
    stray[0, 0] = 65535
    statistics.stored(encoded(stray), "train")
    assert statistics.result()["value_range"] == [[0, 65535]]
    assert any("99.9 % of them are at most 4,08" in line for line in statistics.lines())


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
