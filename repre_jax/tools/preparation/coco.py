"""COCO 2017, or a data set of one's own in COCO's JSON, for `python -m repre_jax.tools.prepare coco`."""

import argparse
import shlex
import types
from pathlib import Path

import tensorflow_datasets as tfds

from repre_jax.core.errors import UserError
from repre_jax.data import reading
from repre_jax.data.coco import builder, images
from repre_jax.data.coco.converting import Converter
from repre_jax.data.coco.images import Found, Part
from repre_jax.system import terminal
from repre_jax.tools.preparation import written

FETCH = (
    "  fetch:    train2017.zip (19 GB), val2017.zip (0.8 GB) and annotations_trainval2017.zip (0.3 GB) from\n"
    "            https://cocodataset.org/#download into that folder; free, without an account"
)
OWN = ("images", "annotations", "name")  # the flags of a data set of one's own


def prepare(arguments: argparse.Namespace, root: Path) -> str:
    """Writes it below `root`; returns what to say. Raises UserError where it cannot."""
    is_own = any(getattr(arguments, key) for key in OWN)
    name = written.own_name(arguments.name) if is_own else f"{builder.NAME}/{builder.CONFIG}"
    change = f"{written.ELSEWHERE}, or another --name" if is_own else written.ELSEWHERE
    written.refuse_taken(root, name, builder.VERSION, change)
    terminal.say(f"Reading the annotations in {arguments.origin}; of COCO that takes a minute and 4 GB of memory.")
    if is_own:
        found = images.find(_own(arguments), counts={})
    else:
        parts, missing = images.official(arguments.origin)
        found = images.find(parts, images.COUNTS)
        _refuse_parts(missing, found, arguments)
    _say(found, arguments)
    masks = bool(found.masks) and not arguments.boxes_only
    converter = Converter(masks)
    reader = reading.Reader(converter, arguments.skip_unreadable, FIT)
    kind = types.new_class(
        "Coco", (builder.CocoInstances,), {"skip_registration": True}, lambda b: b.update(_named(name))
    )
    written.write(kind(found, reader, masks=masks, **written.place(root)), found.size(), reader)
    for line in converter.lines():
        terminal.warn(f"  {line}")
    without = {} if masks else {"config": "configs/detect.py:boxes"}
    command = written.command(root, **{"config": "configs/detect.py"} | without, **{"data.name": name}, init_from="RUN")
    return f"Written. To train on it:  {command}"


FIT = ("readable image of the annotations' size", "readable images of their annotations' sizes")


def _named(name: str) -> dict:
    plain, _, config = name.partition("/")
    description = "COCO 2017: train2017 and val2017 with their instances."
    configs = [tfds.core.BuilderConfig(name=config, version=builder.VERSION, description=description)] if config else []
    return {"name": plain, "BUILDER_CONFIGS": configs}


def _own(arguments: argparse.Namespace) -> dict[str, Part]:
    if not arguments.images or not arguments.annotations:
        lacking = " and ".join(f"--{key}" for key in ("images", "annotations") if not getattr(arguments, key))
        raise UserError(
            f"{lacking} missing, for a data set of one's own.\n"
            "  expected: --images=FOLDER, of images, and --annotations=FILE, COCO's JSON, both from --from=DIR on\n"
            "  change:   them, or leave --images, --annotations and --name out for COCO itself"
        )
    return images.own(arguments.origin, arguments.images, arguments.annotations)


def _refuse_parts(missing: list[str], found: Found, arguments: argparse.Namespace) -> None:
    lines = [*missing, *found.missing]
    if "train" not in found.splits or (lines and not arguments.partial):
        raise UserError(
            f"COCO is not whole in {arguments.origin}."
            + "".join(f"\n  missing:  {line}" for line in lines)
            + f"\n{FETCH}"
            + ("\n  change:   --partial, to go on with what is there" if "train" in found.splits else "")
            + "\n  or:       --name=NAME --images=FOLDER --annotations=FILE, for a data set of one's own"
        )


def _say(found: Found, arguments: argparse.Namespace) -> None:
    """What was found and mended. Raises UserError where images are missing that may not be."""
    if "train" not in found.splits or (found.missing and not arguments.partial):
        raise UserError(
            "Images are missing, or their paths are other ones than the annotations'."
            + "".join(f"\n  missing:  {line}" for line in found.missing)
            + f"\n  change:   --images={shlex.quote(' '.join(arguments.images or ['FOLDER']))} to where they lie"
            + ("; or --partial, to go on with what is there" if "train" in found.splits else "")
        )
    for split, some in found.splits.items():
        objects = sum(len(entry.annotations) for entry in some.entries)
        terminal.say(f"  {split:<11} {len(some):>9,} images with {objects:,} objects in {arguments.origin}")
    for note in found.notes:
        terminal.warn(f"  {note}")
    if not found.masks:
        terminal.warn("  No object has a segmentation: boxes alone are kept, for configs/detect.py:boxes.")
