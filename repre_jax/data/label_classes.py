"""The classes of label maps: what they are called, their colours, and which stored value or colour means which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from repre_jax.data.label_palettes import Palettes

IGNORED = 255  # in a label map: a pixel that is neither trained on nor scored
UNKNOWN = 254  # in a table: a value that stands for nothing
MOST = UNKNOWN  # classes, since a label map has a byte a pixel
BITS = 8  # of a colour's channel

Colour = tuple[int, int, int]  # red, green, blue in 0..255


@dataclass(frozen=True)
class Classes:
    """N classes, numbered as they stand here.

    colours: of each, for pictures.
    table: 256 bytes: stored value -> class, IGNORED or UNKNOWN.
    coded: of maps that are coloured pictures, colour -> class or IGNORED; {} where maps hold values.
    palettes: of the maps of values that were read so far; where values mean the same it plays no part.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    table: bytes
    coded: Mapping[Colour, int] = field(default_factory=dict)
    palettes: Palettes = field(default_factory=Palettes, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def of_values(self, stored: np.ndarray) -> np.ndarray:
        """Stored values, uint8 [h, w] -> classes, uint8 [h, w], UNKNOWN where there is none."""
        return cv2.LUT(stored, np.frombuffer(self.table, np.uint8))  # four times as fast as an index

    def values(self, classes: np.ndarray) -> np.ndarray:
        """Classes, uint8 [...] -> the first stored value that means each, as maps of this data set have it; the number
        of the class where maps are coloured pictures. Ignored pixels stay IGNORED."""
        back = np.arange(256, dtype=np.uint8)
        for value in reversed(range(256)):
            if self.table[value] < len(self):
                back[self.table[value]] = value
        return back[classes]

    def painted(self, classes: np.ndarray) -> np.ndarray:
        """Classes, uint8 [...] -> a picture of them, uint8 [..., 3]; what is ignored is white."""
        colours = np.full((256, 3), 255, np.uint8)
        colours[: len(self)] = self.colours
        return colours[classes]


def plain(names: Sequence[str], first: int = 0, colours: Sequence[Colour] = ()) -> Classes:
    """Classes that are stored as first, first + 1, ...; 255 and whatever is lower than `first` are ignored."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[:first] = table[IGNORED] = IGNORED
    table[first : first + len(names)] = np.arange(len(names))
    return Classes(tuple(names), tuple(colours) or palette(len(names)), table.tobytes())


def stored(names: Sequence[str], colours: Sequence[Colour], values: Sequence[int]) -> Classes:
    """Classes whose label maps have these values, one each."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[IGNORED] = IGNORED
    table[list(values)] = np.arange(len(names))
    return Classes(tuple(names), tuple(colours), table.tobytes())


def numbered(count: int, first: int = 0) -> Classes:
    """Classes of which nobody knows more than their number."""
    return plain([str(number) for number in range(count)], first)


def palette(count: int) -> tuple[Colour, ...]:
    """Colours that tell so many classes apart, the first one black.

    Bit k of a class's number in groups of three goes to red, green and blue, the lowest group to the highest bit, as
    PASCAL VOC colours its label maps.
    """
    colours = []
    for number in range(count):
        channels = [
            sum((number >> (3 * place + channel) & 1) << (BITS - 1 - place) for place in range(BITS))
            for channel in range(3)
        ]
        colours.append((channels[0], channels[1], channels[2]))
    return tuple(colours)
