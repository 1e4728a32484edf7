"""Images of more than 8 bits a channel: which range of their values becomes the 256 levels that a network sees.

12 bits of a scanner lie in files of 16, so that their upper 8 keep 16 levels. `prepare` measures what is there, the key
data.value_range says it, and whoever trains without is warned.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from repre_jax.core import passing
from repre_jax.core.types import Records

Range = tuple[float, float]  # lowest and highest value, which become 0 and 255
Ranges = tuple[Range, ...]  # one for all channels, or one for each
FULL: Range = (0, 65_535)
PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*")
NUMPY = b"\x93NUMPY"  # how a .npy file begins
BITS_PER_SAMPLE = 258  # a tag of TIFF
LUMINANCE = (19_595, 38_470, 7_471)  # of red, green and blue in Pillow's grey, of 65,536
LOOKED_AT = 32  # records, at a start
UNREADABLE = (
    *(OSError, ValueError, SyntaxError, LookupError, RuntimeError, EOFError),
    *(cv2.error, Image.DecompressionBombError, MemoryError),
)


def is_deep(encoded: bytes | np.ndarray) -> bool:
    """Whether its header says that an image has more than 8 bits a channel; False for what is no image."""
    if isinstance(encoded, np.ndarray):
        return encoded.dtype != np.uint8
    if encoded.startswith(PNG):
        return encoded[24:25] == b"\x10"
    if encoded.startswith(NUMPY):
        return b"'|u1'" not in encoded[:128]
    if not encoded.startswith(TIFF):
        return False  # a PGM or PPM says what its largest value is, and is read by that
    try:
        with Image.open(io.BytesIO(encoded), formats=("TIFF",)) as image:
            return max(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, ()), default=1) > 8
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def values(encoded: bytes | np.ndarray, channels: int) -> np.ndarray:
    """The values of a deep image as they are stored, [h, w, channels] of the file's type: grey is repeated, alpha
    dropped, and colours become luminance where 1 channel is asked for.

    Raises ValueError, OSError or SyntaxError where it cannot be read, or has other channels.
    """
    found = _stored(encoded)
    found = found[..., np.newaxis] if found.ndim == 2 else found
    if channels == 3 and found.ndim == 3:
        found = np.repeat(found, 3, axis=2) if found.shape[2] == 1 else found[..., :3]
    elif channels == 1 and found.ndim == 3 and found.shape[2] in (3, 4):
        grey = np.round(found[..., :3].astype(np.float64) @ (np.array(LUMINANCE) / sum(LUMINANCE)))
        found = grey.astype(found.dtype)[..., np.newaxis]
    if found.ndim != 3 or found.shape[2] != channels or not found.size:
        raise ValueError(f"an image of shape {found.shape}, expected: [height, width, {channels}]")
    return found


def _stored(encoded: bytes | np.ndarray) -> np.ndarray:
    if isinstance(encoded, np.ndarray):
        return encoded
    if encoded.startswith(NUMPY):
        return np.load(io.BytesIO(encoded), allow_pickle=False)
    with Image.open(io.BytesIO(encoded), formats=("PNG", "TIFF")) as image:
        if image.mode[0] in "IF":
            return np.asarray(image)
    # Pillow keeps 8 bits of colours, OpenCV all; it gives blue first.
    found = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise ValueError("not a whole image")
    return found[..., [2, 1, 0, *range(3, found.shape[2])]] if found.ndim == 3 and found.shape[2] >= 3 else found


def to_levels(found: np.ndarray, ranges: Ranges) -> np.ndarray:
    """Values [..., C] -> uint8: 256 equal steps from the lowest to the highest, beyond which they are cut off.

    Of 0..65,535 these are the upper 8 of 16 bits, and 0..255 stays what it is. What is not a number becomes 0.
    """
    low = np.array([pair[0] for pair in ranges], np.float64)
    high = np.array([pair[1] for pair in ranges], np.float64)
    whole = np.issubdtype(found.dtype, np.integer)
    scaled = (found.astype(np.float64) - low) * (256 / (high - low + whole))
    return np.clip(np.nan_to_num(np.floor(scaled), nan=0.0), 0, 255).astype(np.uint8)


def used(lowest: float, highest: float) -> Range:
    """The range to be taken for whole numbers from `lowest` to `highest`: of whole bits, 0..4,095 for 0..3,987; where
    there are negative ones just these, or two where there is one."""
    return (lowest, max(highest, lowest + 1)) if lowest < 0 else (0, 2 ** max(8, int(highest).bit_length()) - 1)


def look(source: Records, channels: int, given: bool) -> str | None:
    """A warning if the deep ones of some records, evenly spaced over the source, use a small part of 16 bits.

    given: whether somebody has said which part; then there is nothing to warn of.
    """
    if given:
        return None
    lowest, highest, count = 0.0, -1.0, 0
    for number in np.unique(np.linspace(0, len(source) - 1, min(LOOKED_AT, len(source))).astype(int)):
        try:
            image = source[int(number)]["image"]
            if not is_deep(image):
                continue
            found = values(image, channels)
        except UNREADABLE as error:
            passing.check(error, "A record cannot be read")
            continue  # whoever trains on it says so
        if np.issubdtype(found.dtype, np.integer):
            count, lowest, highest = count + 1, min(lowest, float(found.min())), max(highest, float(found.max()))
    low, high = used(lowest, highest)
    if not count or (low, high) == FULL or highest >= 1 << 16:
        return None
    kept = f"they become {max(1, int(high + 1) >> 8)} of 256 levels" if low == 0 else "negative ones cannot be read"
    seen = f"from {lowest:,.0f} to {highest:,.0f} in {count:,} that were looked at"
    return (
        f"Warning: images of 16 bits use a small part of them, {seen}: {kept}.\n"
        f"  change:   --config.data.value_range='({low:.0f}, {high:.0f})', or the range that you know"
    )


def alike(one: Ranges | None, other: Ranges | None) -> bool:
    """Whether they are the same, one for all channels being the same for each."""
    if not one or not other:
        return one == other
    count = max(len(one), len(other))
    return _spread(one, count) == _spread(other, count)


def _spread(ranges: Ranges, count: int) -> Ranges:
    return ranges * count if len(ranges) == 1 else ranges


def in_words(ranges: Sequence[Range]) -> str:
    """For example '0 to 4,095', or with one for each channel '0 to 4,095, 0 to 255'."""
    return ", ".join(f"{low:,.9g} to {high:,.9g}" for low, high in ranges)


def as_key(ranges: Ranges) -> str:
    """As the key data.value_range is written on a command: '(0, 4095)', or '((0, 4095), (0, 255))'."""
    pairs = [f"({low:.9g}, {high:.9g})" for low, high in ranges]
    return pairs[0] if len(pairs) == 1 else f"({', '.join(pairs)})"


def has_deep(source: Records) -> bool:
    """Whether one of the first records has an image of more than 8 bits."""
    for number in range(min(LOOKED_AT, len(source))):
        try:
            if is_deep(source[number]["image"]):
                return True
        except UNREADABLE as error:
            passing.check(error, "A record cannot be read")
            continue
    return False


def carried(ranges: Ranges | None) -> Ranges | None:
    """What records carry: nothing where the upper 8 of 16 bits are kept, as crops.decode does by itself."""
    return None if ranges is None or set(ranges) == {FULL} else ranges


@dataclass(frozen=True)
class Ranged:
    """Random access to the records of `source`, each with its 'value_range'."""

    source: Records
    value_range: Ranges

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping:
        return {**self.source[index], "value_range": self.value_range}


def ranged(source: Records, ranges: Ranges | None) -> Records:
    """The source itself where its records need no range."""
    wanted = carried(ranges)
    return source if wanted is None else Ranged(source, wanted)


def taken(found: Sequence[Range]) -> Ranges:
    """The range to be taken for each channel, whose lowest and highest values these are; one, if it is the same for
    all."""
    ranges = tuple(used(low, high) for low, high in found)
    return ranges[:1] if len(set(ranges)) == 1 else ranges


def measured(counts: np.ndarray, first: int) -> tuple[Ranges, list[Range]]:
    """(The ranges to be taken; what each channel has).

    counts: of values, int64 [C, values], the first of which stands for `first`; of each channel there is one.
    """
    found = [(float(at[0] + first), float(at[-1] + first)) for at in map(np.flatnonzero, counts)]
    return taken(found), found
