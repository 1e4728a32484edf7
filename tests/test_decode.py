"""Every kind of image that people have, good and bad: what comes out is defined."""

import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageChops
from sklearn.datasets import load_sample_images

from repre_jax.data import crops, imagenet, order, png


@pytest.fixture(scope="module")
def photograph():
    """500 x 375 pixels, ImageNet's usual size."""
    return np.asarray(Image.fromarray(load_sample_images().images[0]).resize((500, 375)))


def encoded(image, kind="PNG", **settings):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **settings)
    return stream.getvalue()


@pytest.mark.parametrize("sampling", ["444", "422", "420", "Gray"])
def test_jpegs_are_decoded_as_by_pillow_to_a_few_levels(photograph, sampling):
    jpeg = simplejpeg.encode_jpeg(
        photograph[..., :1].copy() if sampling == "Gray" else np.ascontiguousarray(photograph),
        quality=90, colorspace="GRAY" if sampling == "Gray" else "RGB", colorsubsampling=sampling,
    )  # fmt: skip
    expected = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)
    difference = np.abs(crops.decode(jpeg) - expected)
    assert difference.mean() < 2
    assert np.percentile(difference, 99.9) < 24, "chroma is not smoothed when it is enlarged"


def test_grey_is_repeated_or_kept(photograph):
    grey = encoded(photograph[..., 0], "JPEG")
    three, one = crops.decode(grey), crops.decode(grey, 1)
    assert (three.shape, one.shape) == ((375, 500, 3), (375, 500, 1))
    np.testing.assert_array_equal(three, np.repeat(three[..., :1], 3, axis=-1))
    luminance = np.asarray(Image.fromarray(photograph).convert("L"))
    assert np.abs(crops.decode(encoded(photograph, "JPEG", quality=95), 1)[..., 0].astype(int) - luminance).mean() < 2


def test_cmyk_becomes_rgb(photograph):
    cmyk = Image.fromarray(photograph).convert("CMYK")
    jpeg = encoded(cmyk, "JPEG", quality=95)
    assert simplejpeg.decode_jpeg_header(jpeg)[2] in ("CMYK", "YCCK")
    assert np.abs(crops.decode(jpeg).astype(int) - photograph).mean() < 4


def without_adobes_marker(jpeg):
    start = jpeg.index(b"\xff\xee")
    assert jpeg[start + 4 : start + 9] == b"Adobe"
    return jpeg[:start] + jpeg[start + 2 + struct.unpack(">H", jpeg[start + 2 : start + 4])[0] :]


def test_cmyk_without_adobes_marker_is_no_negative(photograph):
    """TensorFlow, and so TFDS, takes such values as they are: red is (255 - k)(255 - c) / 255."""
    inverted = ImageChops.invert(Image.fromarray(photograph).convert("CMYK"))  # Pillow inverts what it writes
    jpeg = without_adobes_marker(encoded(inverted, "JPEG", quality=95))
    assert np.abs(crops.decode(jpeg).astype(int) - photograph).mean() < 4
    with Image.open(io.BytesIO(imagenet.as_rgb_jpeg(jpeg))) as image:
        assert (image.mode, np.abs(np.asarray(image).astype(int) - photograph).mean() < 4) == ("RGB", True)
    with_marker = encoded(Image.fromarray(photograph).convert("CMYK"), "JPEG", quality=95)
    with Image.open(io.BytesIO(imagenet.as_rgb_jpeg(with_marker))) as image:
        assert np.abs(np.asarray(image).astype(int) - photograph).mean() < 4


@pytest.mark.parametrize("value_range", [None, ((0, 9),)])
def test_a_tile_that_is_too_large_is_told_the_limit(value_range):
    for image, pixels in ((bomb(), "400,000,000"), (large_jpeg(), "4,225,000,000"), (bomb(16), "400,000,000")):
        with pytest.raises(
            crops.UnreadableImage, match=f"has {pixels} pixels, more than the 178,956,970 .* into tiles"
        ):
            crops.decode(image, 3, value_range)
    with pytest.raises(crops.UnreadableImage, match="400,000,000 pixels, more than the 178,956,970"):
        order.image_size(bomb())


def test_a_large_png_is_what_pillow_reads(photograph):
    """It is decoded by OpenCV, whatever else stands in it, but for what Pillow alone reads; half of one is none."""
    large = np.ascontiguousarray(np.tile(photograph, (1, 2, 1)))
    turned = Image.Exif()
    turned[0x112] = 6
    tagged = encoded(large, exif=turned)
    transparent = struct.pack(">I", 6) + b"tRNS" + b"\0\1\0\2\0\3"
    transparent += struct.pack(">I", zlib.crc32(transparent[4:]))
    others = (encoded(large), tagged, tagged[:33] + transparent + tagged[33:])
    for data in others:
        assert png.decode_large(data, crops.MAX_PIXELS) is not None
        np.testing.assert_array_equal(crops.decode(data), large)
    for data in (encoded(photograph), encoded(large[..., 0]), encoded(Image.fromarray(large).convert("P"))):
        assert png.decode_large(data, crops.MAX_PIXELS) is None
    assert png.decode_large(others[0], large.shape[0] * large.shape[1] - 1) is None
    with pytest.raises(crops.UnreadableImage, match="not a readable image"):
        crops.decode(others[0][:-5000])


