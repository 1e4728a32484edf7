"""Images as they are written to a data set: read, checked and converted ahead of the writer."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from PIL import Image

from repre_jax.core import passing
from repre_jax.core.errors import UserError
from repre_jax.data import crops, folder, imagenet, imagenet_parquet
from repre_jax.data.cityscapes import archives
from repre_jax.data.coco import images as coco
from repre_jax.system import terminal

THREADS = min(16, os.cpu_count() or 1)
SHOWN = 50  # files in a message
WANTED = ("readable image", "readable images")
UNREADABLE = (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError, UserError)
Found = (
    imagenet.Images | imagenet_parquet.Listed | folder.ImageFolder | archives.Pairs | coco.Listed
)  # whose records have 'image', which is converted
AHEAD = 64  # images that are read and checked ahead of the writer


class Reader:
    """Reads images ahead of the writer and keeps the names of those that are not whole."""

    def __init__(self, convert: Callable[[Any, str], Any], skip: bool, wanted: tuple[str, str] = WANTED):
        """convert: an image as it was found, and its split -> as it is written; raises for what is no whole image.
        skip: leave such images out. wanted: what one of them is not, and what several are not."""
        self.convert, self.skip, self.wanted = convert, skip, wanted
        self.unreadable: list[str] = []

    def __call__(self, split: str, images: Found) -> Iterator[dict]:
        """Each record, its image converted, in their order. Raises UserError at the end if one could not be read."""
        waiting: deque = deque()
        before = len(self.unreadable)
        rest = iter(range(len(images)))
        with ThreadPoolExecutor(THREADS) as pool, terminal.bar(len(images), f"  {split}") as bar:
            while True:
                waiting.extend(pool.submit(self._read, split, images, i) for i in islice(rest, AHEAD - len(waiting)))
                if not waiting:
                    break
                record = waiting.popleft().result()
                bar.update()
                if isinstance(record, str):
                    self.unreadable.append(record)
                else:
                    yield record
        terminal.say(f"  {split}: all are read; now they are shuffled and written.")
        self._check(split, len(images), len(self.unreadable) - before)

    def _check(self, split: str, images: int, unreadable: int) -> None:
        """Raises UserError where the split has no readable image, or one that is none and may not be left out."""
        named, change, (one, several) = self.unreadable, "fetch these files again", self.wanted
        if unreadable == images:
            named = self.unreadable[-images:]
            what = (
                f"None of the {images:,} files of {split} is a {one}"
                if images > 1
                else f"The one file of {split} is no {one}"
            )
            change += ", or --from=DIR to another folder"
        elif self.unreadable and not self.skip:
            count = len(self.unreadable)
            what = f"1 file is no {one}" if count == 1 else f"{count:,} files are not {several}"
            change += ", or --skip-unreadable, to leave them out"
        else:
            return
        lines = "".join(f"  {line}\n" for line in named[:SHOWN])
        raise UserError(f"{what}; nothing was written.\n{lines}  change:   {change}")

    def _read(self, split: str, images: Found, index: int) -> dict | str:
        """The record, or the name of its file and what is wrong with it."""
        name = images.name(index)
        try:
            record = images[index]
            return record | {"image": self.convert(record["image"], split)}
        except UNREADABLE as error:
            passing.check(error, f"{name} cannot be read")
            return f"{name}: {crops.reason(error).splitlines()[0]}"
