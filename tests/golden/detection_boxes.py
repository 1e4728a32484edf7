"""Boxes, maps and masks that both sides of the comparison with torchvision make of a name."""

import numpy as np

try:
    from tests.golden.named_values import value
except ImportError:  # as a program in this folder
    from named_values import value

CANVAS = (96, 128)
STRIDES = (4, 8, 16, 32)
LEVELS = tuple((CANVAS[0] // stride, CANVAS[1] // stride) for stride in STRIDES)
CHANNELS = 3
THRESHOLDS = (0.3, 0.5, 0.7)
STDS = (0.1, 0.1, 0.2, 0.2)
REGIONS = 40


def boxes(name: str, count: int, canvas: tuple[int, int] = CANVAS, spread: float = 0.25) -> np.ndarray:
    """float32 [count, 4] around the middle of the canvas; the larger the spread, the more of them cross its border."""
    height, width = canvas
    corners = 0.5 + spread * value(name, (count, 2, 2))
    corners = np.sort(np.clip(corners, -0.1, 1.1), axis=1) * (width, height)
    return corners.reshape(count, 4).astype(np.float32)


def crowded() -> np.ndarray:
    """float32 [500, 4]: 25 heaps of 20 that overlap much."""
    found = np.repeat(boxes("heaps", 25), 20, axis=0) + 3 * value("crowded", (500, 4))
    return np.sort(found.reshape(-1, 2, 2), axis=1).reshape(-1, 4).astype(np.float32)


def regions() -> np.ndarray:
    """For RoIAlign: anywhere; empty; thin ones in both directions; the canvas; on whole cells; all longer than 0 have
    sides that are no larger than the canvas's."""
    found = boxes("regions", REGIONS)
    height, width = CANVAS
    found = found.clip(0, [width, height, width, height]) + value("shift", (REGIONS, 1)) * 2
    fixed = [[5, 5, 5, 40], [7, 9, 7, 9], [0, 3, width, 5], [3, 0, 4, height], [0, 0, width, height]]
    fixed += [[8, 16, 36, 44], [8, 16, 64, 72], [100, 60, width, height], [0, 0, 1, 1], [-2, -2, 20, 20]]
    found[: len(fixed)] = fixed
    return found.astype(np.float32)


def level_maps() -> list[np.ndarray]:
    """Of each level [h, w, C]."""
    return [value(f"level_{stride}", (*size, CHANNELS)) for stride, size in zip(STRIDES, LEVELS, strict=True)]


def masks(count: int = 4, canvas: tuple[int, int] = CANVAS) -> np.ndarray:
    """bool [count, H, W]: discs."""
    y, x = np.mgrid[: canvas[0], : canvas[1]]
    centres = value("centres", (count, 2)) * 20 + np.array(canvas) / 2
    radii = 12 + 6 * np.arange(count)
    return np.stack([np.hypot(y - a, x - b) < r for (a, b), r in zip(centres, radii, strict=True)])


def mask_regions(count: int = 24) -> np.ndarray:
    """Within the canvas, float32 [count, 4]."""
    height, width = CANVAS
    return boxes("mask_regions", count).clip(0, np.float32([width, height, width, height]))
