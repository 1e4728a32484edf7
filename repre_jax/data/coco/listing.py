"""One file of annotations in COCO's JSON: its images, categories and objects, and what is mended or refused in it.

A rule that is applied is said in a note; what nobody can mend raises UserError. Masks are looked at when an image is
read (coco/objects.py).
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from repre_jax.core.errors import UserError
from repre_jax.data.coco.objects import lacks_area

SHOWN = 5  # of a kind, in a message
LARGEST = 2**53  # of an id: what JSON's readers agree on


class Entry(NamedTuple):
    """An image as the file lists it. size: height and width, None where the file does not say. annotations: of its
    objects, each with 'id' and 'category_id'."""

    identity: int
    file_name: str
    size: tuple[int, int] | None
    annotations: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Listing:
    """What a file says.

    images: by rising id. categories: {'id', 'name'} of each, in the file's order, which numbers the classes.
    notes: what was mended, a line each. masks: how many objects have a segmentation.
    """

    images: Sequence[Entry]
    categories: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    masks: int

    @property
    def objects(self) -> int:
        """How many there are, crowds among them."""
        return sum(len(image.annotations) for image in self.images)


def parse(content: bytes, name: str) -> Listing:
    """Of the file's bytes. name: what to call it. Raises UserError where it is not what it should be."""
    tables = _tables(content, name)
    categories, notes = _categories(tables["categories"], name)
    _check_images(tables["images"], name)
    objects, of_objects = _objects(tables, {each["id"] for each in categories}, name)
    sizes = {each["id"]: _size(each, name) for each in tables["images"]}
    images = [
        Entry(each["id"], str(each["file_name"]), sizes[each["id"]], objects.get(each["id"], ()))
        for each in sorted(tables["images"], key=lambda each: each["id"])
    ]
    masks = sum(bool(each.get("segmentation")) for some in objects.values() for each in some)
    return Listing(images, categories, [*notes, *of_objects], masks)


def _tables(content: bytes, name: str) -> dict[str, list[dict]]:
    try:
        found = json.loads(content)
    except ValueError as error:  # UnicodeDecodeError is one
        raise UserError(f"{name} is no JSON, or half a file: {error}.\n  change:   fetch or write it again") from None
    wanted = ("images", "annotations", "categories")
    if not isinstance(found, dict) or not all(_is_table(found.get(key)) for key in wanted):
        given = ", ".join(found) if isinstance(found, dict) else f"a {type(found).__name__}"
        raise UserError(
            f"{name} is no file of objects in COCO's JSON.\n"
            f"  expected: an object with the lists {', '.join(wanted)}, such as instances_val2017.json\n"
            f"  given:    {given}\n"
            "  change:   --annotations=FILE"
        )
    if not found["images"] or not found["categories"]:
        what = "images" if not found["images"] else "categories"
        raise UserError(f"{name} lists no {what}.\n  change:   --annotations=FILE")
    return {key: found[key] for key in wanted}


def _is_table(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(each, dict) for each in found)


def _categories(listed: Sequence[Mapping], name: str) -> tuple[list[dict], list[str]]:
    _check_ids([each.get("id") for each in listed], "categories", name)
    nameless = [each["id"] for each in listed if not str(each.get("name") or "").strip()]
    notes = [f"{len(nameless):,} categories have no name, and are called by their ids: {_some(nameless)}"]
    found = [{"id": each["id"], "name": str(each.get("name") or "").strip() or str(each["id"])} for each in listed]
    return found, notes if nameless else []


def _check_images(listed: Sequence[Mapping], name: str) -> None:
    _check_ids([each.get("id") for each in listed], "images", name)
    if lacking := [each["id"] for each in listed if not each.get("file_name")]:
        _refuse(name, f"{len(lacking):,} images have no file_name: those of ids {_some(lacking)}", "their file names")


