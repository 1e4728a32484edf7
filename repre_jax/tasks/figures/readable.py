"""Records for a figure: those that cannot be read are passed over."""

import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

from repre_jax.core import passing
from repre_jax.data import crops

Read = TypeVar("Read")


def first(count: int, numbers: Iterable[int], read: Callable[[int], Read]) -> list[Read]:
    """What `read` gives of the first `count` of the records `numbers` that can be read; fewer where there are fewer."""

    def each() -> Iterable[Read]:
        for number in numbers:
            try:
                yield read(int(number))
            except (crops.UnreadableImage, OSError) as error:
                passing.check(error, "A record cannot be read")

    return list(itertools.islice(each(), count))
