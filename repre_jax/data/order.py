"""Orders of the training records: pure functions of (seed, epoch), so that a run can go on from any step.

Every worker and host computes the same order for itself, from an index of the records and without decoding one.
"""

import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import grain
import numpy as np
import simplejpeg
from PIL import Image

from repre_jax.core import passing
from repre_jax.core.types import Records
from repre_jax.data import crops, deep

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

    groups: int [records], the group of each record; or (seed, epoch) -> such an array, a function that can be pickled,
    for groups that depend on what an epoch draws, such as the orientation after a random crop. batch_size: of the
    global batch, B. records, kinds: how many records and groups there are; to be given with a function.
    In an epoch each group's records are shuffled, filled up to a multiple of B by repeating the first of them, and cut
    into batches; these are shuffled together, and where a function gives fewer than its epochs have, some come twice.
    A record that cannot be read is replaced by the epoch's next of its group. Raises ValueError without records, and
    when a function gives more groups than `kinds`, which an epoch would have no places for.
    """

    groups: np.ndarray | Callable[[int, int], np.ndarray]
    batch_size: int
    records: int = 0
    kinds: int = 1
    alike: ClassVar[str] = " of one group"

    def __post_init__(self) -> None:
        count = self.records if callable(self.groups) else len(self.groups)
        if not count or self.batch_size < 1:
            raise ValueError(f"{count} records cannot be put into batches of {self.batch_size}.")

    @functools.cached_property
    def places(self) -> int:
        """Of an epoch: each group's records, rounded up to whole batches; with a function as many as that can be."""
        if callable(self.groups):
            return (-(-self.records // self.batch_size) + self.kinds - 1) * self.batch_size
        _, counts = np.unique(self.groups, return_counts=True)
        return int((-(-counts // self.batch_size) * self.batch_size).sum())

    def __len__(self) -> int:
        return self.places

    def groups_of(self, seed: int, epoch: int) -> np.ndarray:
        """The group of each record in this epoch, int [records]."""
        return self.groups(seed, epoch) if callable(self.groups) else self.groups

    def from_place(self, seed: int, epoch: int, place: int) -> Iterator[int]:
        order, groups = grouped_order(self, seed, epoch)
        yield (first := int(order[place]))
        following = np.roll(order, -place)
        yield from map(int, following[groups[following] == groups[first]])


@functools.lru_cache(maxsize=2)
def grouped_order(order: Grouped, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the records at all places of this epoch, int64 [places], and the group of each record."""
    rng, batches, groups = np.random.default_rng((seed, epoch, ORDER)), [], order.groups_of(seed, epoch)
    kinds = np.unique(groups)
    if callable(order.groups) and len(kinds) > order.kinds:
        raise ValueError(f"Epoch {epoch} has {len(kinds)} groups, but Grouped was given kinds={order.kinds}.")
    for group in kinds:
        numbers = rng.permutation(np.flatnonzero(groups == group))
        filled = np.resize(numbers, -(-len(numbers) // order.batch_size) * order.batch_size)  # repeats from the start
        batches.append(filled.reshape(-1, order.batch_size))
    shuffled = rng.permutation(np.concatenate(batches))
    return np.resize(shuffled, order.places), groups


def by_orientation(source: Records) -> np.ndarray:
    """LANDSCAPE (or square) or PORTRAIT for each record, int64 [records], by the headers of the images: for Grouped.

    Records without a readable header join the larger group, where others replace them.
    """

    def orientation(number: int) -> int:
        try:
            height, width = image_size(source[number]["image"])
        except (crops.UnreadableImage, OSError) as error:
            passing.check(error, "A record cannot be read")
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
        if encoded.startswith(deep.NUMPY):
            return image_size(np.load(io.BytesIO(encoded), allow_pickle=False))
        if encoded[:2] == JPEG:
            height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
            return height, width
        with Image.open(io.BytesIO(encoded), formats=crops.FORMATS) as image:
            return image.height, image.width
    except (*FAULTS, Image.DecompressionBombError) as error:
        raise crops.UnreadableImage(
            f"{len(encoded):,} bytes have no readable image header: {crops.reason(error)}"
        ) from None
