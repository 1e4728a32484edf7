"""Writes what a trained detector finds: boxes and masks of objects, as COCO's programs take them.

  python -m repre_jax.tools.detect RUN                         the test images of the data set that RUN was trained on
  python -m repre_jax.tools.detect RUN --split train           those of another split
  python -m repre_jax.tools.detect RUN --images a.jpg photos   one's own pictures, of any size, and folders of them

RUN is the workdir of a run of configs/detect.py. To RUN/predictions, or to --out, go detections.json, COCO's results
with the masks, detections_boxes.json with the boxes in the same order (of a detector of boxes detections.json has
them), and images.json, which image and which category a number is: COCO("images.json").loadRes("detections.json").
What is called so there is replaced. `tools.figures detection RUN --images a.jpg` draws instead.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from repre_jax.core import config_paths, passing, run_files, sharding
from repre_jax.core.errors import UserError
from repre_jax.data import crops, listing
from repre_jax.data.views import VALUE_RANGE
from repre_jax.evaluation.detected import Result
from repre_jax.pretrained import detector
from repre_jax.pretrained.detector import Detector
from repre_jax.probing import detecting
from repre_jax.system import command_line, terminal
from repre_jax.tasks.figures.segmentation import read_image

INTERRUPTED = "Interrupted. Nothing was written."
IMAGES = "images.json"


@dataclass(frozen=True)
class Pictures:
    """Images to find objects in. read(number) gives an id, a name and uint8 [H, W, C]; raises crops.UnreadableImage and
    OSError."""

    count: int
    read: Callable[[int], tuple[int, str, np.ndarray]]


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--images", nargs="+", type=Path, default=[], metavar="PATH")
    parser.add_argument("--split", help="of the data set, as TFDS writes it; else the run's test split")
    parser.add_argument("--data", metavar="NAME", help="another data set of the same categories")
    parser.add_argument("--data-dir", help="where data sets lie; else the run's")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"else RUN/{run_files.PREDICTIONS}")
    parser.add_argument("--step", type=int, help="of the checkpoint; else the newest whole one")
    parser.add_argument("--score", type=float, help="that a detection must exceed; else the run's, 0.05 by default")
    arguments = parser.parse_args(argv)
    return command_line.exit_status(lambda: _detect(arguments), INTERRUPTED)


def _detect(arguments: argparse.Namespace) -> None:
    run = config_paths.absolute(arguments.run)
    if arguments.score is not None and not 0 <= arguments.score < 1:
        raise UserError(f"--score is {arguments.score}.\n  expected: from 0 up to, but not, 1")
    found = detector.load(run, arguments.step, sharding.make_mesh(jax.device_count()), keys="--")
    if arguments.score is not None:
        found = found.above(arguments.score)
    pictures = _own(arguments, found) if arguments.images else _records(arguments, found)
    out = config_paths.absolute(arguments.out or run / run_files.PREDICTIONS)
    with run_files.made(out):
        run_files.check_writable(out)
        known, boxes, masks = _found(pictures, found)
        if not known["images"]:
            raise UserError("None of these images could be read: nothing was written.")
        files = {run_files.DETECTIONS: masks, run_files.DETECTIONS_OF_BOXES: boxes}
        if not found.config.detect.masks:
            files = {run_files.DETECTIONS: boxes}
        for name, content in {IMAGES: known, **files}.items():
            run_files.replace(out / name, json.dumps(content) + "\n")
    print(f"Written: {len(boxes):,} detections in {len(known['images']):,} images, to {out}")


def _own(arguments: argparse.Namespace, found: Detector) -> Pictures:
    """Those at the paths given, and in folders. Their ids are the numbers that they are called by, as COCO's are, else
    1 and so on. Raises UserError where a folder has none."""
    if arguments.split or arguments.data or arguments.data_dir:
        raise UserError("--images are of no data set.\n  change:   leave --split, --data and --data-dir out")
    paths: list[Path] = []
    for path in map(config_paths.absolute, arguments.images):
        if not run_files.is_folder(path):
            paths.append(path)
            continue
        inside = [path / name for name in sorted(listing.list_images(path).files)]
        if not inside:
            raise UserError(f"{path} has no images.\n  expected: {', '.join(listing.SUFFIXES)}")
        paths += inside
    numbers = [int(path.stem) if path.stem.isascii() and path.stem.isdecimal() else 0 for path in paths]
    if 0 in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(1, len(paths) + 1))
    return Pictures(
        len(paths), lambda place: (numbers[place], paths[place].name, read_image(paths[place], found.config))
    )


def _records(arguments: argparse.Namespace, found: Detector) -> Pictures:
    """The test images of a data set. Raises UserError where it cannot be had, or has other categories."""
    config = found.config.copy_and_resolve_references()
    for key, given in (("name", arguments.data), ("dir", arguments.data_dir), ("test_split", arguments.split)):
        if given is not None:
            config.data[key] = config_paths.stored(f"data.{key}", given)
    data = detecting.open_data(config, found.mean, found.std)
    detecting.check_categories(found.categories, data)
    records = data.dataset.split("test")

    def read(number: int) -> tuple[int, str, np.ndarray]:
        record = records[number]
        image = crops.decode(record["image"], config.data.channels, record.get(VALUE_RANGE))
        return record["image_id"], record.get("file_name") or str(number), image

    return Pictures(len(records), read)


def _found(pictures: Pictures, found: Detector) -> tuple[dict[str, list], list[Result], list[Result]]:
    """(What images.json says, boxes, masks). Images that cannot be read are named and left out."""
    images: list[Result] = []
    boxes: list[Result] = []
    masks: list[Result] = []
    with terminal.bar(pictures.count, "detecting") as bar:
        for number in range(pictures.count):
            bar.update(1)
            try:
                identity, name, image = pictures.read(number)
            except (crops.UnreadableImage, OSError) as error:
                passing.check(error, "An image cannot be read")
                terminal.warn(f"Warning: image {number:,} cannot be read, and is left out: {error}")
                continue
            each = found.raw(image, identity)
            height, width = each.size
            images.append({"id": identity, "file_name": name, "height": height, "width": width})
            boxes += each.of_boxes(found.categories)
            masks += each.of_masks(found.categories)
    known = {"images": images, "annotations": [], "categories": found.categories.listed()}
    return known, boxes, masks


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
