"""Large PNGs, as Cityscapes has them, decoded faster: decoding them is most of what the host does for a step."""

import struct

import cv2
import numpy as np

MAGIC = b"\x89PNG\r\n\x1a\n"
RGB, GREY = b"\x08\x02", b"\x08\x00"  # 8 bits and three colours, or one; in the header behind the size
ANIMATED, BEFORE = b"acTL", 1024  # a chunk of animated ones, in their first bytes
LARGE = 1 << 18  # pixels from which on it pays


def decode_large(encoded: bytes, most: int) -> np.ndarray | None:
    """A PNG of 8 bits and three colours with LARGE to `most` pixels -> uint8 [h, w, 3], by OpenCV, which takes three
    quarters of Pillow's time for the same pixels.

    None for any other file, and for what is not whole, of which Pillow says what is wrong.
    """
    return _decode(encoded, most, RGB, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def decode_large_map(encoded: bytes, most: int) -> np.ndarray | None:
    """The same of a PNG of 8 bits and one colour, as label maps are -> uint8 [h, w]."""
    return _decode(encoded, most, GREY, cv2.IMREAD_UNCHANGED)


def _decode(encoded: bytes, most: int, kind: bytes, how: int) -> np.ndarray | None:
    if not encoded.startswith(MAGIC) or encoded[24:26] != kind or ANIMATED in encoded[:BEFORE]:
        return None
    width, height = struct.unpack(">II", encoded[16:24])
    if not LARGE <= width * height <= most:
        return None
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), how)
