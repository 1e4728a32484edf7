"""A label map as it is stored, a PNG or an array -> the class of each pixel.

Stored are values, one a pixel, or colours, which a table of classes explains. What a program would read as something
else than was meant is refused: a JPEG has changed values, a coloured picture has none.
"""

import functools
import io
from typing import Any, NoReturn

import cv2
import numpy as np
from PIL import Image

from repre_jax.core.errors import UserError
from repre_jax.data import crops, deep, label_palettes, png
from repre_jax.data.label_classes import IGNORED, UNKNOWN, Classes, Colour

GREY, PALETTE = 0, 3  # a PNG's colour types
DEPTH, TYPE = 24, 25  # where a PNG's first chunk has its bits a channel, and its colour type
FORMATS = ("PNG", "TIFF", "BMP", "GIF", "PPM")  # without loss
SHOWN = 8  # values in a message
CLASSES_FILE = "classes.txt"


class WrongLabelMap(UserError):
    """A label map that was read, and is not what the data set was said to hold. The next one will hardly be better, so
    that it is not passed over, as an unreadable image is."""


def classes_of(encoded: bytes | np.ndarray, classes: Classes, size: tuple[int, int], name: Any = None) -> np.ndarray:
    """The class of each pixel, uint8 [h, w], IGNORED where there is none.

    size: height and width of the image. name: of the record, for messages.
    Raises UnreadableImage for what is no whole picture, and WrongLabelMap for one of another size, with values or
    colours that no class has, or with a palette in which a value has another colour than in a map read before.
    """
    stored = read(encoded, name)
    if stored.shape[:2] != size:
        raise WrongLabelMap(
            f"A label map has another size than its image{_of(name)}.\n"
            f"  expected: {size[0]:,} x {size[1]:,} pixels (height x width)\n"
            f"  given:    {stored.shape[0]:,} x {stored.shape[1]:,}\n"
            "  change:   the label map, to one made for this image; enlarge it by nearest neighbour, never by blending"
        )
    if classes.coded:
        return _of_colours(stored, classes, encoded, name)
    if stored.ndim == 3:
        refuse_colours(name)
    if stored.dtype != np.uint8 and (stored.min() < 0 or stored.max() > IGNORED):
        raise WrongLabelMap(unknown_values(np.unique(stored[(stored < 0) | (stored > IGNORED)]), classes, name))
    found = classes.of_values(stored.astype(np.uint8, copy=False))
    if (found == UNKNOWN).any():
        raise WrongLabelMap(unknown_values(np.unique(stored[found == UNKNOWN]), classes, name))
    if (own := colours(encoded)) is not None:
        classes.palettes.check(own, stored, name, functools.partial(_other_palette, name))
    return found


def read(encoded: bytes | np.ndarray, name: Any = None) -> np.ndarray:
    """What is stored: values, integers [h, w], or, of a picture in colours, uint8 [h, w, 3].

    Of a picture with a palette these are its indices. name: of the record, for messages.
    Raises UnreadableImage, and WrongLabelMap for a JPEG.
    """
    if isinstance(encoded, np.ndarray):
        return _flat(encoded)
    if encoded.startswith(deep.NUMPY):
        try:
            return _flat(np.load(io.BytesIO(encoded), allow_pickle=False))
        except (OSError, ValueError, EOFError, SyntaxError) as error:
            raise crops.UnreadableImage(f"{len(encoded):,} bytes are not a readable .npy file: {error}") from None
    if encoded.startswith(b"\xff\xd8"):
        raise WrongLabelMap(
            f"A label map is a JPEG{_of(name)}, which changes values to save room: the classes are lost.\n"
            "  expected: a PNG of one channel, whose values are the classes\n"
            "  change:   the label maps, to PNGs made anew from what the JPEGs were made of"
        )
    if (found := png.decode_large_map(encoded, crops.MAX_PIXELS)) is not None:
        return found
    if (found := png.decode_large(encoded, crops.MAX_PIXELS)) is not None:
        return _flat(found)
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            return _flat(_from_pillow(image, encoded))
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
        raise crops.UnreadableImage(f"{len(encoded):,} bytes are no readable label map: {error}") from None


def colours(encoded: bytes | np.ndarray) -> np.ndarray | None:
    """The palette of a picture that has one, uint8 [n, 3]; else None. Raises as `read` does."""
    if isinstance(encoded, np.ndarray) or encoded.startswith(deep.NUMPY):
        return None
    if encoded.startswith(deep.PNG) and encoded[TYPE] != PALETTE:
        return None
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        found = image.getpalette("RGB")
    return None if found is None else np.array(found, np.uint8).reshape(-1, 3)


def refuse_colours(name: Any = None) -> NoReturn:
    """Raises WrongLabelMap: it is a picture, and nobody says what its colours mean."""
    raise WrongLabelMap(
        f"A label map is a picture in colours{_of(name)}, and nobody says which class each is.\n"
        "  expected: a PNG of one channel, whose values are the classes, 0, 1, ..., and 255 for ignored pixels\n"
        f"  change:   in a folder, write a file {CLASSES_FILE} beside images/ and labels/, with a line for each\n"
        "            class: 'red green blue name', such as '128 64 128 road', in the order of the classes'\n"
        "            numbers, and with the name 'ignored' for colours that are ignored"
    )


