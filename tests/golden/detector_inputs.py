"""What both sides of the comparison of a whole detector are given: maps, weights, objects and settings."""

import numpy as np

try:
    from tests.golden.named_values import value
except ImportError:  # as a program in this folder
    from named_values import value

CANVAS, EXTENT = (64, 96), (47, 79)  # of each image; its own multiple of 32 is the canvas
COUNT, WIDTH, HIDDEN, CLASSES = 2, 8, 16, 5
STRIDES = (4, 8, 16, 32)
SWIN = tuple((6 * 2**stage, CANVAS[0] // stride, CANVAS[1] // stride) for stage, stride in enumerate(STRIDES))
PER_LEVEL, PROPOSALS = 60, 40  # in training and in the test
SCORE, THRESHOLD, DETECTIONS, CANDIDATES = 0.25, 0.5, 10, PROPOSALS * CLASSES
SCALE = (0.5, 2.0)  # by how much heights and widths were multiplied when the images were resized
# Of the first image; the second has none. The last two overlap so much that they compete for proposals. With odd sides
# no bin of a mask target is covered by one half, where rounding would decide: detector.py checks it.
BOXES = np.float32([(2, 3, 40, 45), (60, 4, 78, 30), (20.5, 6.25, 76, 46.5), (24.5, 8.25, 78.75, 46.25)])
LABELS = np.array([2, 0, 4, 1])
LARGE = {"deltas": 0.15, "objectness": 2.0, "classify": 2.0}  # a layer's kernel is so many times value's


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """In PyTorch's layout, of 'box_head/deltas.weight'. Deltas are small, so that boxes stay near their anchors, and
    answers differ enough that their order is no matter of rounding."""
    layer = name.split("/")[1].removesuffix(".weight")
    small = 0.1 if name.endswith(".bias") else LARGE.get(layer, 1.0) if name.startswith(("anchor", "box")) else 1.0
    return value(f"whole/{name}", shape) * np.float32(small)


def maps() -> list[np.ndarray]:
    """An encoder's, float32 [COUNT, channels, height, width], in PyTorch's layout."""
    return [value(f"whole/map_{number}", (COUNT, *shape)) for number, shape in enumerate(SWIN, start=1)]


def bitmaps() -> np.ndarray:
    """bool [objects, *CANVAS]: the ellipse in each box."""
    y, x = np.mgrid[: CANVAS[0], : CANVAS[1]] + 0.5
    x0, y0, x1, y1 = (side[:, None, None] for side in BOXES.T)
    return ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 <= 1
