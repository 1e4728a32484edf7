"""Writes a data set in TFDS's layout, as ArrayRecord, without TensorFlow.

  python -m repre_jax.tools.prepare imagenet2012 --from DIR     DIR: the official archives, train/ and val/ folders, or
                                                                the hub's parquet shards
  python -m repre_jax.tools.prepare cityscapes --from DIR       DIR: the two official zips, or what they extract to
  python -m repre_jax.tools.prepare coco --from DIR             DIR: the official zips, or what they extract to
  python -m repre_jax.tools.prepare coco --from DIR --name N --images FOLDER --annotations FILE ...
                                                                any data set with objects in COCO's JSON
  python -m repre_jax.tools.prepare folder --from DIR --name N  any folder of images; also measures mean and std
  python -m repre_jax.tools.prepare convert DIR                 DIR: TFDS's own in TFRecord, its version's folder

What is written appears under its name only when it is whole. An interrupted start is begun anew by the next, which
keeps the files that were converted.
"""

import argparse
import sys
import types
from collections.abc import Sequence
from pathlib import Path

from repre_jax.builders import augmentation
from repre_jax.core import config_paths
from repre_jax.core.errors import UserError
from repre_jax.data import conversion, crops, deep, folder, imagenet, measuring, reading, record_files, sources, writing
from repre_jax.system import command_line, terminal
from repre_jax.tools.preparation import cityscapes, coco, written


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("imagenet2012", "cityscapes", "coco", "folder", "convert"))
    parser.add_argument("place", nargs="?", metavar="DIR", help="convert: .../imagenet2012/5.1.0, or alike")
    parser.add_argument("--from", dest="origin", metavar="DIR", help="where the images lie")
    parser.add_argument("--data-dir", help="where data sets lie; else $TFDS_DATA_DIR, else ~/tensorflow_datasets")
    parser.add_argument("--name", help="of one's own data set, as --config.data.name will have it")
    parser.add_argument(
        "--channels", type=int, default=3, help="of a folder's images: 3 (RGB), 1 (grey) or as many as they have"
    )
    parser.add_argument(
        "--value-range",
        type=float,
        nargs=2,
        action="append",
        metavar=("LOW", "HIGH"),
        help="of a folder's images of more than 8 bits: the values that become black and white; once, or once for each "
        "channel; else as measured",
    )
    parser.add_argument(
        "--images", nargs="+", metavar="FOLDER", help="coco: of one's own images, from --from on; a folder or a zip"
    )
    parser.add_argument(
        "--annotations",
        nargs="+",
        metavar="FILE",
        help="coco: of one's own, from --from on: to train on and, if there is a second one, to test on",
    )
    parser.add_argument("--boxes-only", action="store_true", help="coco: keep the objects' boxes, and no masks")
    parser.add_argument(
        "--partial", action="store_true", help="ImageNet, Cityscapes, COCO: also when images are missing"
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out what is no readable image")
    parser.add_argument("--quiet", action="store_true", help="say only what went wrong, and the result")
    arguments = parser.parse_intermixed_args(argv)
    converts = arguments.what == "convert"
    if (arguments.place if converts else arguments.origin) is None:
        parser.error("convert is given a folder: convert DIR" if converts else "--from=DIR is missing")
    if (arguments.origin if converts else arguments.place) is not None:
        parser.error(
            "convert has no --from: convert DIR"
            if converts
            else f"unexpected argument {arguments.place!r}; where the images lie is --from=DIR"
        )
    crops.set_up_process()
    return command_line.exit_status(
        lambda: _run(arguments),
        "Interrupted. The same command goes on, with the files that are not converted yet."
        if converts
        else "Interrupted; nothing was written. The same command begins anew.",
        quiet=arguments.quiet,
    )


def _run(arguments: argparse.Namespace) -> None:
    converts = arguments.what == "convert"
    given = arguments.place if converts else arguments.origin
    if not given:  # as an unset variable leaves it; it would be the current folder
        raise UserError(f"A folder is missing: {given!r}.\n  change:   {'convert DIR' if converts else '--from=DIR'}")
    origin = config_paths.local(given)
    if converts:
        print(_convert(arguments), flush=True)
        return
    arguments.origin = origin
    if not arguments.origin.is_dir():
        raise UserError(f"{arguments.origin} is not a folder.\n  change:   --from=DIR")
    prepare = {"imagenet2012": _imagenet, "cityscapes": cityscapes.prepare, "coco": coco.prepare, "folder": _folder}[
        arguments.what
    ]
    print(prepare(arguments, sources.data_root(arguments.data_dir)), flush=True)


def _convert(arguments: argparse.Namespace) -> str:
    job = conversion.plan(Path(arguments.place), arguments.data_dir)
    terminal.say(
        f"{record_files.counted(len(job.shards))} in {job.place}, to be converted and written to {job.target}."
    )
    with writing.at(job.target):
        writing.check_disk(job.target, job.size(), job.size())
        job.run()
    name = {} if job.name == "imagenet2012" else {"data.name": job.name}
    return f"Written. To train on it:  {written.command(job.root, **name)}"


def _imagenet(arguments: argparse.Namespace, root: Path) -> str:
    written.refuse_taken(root, imagenet.ImageNet.name, str(imagenet.ImageNet.VERSION))
    terminal.say(f"Listing the images in {arguments.origin}; in an archive that takes a while.")
    found = imagenet.find(arguments.origin)
    missing = found.missing()
    for split, place in found.places.items():
        terminal.say(f"  {split:<11} {len(found.entries.get(split, ())):>9,} images in {place}")
    for split, listed in found.shards.items():
        terminal.say(f"  {split:<11} {listed.compared:>9,} labels compared with what names of files or classes tell")
    if not found.entries.get("train") or (missing and not arguments.partial):
        lines = "".join(f"\n  missing:  {line}" for line in missing)
        raise UserError(
            f"ImageNet is not whole in {arguments.origin}.{lines}\n"
            "  fetch:    both archives from https://image-net.org (free, with an account) into that folder"
            f"{', or these shards again' if found.shards else ''}\n"
            + ("  change:   --partial, to go on with what is there" if found.entries else "")
        )
    reader = reading.Reader(lambda image, split: imagenet.as_rgb_jpeg(image), skip=arguments.skip_unreadable)
    written.write(imagenet.ImageNet(found, reader, **written.place(root)), found.size(), reader)
    return f"Written. To train on it:  {written.command(root)}"


def _folder(arguments: argparse.Namespace, root: Path) -> str:
    name = written.own_name(arguments.name)
    written.refuse_taken(root, name, str(folder.FolderBuilder.VERSION), f"{written.ELSEWHERE}, or another --name")
    found = folder.scan(arguments.origin)
    for note in found.notes:
        terminal.warn(f"  {note}")
    for split, images in found.splits.items():
        labelled = f"{len(found.classes)} classes" if found.classes and images.labels else "no labels"
        terminal.say(f"  {split:<11} {len(images):>9,} images, {labelled}")
    value_range = _value_range(arguments) or measuring.of_arrays(found.splits, arguments.channels)
    statistics = measuring.Statistics(arguments.channels, value_range)
    reader = reading.Reader(statistics.stored, skip=arguments.skip_unreadable)
    kind = types.new_class(
        "Folder", (folder.FolderBuilder,), {"skip_registration": True}, lambda b: b.update(name=name)
    )
    builder = kind(found, arguments.channels, reader, statistics.result, **written.place(root))
    written.write(builder, sum(images.size() for images in found.splits.values()), reader)
    for line in statistics.lines():
        terminal.say(f"  {line}")
    channels = {} if arguments.channels == augmentation.RGB else {"data.channels": arguments.channels}
    return f"Written. To train on it:  {written.command(root, **{'data.name': name}, **channels)}"


def _value_range(arguments: argparse.Namespace) -> deep.Ranges | None:
    given = arguments.value_range
    if given is None:
        return None
    if len(given) not in (1, arguments.channels):
        raise UserError(
            f"--value-range is there {len(given)} times.\n"
            f"  expected: once, for all channels, or once for each of {arguments.channels}"
        )
    for low, high in given:
        if not low < high:
            raise UserError(f"--value-range is {low:g} {high:g}.\n  expected: the lower value first, as in 0 4095")
    return tuple((low, high) for low, high in given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
