"""Masks as run lengths, in COCO's compressed form, which pycocotools reads and writes.

A mask is read column by column. Its runs take turns, the first one of zeros, which may be empty. From the fourth on a
run is stored as its difference from the one before the last, in groups of five bits, as characters from '0' on.
"""

import itertools

import numpy as np


def encode(mask: np.ndarray) -> bytes:
    """COCO's `counts` of a mask [H, W], bool or 0 and 1."""
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    runs = np.diff(edges).tolist()
    return compressed([0, *runs] if flat.size and flat[0] else runs)


def decode(counts: bytes | str, height: int, width: int) -> np.ndarray:
    """The mask, bool [height, width]. Raises ValueError where the runs are of another size."""
    runs = np.array(uncompressed(counts), np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"These run lengths are of {runs.sum():,} pixels, and {height} x {width} are wanted.")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def area(counts: bytes | str) -> int:
    """Pixels of the mask."""
    return sum(uncompressed(counts)[1::2])


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """COCO's box of a mask [H, W]: (x, y, width, height) in pixels; x and y are the first column and row that it
    touches, width and height how many from there to the last. Zeros where the mask is empty."""
    rows, columns = (np.flatnonzero(np.asarray(mask, bool).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def compressed(runs: list[int]) -> bytes:
    """Lengths of runs -> COCO's characters."""
    text = bytearray()
    for place, run in enumerate(runs):
        rest = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            group, rest = rest & 31, rest >> 5
            # Enough once what is left is the sign, which the group's highest bit repeats.
            more = rest != (-1 if group & 16 else 0)
            text.append((group | (32 if more else 0)) + 48)
    return bytes(text)


def uncompressed(counts: bytes | str) -> list[int]:
    """COCO's characters -> lengths of runs. Raises ValueError where they break off."""
    runs: list[int] = []
    text = iter(counts.encode() if isinstance(counts, str) else counts)
    for first in text:
        value, shift = 0, 0
        for character in itertools.chain([first], text):
            group = character - 48
            value |= (group & 31) << shift
            shift += 5
            if not group & 32:
                break
        else:
            raise ValueError("These run lengths break off.")
        if group & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
