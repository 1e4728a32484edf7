"""Orders of the training records: pure functions of (seed, epoch), so that a run can go on from any step.

Every worker and host computes the same order for itself, from an index of the records and without decoding one.
"""

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import grain
import numpy as np
import simplejpeg
from PIL import Image

from repre_jax.core.types import Records
from repre_jax.data import crops

ORDER = 1  # which of an epoch's random streams it is; data/loader.py has the crops'
JPEG = b"\xff\xd8"
LANDSCAPE, PORTRAIT, UNKNOWN = 0, 1, -1
FAULTS = (OSError, ValueError, EOFError, SyntaxError, RuntimeError, IndexError)  # of what is no image


class Order(Protocol):
    """What data/loader.train_batches asks of an order. Worker processes pickle it."""

    @property
    def batch_size(self) -> int | None:
        """Places that belong together, which a batch must have; None: any will do."""
        ...

    @property
    def alike(self) -> str:
        """What the records that replace each other have in common, after 'records'; empty: all do."""
        ...

    def __len__(self) -> int:
        """Places of an epoch, the same for each."""
        ...

    def from_place(self, seed: int, epoch: int, place: int) -> Iterator[int]:
        """The number of the record at that place, then of those that replace it where it cannot be read."""
        ...


@functools.lru_cache(maxsize=2)
def epoch_order(records: int, seed: int, epoch: int) -> np.ndarray:
    """The numbers of all records, int64 [records], in the shuffled order of this epoch."""
    return np.random.default_rng((seed, epoch, ORDER)).permutation(records)


@dataclass(frozen=True)
class Shuffled:
    """Each of `records` records once an epoch; one that cannot be read is replaced by the epoch's next."""

    records: int
    batch_size: ClassVar[None] = None
    alike: ClassVar[str] = ""

    def __len__(self) -> int:
        return self.records

    def from_place(self, seed: int, epoch: int, place: int) -> Iterator[int]:
        order = epoch_order(self.records, seed, epoch)
        return (int(order[(place + offset) % len(order)]) for offset in range(len(order)))


@dataclass(frozen=True, eq=False)  # compared by identity, which the cache below goes by
class Grouped:
    """Batches of one group each, so that groups may have samples of different shapes.

    groups: int [records], the group of each record. batch_size: of the global batch, B.
    In an epoch each group's records are shuffled, filled up to a multiple of B by repeating the first of them, and cut
    into batches; these are shuffled together. A record that cannot be read is replaced by the epoch's next of its
    group. Raises ValueError without records.
    """

    groups: np.ndarray
    batch_size: int
    alike: ClassVar[str] = " of one group"

    def __post_init__(self) -> None:
        if not len(self.groups) or self.batch_size < 1:
            raise ValueError(f"{len(self.groups)} records cannot be put into batches of {self.batch_size}.")

    @functools.cached_property
    def places(self) -> int:
        """Of an epoch: each group's records, rounded up to whole batches."""
        _, counts = np.unique(self.groups, return_counts=True)
        return int((-(-counts // self.batch_size) * self.batch_size).sum())

    def __len__(self) -> int:
        return self.places

    def from_place(self, seed: int, epoch: int, place: int) -> Iterator[int]:
        order = grouped_order(self, seed, epoch)
        yield (first := int(order[place]))
        following = np.roll(order, -place)
        yield from map(int, following[self.groups[following] == self.groups[first]])


@functools.lru_cache(maxsize=2)
def grouped_order(order: Grouped, seed: int, epoch: int) -> np.ndarray:
    """The numbers of the records at all places of this epoch, int64 [places]."""
    rng, batches = np.random.default_rng((seed, epoch, ORDER)), []
    for group in np.unique(order.groups):
        numbers = rng.permutation(np.flatnonzero(order.groups == group))
        filled = np.resize(numbers, -(-len(numbers) // order.batch_size) * order.batch_size)  # repeats from the start
        batches.append(filled.reshape(-1, order.batch_size))
    return rng.permutation(np.concatenate(batches)).reshape(-1)


def by_orientation(source: Records) -> np.ndarray:
    """LANDSCAPE (or square) or PORTRAIT for each record, int64 [records], by the headers of the images: for Grouped.

    Records without a readable header join the larger group, where others replace them.
    """

    def orientation(number: int) -> int:
        try:
            height, width = image_size(source[number]["image"])
        except (crops.UnreadableImage, OSError):
            return UNKNOWN
        return PORTRAIT if height > width else LANDSCAPE

    crops.set_up_process()
    index = grain.MapDataset.range(len(source)).map(orientation).to_iter_dataset()
    groups = np.fromiter(index, np.int64, len(source))
    larger = PORTRAIT if (groups == PORTRAIT).sum() > (groups == LANDSCAPE).sum() else LANDSCAPE
    return np.where(groups == UNKNOWN, larger, groups)


def image_size(encoded: bytes | np.ndarray) -> tuple[int, int]:
    """Height and width, by the header alone: those that crops.decode gives it. Raises UnreadableImage."""
    try:
        if isinstance(encoded, np.ndarray):
            return encoded.shape[0], encoded.shape[1]
        if encoded.startswith(crops.NUMPY):
            return image_size(np.load(io.BytesIO(encoded), allow_pickle=False))
        if encoded[:2] == JPEG:
            height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
            return height, width
        with Image.open(io.BytesIO(encoded), formats=crops.FORMATS) as image:
            return image.height, image.width
    except (*FAULTS, Image.DecompressionBombError) as error:
        raise crops.UnreadableImage(f"{len(encoded):,} bytes have no readable image header: {error}") from None
