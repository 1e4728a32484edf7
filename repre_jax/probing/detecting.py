"""What training a detector and measuring one again share: the data, what is recorded, said and written."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from repre_jax.builders import detection as builder
from repre_jax.builders import methods
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.core.types import TrainState
from repre_jax.data.detection import Categories, DetectionData
from repre_jax.evaluation.detected import BOXES, MASKS
from repre_jax.evaluation.detection_run import DetectionRun, DetectionsOf, Measured
from repre_jax.models import encoders
from repre_jax.pretrained.backbone import Values
from repre_jax.probing import evaluations
from repre_jax.report import console
from repre_jax.running import loop
from repre_jax.running.lifecycle import ShouldStop
from repre_jax.system import runtime, terminal

OF_WEIGHTS = ("masks", "width", "hidden")  # which weights there are: what a run that goes on cannot change
TRAINED = (  # what a measurement cannot have otherwise than its run; detect.test_* is none of it
    *OF_WEIGHTS,
    *("slots", "shorts", "longest", "flip_last", "crop", "crop_shorts", "crop_sides"),
    *("anchors", "anchor_positives", "regions", "region_positives", "per_level", "proposals"),
)
TESTED = ("short", "longest", "per_level", "proposals", "score", "threshold", "detections", "candidates", "one_class")
FIXED_KEYS = (
    *("init_from", "step", "network", "encoder", "data.image_size"),
    *("data.classes", "data.class_names"),  # of the data set's identity
    *(f"detect.{key}" for key in OF_WEIGHTS),
)
OF_DATA = ("channels", "mean", "std")  # keys of config.data that a result depends on
NAMES = {BOXES: "box", MASKS: "mask"}  # what results call them
LOGGED = ("AP", "AP50")
# Data set -> its split that shows things of which nobody could tell the category.
OF_ONE_CLASS = {"scenes/dense": "unseen"}


def open_data(config: ConfigDict, mean: Values | None, std: Values | None) -> DetectionData:
    """The data set; completes data.mean and data.std. mean, std: that the encoder was trained with.

    Raises UserError where it cannot be had, or has no test split.
    """
    data = builder.open_data(config)
    dataset = data.dataset
    if dataset.test is None:
        raise UserError(
            f"Data set {dataset.name} has no test split to measure a detector by.\n"
            "  change:   --config.data.test_split, for example a part of train: 'train[90%:]', with\n"
            "            --config.data.train_split='train[:90%]'"
        )
    evaluations.warn_of_shared(config, dataset)
    config.data.mean, config.data.std = config.data.mean or mean, config.data.std or std
    config.data.mean, config.data.std = methods.normalisation(config, dataset)
    return data


def check_categories(trained: Categories, data: DetectionData) -> None:
    """Raises UserError for others than the detector was trained on. Ids may differ, which a detector does not know."""
    ours, theirs = data.categories.names, trained.names
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        what = f"{len(ours)} categories, and {len(theirs)} were trained on"
    else:
        first = next(number for number, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
        what = f"category {first} {ours[first]!r}, which was {theirs[first]!r} in training"
    raise UserError(
        f"Data set {data.dataset.name} has {what}.\n"
        "  expected: the categories of the data set that the run was trained on, in their order\n"
        "  change:   --config.data.name, or the file of annotations that it was prepared from"
    )


def one_class(config: ConfigDict, data: DetectionData) -> bool:
    """Whether precision is that of one class, object, whatever things are taken for: as detect.test_one_class says,
    else where the test split is one of things that no training split shows, nor their likes."""
    if (asked := config.detect.get("test_one_class")) is not None:  # a run of before has no such key
        return bool(asked)
    dataset = data.dataset
    wanted = OF_ONE_CLASS.get(dataset.name.partition(":")[0])
    return wanted is not None and (dataset.test_split or "").partition("[")[0] == wanted


def whole_split(config: ConfigDict, data: DetectionData, mesh: Mesh, of: DetectionsOf) -> DetectionRun:
    """The test split, each image whole."""
    how, records = builder.resizing_of_tests(config), data.dataset.split("test")
    masks, channels = config.detect.masks, config.data.channels
    alike = one_class(config, data)
    return DetectionRun(
        records, data.indices["test"], data.categories, how, of, mesh, channels=channels, masks=masks, one_class=alike
    )


def once_a_step(config: ConfigDict, whole: DetectionRun) -> Callable[[TrainState, ShouldStop], Measured]:
    """Measures a state; one that was just measured is not measured again."""
    last: dict[int, Measured] = {}

    def measure(state: TrainState, should_stop: ShouldStop) -> Measured:
        if (step := int(state.step)) not in last:
            found = whole.found(state.params, should_stop, config.data.max_unreadable)
            last.clear()
            last[step] = found
        return last[step]

    return measure


def logged(found: Measured) -> loop.Values:
    """'box_ap', 'box_ap50' and, with masks, the same of them; None where the images have no object."""
    return {
        f"{NAMES[what]}_{name.lower()}": precision.values[name]
        for what, precision in found.precision.items()
        for name in LOGGED
    }


def write(workdir: Path, found: Measured) -> None:
    """detections.json, COCO's results: the masks, without boxes, or those of a detector of boxes. With masks
    detections_boxes.json has the boxes, since COCO's programs take one of them from a file."""
    if not runtime.is_main():
        return
    files = {run_files.DETECTIONS: found.masks} | {run_files.DETECTIONS_OF_BOXES: found.boxes}
    if found.masks is None:
        files = {run_files.DETECTIONS: found.boxes}
    for name, results in files.items():
        run_files.replace(workdir / name, json.dumps(results) + "\n")