def unknown_values(found: np.ndarray, classes: Classes, name: Any = None) -> str:
    """The message on values that no class has."""
    known = [value for value in range(256) if classes.table[value] < len(classes)]
    whole = known == list(range(known[0], known[-1] + 1))
    return (
        f"A label map has values that stand for no class{_of(name)}.\n"
        f"  expected: {f'{known[0]} to {known[-1]}' if whole else ', '.join(map(str, known))}, the values of"
        f" {len(classes)} classes, and {IGNORED}, which is ignored\n"
        f"  given:    {_shown(found)}\n"
        "  change:   the label maps; or --config.data.num_classes, if there are more classes"
    )


def _other_palette(name: Any, value: int, before: label_palettes.Known, colour: label_palettes.Colour) -> WrongLabelMap:
    """The message on a map whose palette contradicts that of another."""
    one, other = (_called(each) or "another" for each in (before[1], name))
    one += " of another split" if one == other else ""
    return WrongLabelMap(
        "Label maps have palettes that differ.\n"
        "  expected: values that are classes, the same in every map\n"
        f"  given:    value {value}, which is {before[0]} in {one}, and {colour} in {other}\n"
        f"  change:   in a folder, write a file {CLASSES_FILE} beside images/ and labels/, with a line\n"
        "            'red green blue name' for each class, by which the colours are read; else the label maps,\n"
        "            to some that all have one palette"
    )


def _from_pillow(image: Image.Image, encoded: bytes) -> np.ndarray:
    if image.mode in ("RGB", "RGBA"):
        return np.asarray(image.convert("RGB"))
    if image.mode in ("LA", "PA"):
        return np.asarray(image)[..., 0]
    values = np.asarray(image)
    if image.mode == "L" and encoded.startswith(deep.PNG) and encoded[TYPE] == GREY and encoded[DEPTH] < 8:
        # Pillow spreads 2 and 4 bits over 0..255.
        return values // (255 // ((1 << encoded[DEPTH]) - 1))
    return values


def _flat(stored: np.ndarray) -> np.ndarray:
    """Without the axis of channels, where they are one or all the same."""
    if stored.dtype == bool:
        stored = stored.astype(np.uint8)
    if stored.dtype.kind not in "iu" or stored.ndim not in (2, 3) or not stored.size:
        raise crops.UnreadableImage(f"An array of shape {stored.shape} and type {stored.dtype} is no label map.")
    if stored.ndim == 2:
        return stored
    if stored.shape[2] not in (1, 3):
        raise crops.UnreadableImage(f"A label map has {stored.shape[2]} channels; expected 1, or 3 of a picture.")
    first = stored[..., 0]
    return first if stored.shape[2] == 1 or (stored == first[..., np.newaxis]).all() else stored


def _of_colours(stored: np.ndarray, classes: Classes, encoded: bytes | np.ndarray, name: Any) -> np.ndarray:
    table = _by_colour(tuple(sorted(classes.coded.items())))
    if (own := colours(encoded)) is not None:
        every = own[np.minimum(np.arange(256), len(own) - 1)]
        found = cv2.LUT(stored, table[_numbers(every[np.newaxis])[0]])
        if (unknown := found == UNKNOWN).any():
            raise WrongLabelMap(_unknown_colours(every[stored[unknown]], classes, name))
        return found
    if stored.ndim == 2:  # grey: all channels were the same
        stored = np.repeat(stored[..., np.newaxis], 3, axis=2)
    if stored.dtype != np.uint8 and (beyond := (stored < 0) | (stored > 255)).any():
        raise WrongLabelMap(_unknown_colours(stored[beyond.any(axis=2)], classes, name))
    found = table[_numbers(stored.astype(np.uint8, copy=False))]
    if (unknown := found == UNKNOWN).any():
        raise WrongLabelMap(_unknown_colours(stored[unknown], classes, name))
    return found


def _unknown_colours(found: np.ndarray, classes: Classes, name: Any) -> str:
    """The message on colours, [n, 3], that no class has."""
    wrong = np.unique(found, axis=0)
    more = f" and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
    return (
        f"A label map has colours that stand for no class{_of(name)}.\n"
        f"  expected: one of the {len(classes.coded)} colours in {CLASSES_FILE}\n"
        f"  given:    {', '.join(' '.join(map(str, colour)) for colour in wrong[:SHOWN])}{more}\n"
        f"  change:   {CLASSES_FILE}: a line 'red green blue name' for each, named 'ignored' if it is to be ignored"
    )


@functools.lru_cache(maxsize=1)  # a data set's: 16 MiB, of which a map touches few
def _by_colour(coded: tuple[tuple[Colour, int], ...]) -> np.ndarray:
    """A colour's number -> its class, uint8 [2^24], UNKNOWN where there is none."""
    table = np.full(1 << 24, UNKNOWN, np.uint8)
    colours, values = zip(*coded, strict=True)
    table[_numbers(np.array([colours], np.uint8))[0]] = values
    return table


def _numbers(picture: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] -> red << 16 | green << 8 | blue, uint32 [h, w]."""
    four = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGRA)
    return four.view("<u4")[..., 0] & 0xFFFFFF


def _shown(values: np.ndarray) -> str:
    more = f" and {len(values) - SHOWN:,} more" if len(values) > SHOWN else ""
    return ", ".join(map(str, values[:SHOWN].tolist())) + more


def _of(name: Any) -> str:
    return "" if name is None else f", that of {_called(name)}"


def _called(name: Any) -> str:
    return "" if name is None else name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def resized(classes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Label map [h, w] -> [size[0], size[1]] by nearest neighbour, as OpenCV takes it."""
    if classes.shape == size:
        return classes
    return cv2.resize(classes, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
