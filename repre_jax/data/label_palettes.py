"""Palettes of label maps: which colour each value has had, so that a value is the same class in every map.

A program that makes a palette for each picture numbers colours as they come: value 1 is then a car here and a tree
there, which nothing else in a map of values shows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

Colour = tuple[int, ...]  # red, green, blue; () beyond the palette's end
Known = tuple[Colour, Any]  # and the name of the record that had it first


@dataclass
class Palettes:
    """known: value -> its colour, and where it was seen; grows with every map that is read in this process.

    The first label maps of all splits are read before any worker starts, so that each of these knows their colours.
    """

    known: dict[int, Known] = field(default_factory=dict)

    def check(self, colours: np.ndarray, values: np.ndarray, name: Any, wrong: Callable[..., Exception]) -> None:
        """Raises wrong(value, known, colour) where a value of a map has another colour than in a map before.

        colours: the map's palette, uint8 [n, 3]; entries that no pixel has say nothing. values: uint8 [h, w].
        """
        # A histogram takes a tenth of np.unique's time.
        counts = cv2.calcHist([np.ascontiguousarray(values)], [0], None, [256], [0, 256])
        for value in np.flatnonzero(counts).tolist():
            colour = tuple(colours[value].tolist()) if value < len(colours) else ()
            before = self.known.setdefault(value, (colour, name))
            if before[0] != colour:
                raise wrong(value, before, colour)