def test_sixteen_bits_keep_the_upper_eight():
    values = np.arange(0, 65535, 17, dtype=np.uint16).reshape(-1, 15)
    np.testing.assert_array_equal(crops.decode(encoded(values))[..., 0], values >> 8)
    np.testing.assert_array_equal(crops.decode(encoded(values, "TIFF"), 1)[..., 0], values >> 8)


def test_palettes_are_looked_up_and_alpha_is_dropped(photograph):
    small = Image.fromarray(photograph[:40, :50])
    palette = small.convert("P")
    np.testing.assert_array_equal(crops.decode(encoded(palette)), np.asarray(palette.convert("RGB")))
    with_alpha = np.dstack([photograph[:40, :50], np.arange(2000).reshape(40, 50) % 256]).astype(np.uint8)
    np.testing.assert_array_equal(crops.decode(encoded(with_alpha)), with_alpha[..., :3])
    np.testing.assert_array_equal(crops.decode(encoded(with_alpha), 4), with_alpha)


def test_exif_rotation_is_ignored(photograph):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert crops.decode(encoded(photograph, "JPEG", exif=exif)).shape == (375, 500, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 700), (3, 20_000)])
def test_extreme_shapes_give_views(height, width):
    image = crops.decode(encoded(np.full((height, width, 3), 9, np.uint8)))
    assert image.shape == (height, width, 3)
    cut = crops.RandomCrops(2, (24, 32), (0.08, 1.0), (3 / 4, 4 / 3), "bicubic")
    np.testing.assert_array_equal(cut(image, np.random.default_rng(0)), np.full((2, 24, 32, 3), 9))
    np.testing.assert_array_equal(crops.center_crop(image, size=(24, 32), fraction=0.875), np.full((24, 32, 3), 9))


def test_arrays_are_taken_as_they_are():
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    np.testing.assert_array_equal(crops.decode(array, 5), array)
    np.testing.assert_array_equal(crops.decode(array_bytes(array), 5), array)
    cut = crops.RandomCrops(2, (6, 8), (0.5, 1.0), (3 / 4, 4 / 3))
    assert cut(array, np.random.default_rng(0)).shape == (2, 6, 8, 5)
    for wrong in (array.astype(np.float32), array[..., 0], array[..., :3], array[:0]):
        with pytest.raises(crops.UnreadableImage, match="expected: uint8"):
            crops.decode(wrong, 5)


def test_a_harmless_fault_is_no_reason_to_lose_an_image(photograph):
    """Bytes before a marker, as some of ImageNet's files have: libjpeg warns, Pillow reads on."""
    jpeg = encoded(photograph, "JPEG")
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(faulty := jpeg[:20] + b"\x00\x11" + jpeg[20:])
    assert crops.decode(faulty).shape == (375, 500, 3)


def bomb(bits=8):
    """A PNG header that promises 20,000 x 20,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


def large_jpeg():
    """A JPEG whose header has been given 65,000 x 65,000 pixels."""
    jpeg = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "JPEG"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(jpeg)


def array_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def truncated(kind):
    whole = encoded(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8), kind)
    return whole[: len(whole) // 2]


UNREADABLE = {
    "nothing": b"",
    "text": b"not an image",
    "half a JPEG": truncated("JPEG"),
    "half a PNG": truncated("PNG"),
    "only a JPEG's first bytes": b"\xff\xd8\xff\xe0",
    "a decompression bomb": bomb(),
    "a huge JPEG": large_jpeg(),
    "half a .npy": array_bytes(np.zeros((30, 40, 3), np.uint8))[:200],
    "a .npy of objects": array_bytes(np.array([{"a": 1}], object)),
    "32 bits": encoded(Image.fromarray(np.array([[119_900, -700]], np.int32)), "TIFF"),
    "floating point": encoded(Image.fromarray(np.zeros((3, 3), np.float32)), "TIFF"),
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_whole_image_is_refused(data):
    with pytest.raises(crops.UnreadableImage):
        crops.decode(data)


def test_an_image_of_other_channels_is_refused(photograph):
    with pytest.raises(crops.UnreadableImage, match=r"expected: uint8 \[height, width, 4\]"):
        crops.decode(encoded(photograph), 4)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 9, 130])
@pytest.mark.parametrize("size", [(8, 10), (60, 80), (200, 300)])
def test_any_number_of_channels_is_resized_like_each_by_itself(channels, size):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, channels), dtype=np.uint8)
    resized = crops.resize(image, size, "bicubic")
    for channel in (0, channels // 2, channels - 1):
        alone = crops.resize(np.ascontiguousarray(image[..., channel : channel + 1]), size, "bicubic")
        assert np.abs(resized[..., channel].astype(int) - alone[..., 0]).max() <= 1


@pytest.mark.parametrize(("interpolation", "reference"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
def test_resizing_is_pillows_to_a_few_levels(photograph, interpolation, reference):
    """Enlarged: the same filter. Shrunk: the average of what a pixel covers against Pillow's widened filter."""
    for height, width in ((60, 80), (100, 130), (140, 190), (130, 240), (200, 270), (375, 500)):
        box = photograph[:height, :width]
        expected = np.asarray(Image.fromarray(box).resize((96, 72), reference)).astype(int)
        assert np.abs(crops.resize(box, (72, 96), interpolation) - expected).mean() < 3


def test_a_side_that_shrinks_is_averaged_where_the_other_grows():
    """A strip of noise: bilinear interpolation would pick single pixels of it."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 20_000, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(noise).resize((224, 224), Image.BILINEAR)).astype(int)
    resized = crops.resize(noise, (224, 224)).astype(int)
    assert resized.std() < 1.5 * expected.std() < 15