def _check_ids(ids: Sequence[Any], what: str, name: str) -> None:
    """Raises UserError for ids of images or categories that are no whole numbers, or are there twice."""
    if wrong := [each for each in ids if not _is_id(each)]:
        _refuse(
            name, f"{len(wrong):,} {what} have ids that are no whole numbers from 0 on: {_some(wrong)}", "their ids"
        )
    if doubled := [each for each, count in Counter(ids).items() if count > 1]:
        _refuse(name, f"{len(doubled):,} ids of {what} are there more than once: {_some(doubled)}", "an id for each")


def _is_id(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and 0 <= found < LARGEST


def _size(image: Mapping, name: str) -> tuple[int, int] | None:
    sides: list[Any] = [image.get("height"), image.get("width")]
    if sides == [None, None]:
        return None
    if not all(_is_number(each) and each >= 1 and each == int(each) for each in sides):
        _refuse(name, f"image {image['id']} has height {sides[0]} and width {sides[1]}", "whole numbers, or neither")
    return int(sides[0]), int(sides[1])


def _objects(
    tables: Mapping[str, list[dict]], categories: set[int], name: str
) -> tuple[dict[int, list[Mapping]], list[str]]:
    """(Image's id -> its annotations, notes)."""
    listed, images = tables["annotations"], {each["id"] for each in tables["images"]}
    unknown = [each.get("category_id") for each in listed if each.get("category_id") not in categories]
    if unknown:
        some = _some(sorted(set(map(str, unknown))))
        _refuse(name, f"{len(unknown):,} annotations are of categories that are not listed: {some}", "the categories")
    for number, each in enumerate(listed):
        _check_annotation(each, f"annotation {each.get('id', f'number {number}')}", name)
    kept = [each for each in listed if each.get("image_id") in images]
    notes = [
        f"{len(listed) - len(kept):,} annotations are of images that are not listed, and are left out",
        _count(kept, "area", "no area above 0: it is that of the mask, or of the box where there is none"),
        _count(kept, "iscrowd", "no iscrowd: they are no crowds"),
        _count(kept, "bbox", "no bbox: it is the smallest one around the mask"),
    ]
    used = [bool(len(listed) - len(kept)), *(any(_lacks(each, key) for each in kept) for key in OPTIONAL)]
    notes = [note for note, is_used in zip(notes, used, strict=True) if is_used]
    ids = [each.get("id") for each in kept]
    if not all(_is_id(each) and each for each in ids) or len(set(ids)) != len(ids):
        notes.append(
            "Annotations have ids that are 0, doubled, missing or no whole numbers, which scoring would take for no "
            "object: all are numbered anew, from 1"
        )
        kept = [{**each, "id": number} for number, each in enumerate(kept, 1)]
    found: dict[int, list[Mapping]] = {}
    for each in kept:
        found.setdefault(each["image_id"], []).append(each)
    return found, notes


OPTIONAL = ("area", "iscrowd", "bbox")


def _count(listed: Iterable[Mapping], key: str, what: str) -> str:
    return f"{sum(_lacks(each, key) for each in listed):,} annotations have {what}"


def _lacks(each: Mapping, key: str) -> bool:
    return lacks_area(each) if key == "area" else each.get(key) is None


def _check_annotation(each: Mapping, what: str, name: str) -> None:
    box, area, crowd = each.get("bbox"), each.get("area"), each.get("iscrowd")
    if box is None and not each.get("segmentation"):
        _refuse(name, f"{what} has neither bbox nor segmentation", "one of them, or leave it out")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        _refuse(name, f"{what} has the bbox {box}", "x, y, width and height in pixels")
    if not (area is None or _is_number(area)) or crowd not in (0, 1, None):
        _refuse(name, f"{what} has area {area} and iscrowd {crowd}", "a number of pixels; 0 or 1")


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and math.isfinite(found)


def _refuse(name: str, what: str, change: str) -> NoReturn:
    raise UserError(f"{name} cannot be used: {what}.\n  change:   {change}, in this file")


def _some(found: Sequence[Any], text: Callable[[Any], str] = str) -> str:
    more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    return ", ".join(map(text, found[:SHOWN])) + more
