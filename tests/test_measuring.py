"""What `prepare folder` measures: the range of images of more than 8 bits, and mean and deviation by it."""

import numpy as np
import pytest

from repre_jax.data import crops, deep, measuring, sources
from repre_jax.data.views import VALUE_RANGE
from repre_jax.tools import prepare
from tests.test_deep import BANDS, COLOUR, EIGHT, FULL, RNG, SHIFTS, SIGNED, TWELVE, encoded, npy, write


def prepared(tmp_path, images, channels=1, *more, suffix="png"):
    """The data set that `prepare folder` makes of them, and the pixels that a view sees, in the order of the files."""
    origin = write(tmp_path / "images", images, suffix)
    arguments = ["folder", "--from", origin, "--name=mine", "--data-dir", tmp_path, "--channels", channels, *more]
    assert prepare.main([str(argument) for argument in arguments]) == 0
    dataset = sources.open_dataset("mine", str(tmp_path))
    records = sorted((dataset.train[i] for i in range(len(images))), key=lambda record: record["file_name"])
    return dataset, [crops.decode(r["image"], channels, r.get("value_range")) for r in records]


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
    assert channels == 13 or dataset.train[0]["image"].startswith(deep.PNG), "as TFDS reads an Image"
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


@pytest.mark.parametrize("beside", [TWELVE, SIGNED], ids=["uint16", "int16"])
def test_arrays_of_other_numbers_need_a_range(beside, tmp_path, capsys):
    """Also where whole numbers lie beside them, whose range would else be taken for theirs."""
    write(tmp_path / "images", [npy(beside[..., np.newaxis]), npy(np.zeros((4, 4, 1), np.float32))], "npy")
    arguments = ["folder", "--from", tmp_path / "images", "--name=mine", "--data-dir", tmp_path, "--channels", 1]
    assert prepare.main([str(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert "None of the 2 files of train is a readable image" in error
    assert "in `prepare` by --value-range LOW HIGH" in error


def test_a_range_for_each_channel_is_given_to_prepare(tmp_path, capsys):
    more = [word for shift in (4, 2, 0) for word in ("--value-range", 0, (256 << shift) - 1)]
    dataset, (pixels,) = prepared(tmp_path, [encoded(BANDS)], 3, *more)
    np.testing.assert_array_equal(pixels, BANDS >> SHIFTS)
    assert dataset.value_range == ((0, 4095), (0, 1023), (0, 255))
    again = ["folder", "--from", tmp_path, "--name=x", "--data-dir", tmp_path / "x", *more[:6]]
    assert prepare.main([str(argument) for argument in again]) == 1
    assert "--value-range is there 2 times" in capsys.readouterr().err


def test_one_stray_value_is_named():
    """Of 16 bits because of a few bright pixels: nobody would see why the rest is black."""
    statistics = measuring.Statistics(1)
    stray = np.tile(TWELVE, (3, 3))
    stray[0, 0] = 65535
    statistics.stored(encoded(stray), "train")
    assert statistics.result()["value_range"] == [[0, 65535]]
    assert any("99.9 % of them are at most 4,08" in line for line in statistics.lines())
    usual = measuring.Statistics(1)
    usual.stored(encoded(TWELVE), "train")
    assert [line for line in usual.lines() if "99.9" in line] == []


def test_only_training_images_are_measured():
    statistics = measuring.Statistics(1)
    for image, split in ((FULL, "validation"), (TWELVE, "train"), (SIGNED, "test")):
        statistics.stored(encoded(image), split)
    found = statistics.result()
    assert found["value_range"] == [[0, 4095]]
    assert found["mean"] == pytest.approx([np.mean(TWELVE >> 4) / 255])
