"""What the first records of a data set say of its label maps, so that a run that cannot work ends at its start."""

import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import numpy as np
from PIL import Image

from repre_jax.core import passing
from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import crops, deep, label_maps
from repre_jax.data.label_classes import IGNORED, Classes
from repre_jax.system import terminal

LOOKED_AT = 8  # records of each split
THREADS = min(16, os.cpu_count() or 1)
UNREADABLE = (crops.UnreadableImage, OSError)


def look(records: Records, classes: Classes, name: str) -> bool:
    """Raises UserError where one of some records has a label map with unknown values, of another size than its image,
    or with a palette that contradicts one looked at before, of this split or another. Returns whether any has a pixel
    of a class; warns where none has.

    name: of the data set. Records that cannot be read are left to whoever trains on them.
    """
    seen = readable = 0
    for record in _readable(records):
        found = label_maps.classes_of(record["label_map"], classes, size_of(record["image"]), record.get("file_name"))
        readable += 1
        seen += int((found != IGNORED).sum())
    if readable and not seen:
        terminal.warn(
            f"Warning: of {readable} label maps of {name} that were looked at, none has a pixel of a class: all are "
            "ignored, as in Cityscapes' test split."
        )
    return bool(seen or not readable)


def refuse_unlabelled(records: Records, classes: Classes, name: str) -> None:
    """Raises UserError where no label map at all has a pixel of a class: nothing can be measured by them."""

    def any_class(number: int) -> bool:
        try:
            record = records[number]
            found = label_maps.classes_of(
                record["label_map"], classes, size_of(record["image"]), record.get("file_name")
            )
        except UNREADABLE as error:
            passing.check(error, "A record cannot be read")
            return False
        return bool((found != IGNORED).any())

    with ThreadPoolExecutor(THREADS) as pool:
        if any(pool.map(any_class, range(len(records)))):
            return
    raise UserError(
        f"No label map of the test images of {name} has a pixel of a class: all are ignored, as in Cityscapes' test\n"
        "split, whose labels are not public. There is nothing to measure.\n"
        "  change:   --config.data.test_split, as to 'validation', or a part of train, 'train[90%:]', with\n"
        "            --config.data.train_split='train[:90%]'; `python -m repre_jax.tools.segment RUN --split SPLIT`\n"
        "            writes label maps of such images"
    )


def are_coloured(records: Records) -> bool:
    """Whether one of some label maps is a picture: in colours, or by a palette."""
    for record in _readable(records):
        encoded = record["label_map"]
        if label_maps.colours(encoded) is not None or label_maps.read(encoded, record.get("file_name")).ndim == 3:
            return True
    return False


def refuse_uncounted(records: Records, name: str) -> NoReturn:
    """Raises UserError: nobody says how many classes there are. Says what the first records have."""
    highest = 0
    for record in _readable(records):
        stored = label_maps.read(record["label_map"], record.get("file_name"))
        if stored.ndim == 3:
            label_maps.refuse_colours(record.get("file_name"))
        some = stored[stored != IGNORED]
        highest = max(highest, int(some.max())) if some.size else highest
    raise UserError(
        f"Data set {name} does not say how many classes its label maps have.\n"
        f"  given:    values up to {highest} in the {min(LOOKED_AT, len(records))} that were looked at, and perhaps "
        f"{IGNORED}\n"
        f"  change:   --config.data.num_classes={highest + 1}, if that is the highest value of all"
        f"{'; of a folder, or names' if name.startswith('folder:') else ''}"
        f"{f' in a file {label_maps.CLASSES_FILE}, a line each' if name.startswith('folder:') else ''}"
    )


def sizes(records: Records, name: str) -> Mapping[tuple[int, int], int]:
    """(Height, width) -> how many images have it, by the headers of all; those that cannot be read are left out.

    Raises UserError where none can be read.
    """

    def size(number: int) -> tuple[int, int] | None:
        try:
            return size_of(records[number]["image"])
        except UNREADABLE as error:
            passing.check(error, "A record cannot be read")
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        found = Counter(pool.map(size, range(len(records))))
    known = {size: count for size, count in found.items() if size is not None}
    if not known:
        raise UserError(f"No record of {name} is a readable image.\n  change:   --config.data.name")
    return known


def mean_pixels(records: Records) -> int:
    """Of an image, by the headers of some; 0 where none of these can be read."""
    some = [size_of(record["image"]) for record in _readable(records)]
    return round(sum(height * width for height, width in some) / len(some)) if some else 0


def size_of(encoded: bytes | np.ndarray) -> tuple[int, int]:
    """(Height, width) of an image, by its header. Raises UnreadableImage."""
    try:
        if not isinstance(encoded, np.ndarray) and encoded.startswith(deep.NUMPY):
            encoded = np.load(io.BytesIO(encoded), allow_pickle=False)
        if isinstance(encoded, np.ndarray):
            return encoded.shape[0], encoded.shape[1]
        with Image.open(io.BytesIO(encoded), formats=crops.FORMATS) as image:
            return image.height, image.width
    except (OSError, ValueError, IndexError, EOFError, SyntaxError, Image.DecompressionBombError) as error:
        raise crops.UnreadableImage(f"{len(encoded):,} bytes are no image: {error}") from None


def _readable(records: Records) -> Iterator[Mapping]:
    """Some of them, evenly spaced."""
    for number in np.unique(np.linspace(0, len(records) - 1, min(LOOKED_AT, len(records))).astype(int)).tolist():
        try:
            record = records[number]
            size_of(record["image"])
            label_maps.read(record["label_map"], record.get("file_name"))
        except UNREADABLE as error:
            passing.check(error, "A record cannot be read")
            continue
        yield record