def result_of(found: Measured) -> dict[str, Any]:
    """What result.json says of it: 'box_ap' and 'mask_ap', and all of COCO's numbers, 0..1; None where there is no such
    object."""
    return {
        **logged(found),
        "ap": {NAMES[what]: dict(precision.values) for what, precision in found.precision.items()},
        "ap_of_classes": {NAMES[what]: dict(precision.classes) for what, precision in found.precision.items()},
        "detections": len(found.boxes),
        "overflow": found.overflow,
        "test_images": found.images,
    }


def warn_of_overflow(config: ConfigDict, found: Measured) -> None:
    """Where candidates were left out, which a test without a limit would have compared."""
    if found.overflow:
        most = config.detect.test_candidates
        terminal.warn(
            f"Note: {found.overflow:,} of {found.images:,} images have more than {most:,} pairs of a region and a "
            f"class above a score of {config.detect.test_score:g}; the worst were left out.\n"
            f"  change:   --config.detect.test_candidates={2 * most}, if the result is to be compared with others"
        )


def record(config: ConfigDict, origin: dict[str, Any], data: DetectionData) -> dict[str, Any]:
    """What any such result depends on."""
    return {
        **evaluations.dense_record(config, origin, data.dataset, "detect", OF_DATA),
        "masks": config.detect.masks,
        "one_class": one_class(config, data),
    }


def rows(
    config: ConfigDict, encoder: encoders.Encoder, origin: dict[str, Any], data: DetectionData
) -> list[console.Row]:
    """Rows of the first table: what is trained or measured, and on what."""
    settings, dataset = config.detect, data.dataset
    kind = "Mask R-CNN" if settings.masks else "Faster R-CNN, without masks"
    return [
        ("encoder", encoders.describe(encoder)),
        ("", console.origin(origin)),
        ("detector", f"{kind}, {settings.width} channels; matrix products in {config.dtype}"),
        ("data set", console.dataset(dataset.identity(), dataset.directory, dataset.classes)),
        ("test images", f"shorter side {settings.test_short}, longer at most {settings.test_longest}"),
        *([("", "scored as one class, object")] if one_class(config, data) else []),
    ]


def training_rows(config: ConfigDict, data: DetectionData, canvases: Sequence[tuple[int, int]]) -> list[console.Row]:
    """How training images are shown, and which are not."""
    settings = config.detect
    shorts = sorted({min(settings.shorts), max(settings.shorts)})
    cropped = f"; {settings.crop:.0%} of them cropped before" * bool(settings.crop)
    where = " and ".join(f"{height} x {width}" for height, width in canvases)
    found = [
        (
            "training images",
            f"shorter side {' to '.join(map(str, shorts))}, longer at most {settings.longest}, on {where}{cropped}",
        )
    ]
    if data.left_out:
        found.append(("", f"{data.left_out:,} without an annotation, or with a side below 32, are left out"))
    if crowded := data.crowded(settings.slots):
        found.append(("", f"{crowded:,} have more than {settings.slots} objects, of which an epoch shows so many"))
    return found
