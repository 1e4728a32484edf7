"""Where the versions of a TFDS data set lie, and what to write when they do not lie where they are looked for."""

import json
import os
import shlex
from pathlib import Path

import tensorflow_datasets as tfds

from repre_jax.core.errors import UserError
from repre_jax.system import shipped

DEMO_OF_MAPS = "--config configs/segment.py:scenes --config.init_from=RUN"
DEMO_OF_OBJECTS = "--config configs/detect.py:scenes --config.init_from=RUN"
DEMO = "--config configs/moco_vit_s.py:digits --workdir runs/demo"
INFO, FEATURES = "dataset_info.json", "features.json"  # TFDS's
NAMED = 5  # data sets or files, at most, in a message
CONVERTED = "-array_record"  # what the folder of converted data sets is called beside the first one's name


def version_folders(name: str, root: Path, *, objects: bool = False) -> list[Path]:
    """Folders of the prepared versions of data set `name` below `root`, the newest first.

    name: as TFDS writes it: 'cifar10', 'imagenet_resized/64x64', 'cifar10:3.0.2', 'imagenet2012:5.*.*'.
    objects: whether images with objects are looked for, which `prepare coco` writes.
    Raises UserError where there is none, which says what lies there instead, or elsewhere, and what to write.
    """
    plain, _, wanted = name.partition(":")
    found = versions(root / plain)
    chosen = [folder for folder in found if not wanted or matches(folder.name, wanted)]
    if chosen:
        return chosen
    for half in _version_named(root / plain):
        if half not in found and (not wanted or matches(half.name, wanted)) and any(half.iterdir()):
            raise UserError(unfinished(half))
    if found:
        raise UserError(
            f"Data set {plain} is not there in version {wanted}: {root / plain}.\n"
            f"  expected: one of {', '.join(folder.name for folder in reversed(found))}\n"
            f"  change:   {flag('data.name', _meant(plain, wanted, found))}, for the newest of them"
        )
    raise UserError(_elsewhere(plain, root) or how_to_prepare(plain, root, objects=objects))


def versions(place: Path) -> list[Path]:
    """Folders directly below `place` that are called like a version and have a dataset_info.json, the newest first."""
    return [folder for folder in _version_named(place) if (folder / INFO).exists()]


def matches(version: str, wanted: str) -> bool:
    """Whether a version is one of those that `wanted` names, in TFDS's syntax."""
    try:
        return tfds.core.Version(version).match(wanted)
    except ValueError:
        return False


def unfinished(place: Path) -> str:
    """The message on a version's folder that holds something, but no dataset_info.json."""
    names = sorted(path.name for path in place.iterdir())
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return (
        f"{place} has no {INFO}: it is half a copy, or another program's work that did not end.\n"
        f"  given:    {names[0]}{more}\n"
        "  change:   copy it again, or delete this folder and prepare the data set again"
    )


def home(place: Path) -> tuple[Path, str, str]:
    """(the folder that holds data sets, name with configuration, version) of the version's folder `place`.

    Its place tells as much only where the folders have the names that TFDS gives them.
    Raises OSError, ValueError or LookupError where dataset_info.json does not tell.
    """
    info = json.loads((place / INFO).read_text())
    name = "/".join(filter(None, (info["name"], info.get("configName"))))
    return place.parents[len(Path(name).parts)], name, info["version"]


def converted_root(root: Path) -> Path:
    """The folder for the data sets of `root` that were converted, beside it."""
    return root.parent / f"{root.name}{CONVERTED}"


def flag(key: str, value: object) -> str:
    """--config.KEY=VALUE as it can be typed."""
    return shlex.quote(f"--config.{key}={value}")


def convert_command(place: Path, out: Path) -> str:
    """The command that writes the TFRecord data set in `place` as ArrayRecord below `out`."""
    command = ["python", "-m", "repre_jax.tools.prepare", "convert", os.fspath(place), "--data-dir", os.fspath(out)]
    return shlex.join(command)


def tfds_command(name: str, root: Path) -> str:
    """The command by which TFDS itself prepares `name` below `root`; it wants TensorFlow and a network."""
    builder = f"tfds.builder({json.dumps(name)}, data_dir={json.dumps(os.fspath(root), ensure_ascii=False)})"
    code = f'import tensorflow_datasets as tfds; {builder}.download_and_prepare(file_format="array_record")'
    return shlex.join(["python", "-c", code])


def by_tfds(name: str, root: Path) -> str:
    """The lines of a message on preparing `name` by TFDS."""
    return (
        "  prepare:  pip install tensorflow   (preparing needs it and a network, training does not)\n"
        f"            {tfds_command(name, root)}\n"
    )


