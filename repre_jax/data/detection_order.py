"""The order of images for a detector: batches of one orientation, which a crop may turn.

Each epoch's draws decide, so it is computed from the seed, the epoch and the stored sizes; no image is read for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repre_jax.data import loader
from repre_jax.data.order import LANDSCAPE, PORTRAIT, Grouped
from repre_jax.data.resizing import Resizing, Size


@dataclass(frozen=True, eq=False)  # of an array
class Orientations:
    """(seed, epoch) -> LANDSCAPE or PORTRAIT, int64 [records], as the views will draw it: 0.07 ms a record, which for
    COCO is 8 s an epoch.

    sizes: int [records, 2], height and width of each record's image as it is stored.
    """

    sizes: np.ndarray
    how: Resizing

    def __call__(self, seed: int, epoch: int) -> np.ndarray:
        if not self.how.crop:  # nothing turns
            return np.where(self.sizes[:, 0] > self.sizes[:, 1], PORTRAIT, LANDSCAPE)
        found = np.empty(len(self.sizes), np.int64)
        for number, (height, width) in enumerate(self.sizes.tolist()):
            last = self.how.drawn((height, width), loader.draws(seed, epoch, number)).last
            found[number] = PORTRAIT if last[0] > last[1] else LANDSCAPE
        return found


def grouped(sizes: np.ndarray, how: Resizing, batch_size: int) -> Grouped:
    """The order for data/loader.train_batches; its batches are of one canvas of how.canvases."""
    groups = Orientations(sizes, how)
    if len(how.canvases) == 1:
        return Grouped(np.full(len(sizes), LANDSCAPE), batch_size)
    if not how.crop:  # the same in each epoch, so that its places are known
        return Grouped(groups(0, 0), batch_size)
    return Grouped(groups, batch_size, records=len(sizes), kinds=len(how.canvases))


def by_canvas(sizes: np.ndarray, how: Resizing) -> Sequence[tuple[Size, np.ndarray]]:
    """(Canvas, the numbers of the records that are tested on it, rising) of each canvas that some are."""
    portrait = np.array([how.canvas(how.tested((h, w)).last) != how.canvases[0] for h, w in sizes.tolist()], bool)
    parts = zip(how.canvases, (~portrait, portrait), strict=False)
    return [(canvas, np.flatnonzero(some)) for canvas, some in parts if some.any()]
