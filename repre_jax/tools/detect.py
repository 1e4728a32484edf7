"""Writes what a trained detector finds: boxes and masks of objects, as COCO's programs take them.

  python -m repre_jax.tools.detect RUN                         the test images of the data set that RUN was trained on
  python -m repre_jax.tools.detect RUN --split train           those of another split
  python -m repre_jax.tools.detect RUN --images a.jpg photos   one's own pictures, of any size, and folders of them

RUN is the workdir of a run of configs/detect.py. To RUN/predictions, or to --out, go detections.json, COCO's results
with the masks, detections_boxes.json with the boxes in the same order (of a detector of boxes detections.json has
them), and images.json, which image and which category a number is: COCO("images.json").loadRes("detections.json").
What is called so there is replaced. What the flags do not say of a data set, keys do: --config.data.KEY=VALUE, as in
configs/detect.py. `tools.figures detection RUN --images a.jpg` draws instead.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from repre_jax.core import config_paths, run_files, sharding
from repre_jax.core.errors import UserError
from repre_jax.evaluation.batches import never
from repre_jax.evaluation.detected import Result
from repre_jax.evaluation.detection_run import DetectionRun
from repre_jax.pretrained import detector
from repre_jax.pretrained.detector import Detector
from repre_jax.probing import detecting
from repre_jax.system import command_line, terminal
from repre_jax.tasks.figures.segmentation import read_image
from repre_jax.tools import which_images

INTERRUPTED = "Interrupted. Nothing was written."
IMAGES = "images.json"


# (What images.json says of them, boxes, masks) of the images that can be read.
Found = tuple[list[Result], list[Result], list[Result]]
Find = Callable[[], Found]


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", type=config_paths.argument, metavar="RUN")
    which_images.add_flags(parser, "categories")
    parser.add_argument("--out", type=config_paths.argument, metavar="DIR", help=f"else RUN/{run_files.PREDICTIONS}")
    parser.add_argument("--step", type=int, help="of the checkpoint; else the newest whole one")
    parser.add_argument("--score", type=float, help="that a detection must exceed; else the run's, 0.05 by default")
    arguments = which_images.parsed(parser, argv)
    return command_line.exit_status(lambda: _detect(arguments), INTERRUPTED)


def _detect(arguments: argparse.Namespace) -> None:
    run = config_paths.absolute(arguments.run)
    if arguments.score is not None and not 0 <= arguments.score < 1:
        raise UserError(f"--score is {arguments.score}.\n  expected: from 0 up to, but not, 1")
    mesh = sharding.make_mesh(jax.device_count())
    found = detector.load(run, arguments.step, mesh, keys="--")
    if arguments.score is not None:
        found = found.above(arguments.score)
    find = _own(arguments, found) if arguments.images else _records(arguments, found, run, mesh)
    out = config_paths.absolute(arguments.out or run / run_files.PREDICTIONS)
    with run_files.made(out):
        run_files.check_writable(out)
        images, boxes, masks = find()
        if not images:
            raise UserError("None of these images could be read: nothing was written.")
        known = {"images": images, "annotations": [], "categories": found.categories.listed()}
        files = {run_files.DETECTIONS: masks, run_files.DETECTIONS_OF_BOXES: boxes}
        if not found.config.detect.masks:
            files = {run_files.DETECTIONS: boxes}
        for name, content in {IMAGES: known, **files}.items():
            run_files.replace(out / name, json.dumps(content) + "\n")
    print(f"Written: {len(boxes):,} detections in {len(images):,} images, to {out}")


def _own(arguments: argparse.Namespace, found: Detector) -> Find:
    """In the pictures at the paths given, and in folders. Their ids are the numbers that they are called by, as COCO's
    are, else 1 and so on. Raises UserError where a folder has none."""
    paths = [path for _, path in which_images.of_paths(arguments)]
    numbers = [int(path.stem) if path.stem.isascii() and path.stem.isdecimal() else 0 for path in paths]
    if 0 in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(1, len(paths) + 1))
    return lambda: one_by_one(list(zip(numbers, paths, strict=True)), found)


def one_by_one(pictures: Sequence[tuple[int, Path]], found: Detector) -> Found:
    """pictures: ids and paths. The next one is decoded while the device is at one. Those that cannot be read are named
    and left out."""
    images: list[Result] = []
    boxes: list[Result] = []
    masks: list[Result] = []
    with terminal.bar(len(pictures), "detecting") as bar, ThreadPoolExecutor(1) as pool:
        following = [pool.submit(read_image, path, found.config) for _, path in pictures[:1]]
        for number, (identity, path) in enumerate(pictures):
            read = following.pop()
            following += [pool.submit(read_image, path, found.config) for _, path in pictures[number + 1 : number + 2]]
            bar.update(1)
            try:
                image = read.result()
            except UserError as error:
                terminal.warn(f"Warning: {str(error).splitlines()[0]} It is left out.")
                continue
            each = found.raw(image, identity)
            images.append(_listed(identity, path.name, each.size))
            boxes += each.of_boxes(found.categories)
            masks += each.of_masks(found.categories)
    return images, boxes, masks


def _records(arguments: argparse.Namespace, found: Detector, run: Path, mesh: Mesh) -> Find:
    """In the test images of a data set. Raises UserError where it cannot be had, or has other categories."""
    config = which_images.of_data_set(arguments, found.config, run)
    data = detecting.open_data(config, found.mean, found.std)
    detecting.check_categories(found.categories, data)
    return lambda: all_at_once(detecting.whole_split(config, data, mesh, found.detections), found.params)


def all_at_once(whole: DetectionRun, params: Any) -> Found:
    """In all images of a split, as a run's own test does it. Those that cannot be read are named and left out."""
    rows = whole.rows(params, never)
    for number in sorted({*range(len(whole.records))} - {row["record"] for row in rows}):
        terminal.warn(f"Warning: image {number:,} cannot be read, and is left out.")
    images = []
    for row in rows:
        record = whole.records[row["record"]]
        name = record.get("file_name") or str(row["record"])
        images.append(_listed(record["image_id"], name, row["size"]))
    boxes, masks = ([each for row in rows for each in row[what]] for what in ("boxes", "masks"))
    return images, boxes, masks


def _listed(identity: int, name: str, size: Sequence[int]) -> Result:
    """What images.json says of an image."""
    return {"id": identity, "file_name": name, "height": size[0], "width": size[1]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
