"""Archives and folders that data sets are prepared from."""

import zipfile

import pytest

from repre_jax.core.errors import UserError
from repre_jax.data.stores import Archive

LATER = (99).to_bytes(2, "little")  # of the format, which zipfile knows up to 6.3, as 63
NEEDED = 6  # bytes from the start of an entry in the directory to the version that it needs


def test_an_archive_of_a_later_format_is_named(tmp_path):
    place = tmp_path / "new.zip"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("a.txt", "a")
    assert list(Archive(place).names()) == ["a.txt"]
    data = bytearray(place.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + NEEDED : entry + NEEDED + 2] = LATER
    place.write_bytes(data)
    with pytest.raises(UserError, match=r"new.zip cannot be read: zip file version 9.9"):
        Archive(place)


def test_half_an_archive_is_named(tmp_path):
    place = tmp_path / "half.zip"
    place.write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"(?s)half.zip cannot be read: .*is it whole\?"):
        Archive(place)
