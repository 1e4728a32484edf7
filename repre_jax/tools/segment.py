"""Writes what a trained segmentation predicts: a label map for each image, as a PNG.

  python -m repre_jax.tools.segment RUN                        the test images of the data set that RUN was trained on
  python -m repre_jax.tools.segment RUN --split test           those of another split, as for Cityscapes' test server
  python -m repre_jax.tools.segment RUN --images a.jpg photos  one's own pictures, of any size, and folders of them

RUN is the workdir of a run of configs/segment.py. A label map has one channel, the size and the name of its image, and
the values that the data set's own label maps have: of Cityscapes labelIds, under names that its test server takes;
where these are pictures in colours, the numbers of the classes, from 0. They go to RUN/predictions, or to --out; what
has such a name there is replaced. What the flags do not say of a data set, keys do: --config.data.KEY=VALUE, as in
configs/segment.py.

One image is segmented at a time, its windows together, and several devices are no faster than one: so an image may have
any size, be smaller than the crop, too, and one that cannot be read costs no other its label map.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import jax
import numpy as np

from repre_jax.core import config_paths, passing, run_files, sharding
from repre_jax.core.config_paths import FOLDER
from repre_jax.core.errors import UserError
from repre_jax.data import crops
from repre_jax.data.listing import SUFFIXES
from repre_jax.data.views import VALUE_RANGE
from repre_jax.evaluation.windows import SlidingTest
from repre_jax.pretrained import segmenter
from repre_jax.pretrained.segmenter import Segmenter
from repre_jax.probing import segmenting
from repre_jax.system import command_line, terminal
from repre_jax.tasks.figures.segmentation import read_image
from repre_jax.tools import which_images

INTERRUPTED = "Interrupted. The label maps that were written are whole."
LISTED = 40  # classes whose values are said at the end
COLOURED = "-coloured"  # how the folder of pictures ends; in the same one the test server would take them for others


@dataclass(frozen=True)
class Pictures:
    """Images to be segmented. read(number) gives what each is called, None where nobody knows, and uint8 [H, W, C];
    raises crops.UnreadableImage and OSError."""

    count: int
    read: Callable[[int], tuple[str | None, np.ndarray]]


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", type=config_paths.argument, metavar="RUN")
    which_images.add_flags(parser, "classes")
    parser.add_argument("--out", type=config_paths.argument, metavar="DIR", help=f"else RUN/{run_files.PREDICTIONS}")
    parser.add_argument(
        "--coloured", action="store_true", help=f"pictures in the classes' colours, too, to DIR{COLOURED}"
    )
    parser.add_argument("--step", type=int, help="of the checkpoint; else the newest whole one")
    parser.add_argument("--scales", nargs="+", type=float, metavar="SCALE", help="the mean of several; else the run's")
    parser.add_argument("--flip", action="store_true", help="the mean of each image and its mirror image")
    arguments = which_images.parsed(parser, argv)
    return command_line.exit_status(lambda: _segment(arguments), INTERRUPTED)


def _segment(arguments: argparse.Namespace) -> None:
    run = config_paths.absolute(arguments.run)
    found = segmenter.load(run, arguments.step, sharding.make_mesh(jax.device_count()), keys="--")
    how = _how(arguments, found)
    out = config_paths.absolute(arguments.out or run / run_files.PREDICTIONS)
    pictures = _own(arguments, found, out) if arguments.images else _records(arguments, found, run, out)
    with run_files.made(out):
        run_files.check_writable(out)
        written = _write(pictures, found, how, out, coloured=arguments.coloured)
        others = [file for file in run_files.files_below(out) if file not in written]
    if not written:
        raise UserError("None of these images could be read: nothing was written.")
    print(f"Written: {len(written):,} label maps in {out}")
    if others:
        terminal.warn(
            f"Warning: {len(others):,} other files lie there, of earlier commands, such as {others[0]}: --out to an "
            "empty folder has these label maps alone."
        )
    if len(found.classes) <= LISTED:
        values = found.classes.values(np.arange(len(found.classes), dtype=np.uint8))
        print(
            f"Values: {', '.join(f'{value} {name}' for value, name in zip(values, found.classes.names, strict=True))}"
        )


def _how(arguments: argparse.Namespace, found: Segmenter) -> SlidingTest:
    scales = found.how.scales if arguments.scales is None else tuple(arguments.scales)
    if not all(0.01 <= scale <= 100 for scale in scales):
        raise UserError(f"--scales is {' '.join(map(str, scales))}.\n  expected: numbers of 0.01 to 100")
    return dataclasses.replace(found.how, scales=scales, flip=found.how.flip or arguments.flip)


def _own(arguments: argparse.Namespace, found: Segmenter, out: Path) -> Pictures:
    """Those at the paths given. Raises UserError where two would have one name, or a label map replace a picture."""
    pictures = which_images.of_paths(arguments)
    names = [file_of(name) for name, _ in pictures]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(
            f"Two images would have one label map, {min(twice)}.\n"
            "  change:   one command for each, with --out to another folder"
        )
    theirs = {config_paths.resolved(path) for _, path in pictures}
    if replaced := [out / name for name in names if config_paths.resolved(out / name) in theirs]:
        raise UserError(
            f"{replaced[0]} is one of the images, and would be replaced by a label map.\n"
            "  change:   --out=DIR, another folder"
        )

    def read(number: int) -> tuple[str | None, np.ndarray]:
        name, path = pictures[number]
        return name, read_image(path, found.config)

    return Pictures(len(pictures), read)


def _records(arguments: argparse.Namespace, found: Segmenter, run: Path, out: Path) -> Pictures:
    """The test images of a data set. Raises UserError where it cannot be had, or has other classes."""
    config = which_images.of_data_set(arguments, found.config, run)
    if arguments.out:
        _refuse_among_images(out, config.data.name)
    data = segmenting.open_data(config, found.mean, found.std)
    segmenting.check_classes(found, data)
    records = data.dataset.split("test")

    def read(number: int) -> tuple[str | None, np.ndarray]:
        record = records[number]
        image = crops.decode(record["image"], config.data.channels, record.get(VALUE_RANGE))
        return record.get("file_name"), image

    return Pictures(len(records), read)


def _write(pictures: Pictures, found: Segmenter, how: SlidingTest, out: Path, *, coloured: bool) -> set[str]:
    """Returns the files that were written, below `out`. Those that cannot be read are named and left out."""
    taken: set[str] = set()
    with terminal.bar(pictures.count, "segmenting") as bar:
        for number in range(pictures.count):
            bar.update(1)
            try:
                name, image = pictures.read(number)
            except UserError as error:  # of a picture at a path
                terminal.warn(f"Warning: {str(error).splitlines()[0]} It has no label map.")
                continue
            except (crops.UnreadableImage, OSError) as error:
                passing.check(error, "An image cannot be read")
                terminal.warn(f"Warning: image {number:,} cannot be read, and has no label map: {error}")
                continue
            file = file_of(name or f"{number:06d}")
            file = file if file not in taken else f"{file.removesuffix('.png')}-{number}.png"
            taken.add(file)
            label_map = found(image, how)
            _write_png(out / file, found.classes.values(label_map))
            if coloured:
                painted = found.classes.painted(label_map)[..., ::-1]  # as OpenCV orders colours
                _write_png(out.with_name(out.name + COLOURED) / file, painted)
    return taken


def file_of(name: str) -> str:
    """The label map of an image that is called so, below their folder: 'berlin/a.jpg' -> 'berlin/a.png'."""
    path = PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("/", "..")))
    last = path.stem if path.suffix.lower() in SUFFIXES else path.name
    return str(path.parent / f"{last}.png")


def _write_png(path: Path, pixels: np.ndarray) -> None:
    """In one go. pixels: uint8 [H, W], or [H, W, 3] as blue, green, red."""
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels))
    run_files.make_folder(path.parent, parents=True)
    with run_files.replacing(path, "wb") as file:
        file.write(encoded.tobytes())


def _refuse_among_images(out: Path, data_name: str) -> None:
    """Raises UserError where the label maps would be images of a data set that is a folder."""
    if not data_name.startswith(FOLDER):
        return
    images = config_paths.resolved(data_name.removeprefix(FOLDER))
    if config_paths.resolved(out).is_relative_to(images):
        raise UserError(
            f"--out is {out}, in the folder of images {images}: label maps would be some of them.\n"
            "  change:   --out=DIR, another folder"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