def how_to_prepare(name: str, root: Path, *, objects: bool = False) -> str:
    """The message on a data set that is nowhere. objects: see version_folders."""
    demo = DEMO
    if name == "imagenet2012":
        command = ["python", "-m", "repre_jax.tools.prepare", "imagenet2012", "--from=DIR", f"--data-dir={root}"]
        prepare = (
            "  fetch:    ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from https://image-net.org (free, but\n"
            "            with an account; 138 GB and 6.3 GB) into a folder DIR\n"
            f"  prepare:  {shlex.join(command)}\n"
        )
    elif name in ("cityscapes", "cityscapes/semantic_segmentation"):
        command = ["python", "-m", "repre_jax.tools.prepare", "cityscapes", "--from=DIR", f"--data-dir={root}"]
        prepare = (
            "  fetch:    leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB) from\n"
            "            https://www.cityscapes-dataset.com (free, but with an account) into a folder DIR\n"
            f"  prepare:  {shlex.join(command)}\n"
        )
        demo = DEMO_OF_MAPS
    elif name in ("coco_instances", "coco_instances/2017"):
        command = ["python", "-m", "repre_jax.tools.prepare", "coco", "--from=DIR", f"--data-dir={root}"]
        prepare = (
            "  fetch:    train2017.zip (19 GB), val2017.zip (0.8 GB) and annotations_trainval2017.zip (0.3 GB) from\n"
            "            https://cocodataset.org/#download into a folder DIR\n"
            f"  prepare:  {shlex.join(command)}\n"
        )
        demo = DEMO_OF_OBJECTS
    elif objects:
        command = ["python", "-m", "repre_jax.tools.prepare", "coco", "--from=DIR", f"--name={name}"]
        command += ["--images=FOLDER", "--annotations=FILE", f"--data-dir={root}"]
        prepare = f"  prepare:  {shlex.join(command)}\n"
        demo = DEMO_OF_OBJECTS
    else:
        prepare = by_tfds(name, root) + "  or:       --config.data.name=folder:PATH, for a folder of images as it is\n"
    there = _data_sets(root)
    more = f" and {len(there) - NAMED} more" if len(there) > NAMED else ""
    return (
        f"Data set {name} was not found: no prepared version in {root / name}.\n"
        + (f"  given:    {root} holds {', '.join(there[:NAMED])}{more}\n" if there else "")
        + prepare
        + "  change:   --config.data.dir=... or the variable TFDS_DATA_DIR, if it lies elsewhere\n"
        f"  meanwhile, without any download:  {shipped.program()} {demo}"
    )


def _meant(plain: str, wanted: str, found: list[Path]) -> str:
    """The name to ask for in place of `wanted`: '1' is TFDS's '1.*.*' where there is one."""
    parts = wanted.split(".")
    whole = ".".join([*parts, *"*" * (3 - len(parts))])
    return f"{plain}:{whole}" if any(matches(folder.name, whole) for folder in found) else plain


def _version_named(place: Path) -> list[Path]:
    folders = [folder for folder in _folders(place) if tfds.core.Version.is_valid(folder.name)]
    return sorted(folders, key=lambda folder: tfds.core.Version(folder.name), reverse=True)


def _folders(place: Path) -> list[Path]:
    """Sorted; none where there is no such folder, or one that cannot be entered."""
    try:
        return sorted(path for path in place.iterdir() if path.is_dir())
    except OSError:
        return []


def _elsewhere(name: str, root: Path) -> str | None:
    """The message on a data set that lies near by: above `root`, below it, or in configurations."""
    if (root / name / INFO).exists():
        return _a_place_for_a_name(root / name)
    root = Path(os.path.normpath(root))
    above = list(root.parents)[: len(Path(name).parts) + 2]  # its parts, a configuration and a version
    for place in (root, *above, *_folders(root)):
        if place != root and versions(place / name):
            return (
                f"Data set {name} was not found: no prepared version in {root / name}. It lies in {place / name}.\n"
                "  expected: data.dir, or the variable TFDS_DATA_DIR: the folder that holds the data sets' folders\n"
                f"  given:    {root}\n"
                f"  change:   {flag('data.dir', place)}"
            )
        configurations = [folder.name for folder in _folders(place / name) if versions(folder)]
        if configurations:
            elsewhere = "" if place == root else f" {flag('data.dir', place)}"
            known = ", ".join(f"{name}/{configuration}" for configuration in configurations)
            return (
                f"Data set {name} in {place} was not found under this name: it has configurations.\n"
                f"  expected: one of {known}\n"
                f"  change:   {flag('data.name', f'{name}/{configurations[0]}')}{elsewhere}"
            )
    return None


def _a_place_for_a_name(place: Path) -> str:
    """The message where a name leads to files of records: to a version's folder, or to one without a version."""
    try:
        root, name, version = home(place)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        root, name, version = place.parent, place.name, "VERSION"
    if place == root / name / version:
        return (
            f"{place} is the folder of a version, and a name stands for all of them.\n"
            f"  change:   {flag('data.name', f'{name}:{version}')} {flag('data.dir', root)}"
        )
    return (
        f"{place} holds a data set without the folder of its version.\n"
        f"  expected: its files in .../{name}/{version}\n"
        f"  change:   move them there, and --config.data.dir to what stands for the dots"
    )


def _data_sets(root: Path) -> list[str]:
    """What is prepared below `root`, by name."""
    found = []
    for folder in _folders(root):
        if versions(folder):
            found.append(folder.name)
        found += [f"{folder.name}/{inner.name}" for inner in _folders(folder) if versions(inner)]
    return found
