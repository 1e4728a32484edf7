"""Reads TFRecord files, TFDS's default, without TensorFlow.

A record is its length as uint64, the length's checksum, its bytes, and their checksum; checksums are CRC-32C, rotated
by 15 bits and shifted by a constant, as uint32. All little-endian.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from repre_jax.core.errors import UserError

HEADER, FOOTER = struct.Struct("<QI"), struct.Struct("<I")
LENGTH = 8  # bytes of a header that its checksum is of
SHIFT = 0xA282EAD8


class DamagedFile(UserError):
    """A file that is no TFRecord file, or only part of one."""

    def __init__(self, what: str):
        super().__init__(f"{what}\n  change:   copy this file again, or prepare the data set again")


def records(path: Path) -> Iterator[bytes]:
    """The records of the file, in order, each compared with its checksum.

    Raises DamagedFile, which names the record and the byte it begins at, and OSError.
    """
    with path.open("rb") as file:
        number = 0
        while True:
            start = file.tell()
            record = _next(file)
            if record is None:
                return
            if isinstance(record, str):
                raise DamagedFile(f"{path}: {record}: record {number:,}, at byte {start:,}")
            yield record
            number += 1


def masked_crc(data: bytes) -> int:
    """The checksum as it is stored. Raises UserError where the library is missing, as after an update of this one."""
    try:
        import google_crc32c  # read by nothing else, and not in environments of earlier versions
    except ImportError:
        raise UserError("The package google-crc32c is missing.\n  change:   pip install google-crc32c") from None
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + SHIFT) & 0xFFFFFFFF


def _next(file: BinaryIO) -> bytes | str | None:
    """A record, or what is wrong with it; None at the end."""
    header = file.read(HEADER.size)
    if not header:
        return None
    if len(header) < HEADER.size:
        return "the file ends within a record"
    length, stored = HEADER.unpack(header)
    if masked_crc(header[:LENGTH]) != stored:
        return "the checksum of a length is wrong, so this is no TFRecord file, or damaged"
    data, footer = file.read(length), file.read(FOOTER.size)
    if len(data) < length or len(footer) < FOOTER.size:
        return "the file ends within a record"
    if FOOTER.unpack(footer)[0] != masked_crc(data):
        return "the checksum of a record is wrong"
    return data
