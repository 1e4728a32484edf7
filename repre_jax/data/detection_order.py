"""The order of images for a detector: batches of one orientation, which a crop may turn.

Each epoch's draws decide, so it is computed from the seed, the epoch and the stored sizes; no image is read for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repre_jax.data import loader
from repre_jax.data.many_draws import ManyDraws
from repre_jax.data.order import LANDSCAPE, PORTRAIT, Grouped
from repre_jax.data.resizing import Resizing, Size

CHECKED = 64  # records, spread evenly, that are drawn one by one too, in case a NumPy to come draws otherwise


@dataclass(frozen=True, eq=False)  # of an array
class Orientations:
    """(seed, epoch) -> LANDSCAPE or PORTRAIT, int64 [records], as the views will draw it: 0.2 s an epoch for COCO.

    sizes: int [records, 2], height and width of each record's image as it is stored.
    """

    sizes: np.ndarray
    how: Resizing

    def __call__(self, seed: int, epoch: int) -> np.ndarray:
        sizes = np.maximum(self.sizes, 1)  # 0 of what cannot be read
        if not self.how.crop:  # nothing turns
            return _orientations(sizes)
        draws = ManyDraws(loader.seed_of_draws(seed, epoch), len(sizes))
        found = self.how.drawn_of_all(sizes, draws)
        checked = draws.strayed.copy()
        checked[np.linspace(0, len(sizes) - 1, CHECKED, dtype=int)] = True
        one_by_one = self._drawn(seed, epoch, np.flatnonzero(checked))
        if (found[checked] != one_by_one)[~draws.strayed[checked]].any():  # a NumPy that draws otherwise
            return _orientations(self._drawn(seed, epoch, np.arange(len(sizes))))
        found[checked] = one_by_one
        return _orientations(found)

    def _drawn(self, seed: int, epoch: int, numbers: np.ndarray) -> np.ndarray:
        """The same as Resizing.drawn_of_all, of these records, one by one."""
        found = []
        for number in numbers.tolist():
            height, width = np.maximum(self.sizes[number], 1).tolist()
            placement = self.how.drawn((height, width), loader.draws(seed, epoch, number))
            found.append(placement.before_last((height, width)))
        return np.array(found)


def _orientations(sizes: np.ndarray) -> np.ndarray:
    """As Resizing.canvas has it."""
    return np.where(sizes[:, 0] > sizes[:, 1], PORTRAIT, LANDSCAPE)


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
    portrait = (_orientations(sizes) == PORTRAIT) & (len(how.canvases) > 1)
    parts = zip(how.canvases, (~portrait, portrait), strict=False)
    return [(canvas, np.flatnonzero(some)) for canvas, some in parts if some.any()]
