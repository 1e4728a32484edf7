"""How precise detections are, and what their mistakes are."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from pycocotools import mask as pycocotools_mask

from repre_jax.core import passing, run_files
from repre_jax.core.types import Records
from repre_jax.data import crops
from repre_jax.data.detection import Categories
from repre_jax.data.views import VALUE_RANGE
from repre_jax.evaluation import detected, matching
from repre_jax.evaluation.detected import BOXES, MASKS, Precision, Result
from repre_jax.evaluation.matching import Objects, Verdict
from repre_jax.pretrained import backbone
from repre_jax.probing import detecting
from repre_jax.report.figures import precision as curves
from repre_jax.tasks.figures.subject import NotPossible

SCORE = 0.5  # of what is drawn and judged
NOTHING = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32))


def draw(precision: Mapping[str, Precision], counted: Mapping[Verdict, int], images: str, title: str) -> Figure:
    """precision: by BOXES and MASKS. counted: `mistakes`. images: which, for the caption."""
    caption = (
        f"{images}. Curves: the mean over classes. What they are: boxes with a score of at least {SCORE:g}; right is"
        f" of the object's class with an IoU of at least {matching.HIT:g}, once."
    )
    return curves.draw(
        {detecting.NAMES[what]: each.curves for what, each in precision.items()},
        {detecting.NAMES[what]: each.classes for what, each in precision.items()},
        counted,
        title=title,
        caption=caption,
    )


def mistakes(
    boxes: Sequence[Result], truth: Mapping[str, list], categories: Categories, *, one_class: bool = False
) -> dict[Verdict, int]:
    """What detections of at least SCORE are, and how many objects were missed. boxes: COCO's results. truth: as COCO's
    files have it, of the images that were looked at. one_class: whatever their classes."""
    found, total = of_results(boxes, None, categories), Counter[Verdict]()
    there: dict[int, list[Result]] = {each["id"]: [] for each in truth["images"]}
    for each in truth["annotations"]:
        there[each["image_id"]].append(each)
    for image_id, annotations in there.items():
        crowds = np.array([each["iscrowd"] for each in annotations], bool)
        known = Objects(_corners(annotations), _classes(annotations, categories), crowds=crowds)
        here = found.get(image_id, NOTHING).above(SCORE)
        said, of_truth = matching.verdicts(*((here.alike(), known.alike()) if one_class else (here, known)))
        total.update(said)
        total.update(verdict for verdict in of_truth if verdict is Verdict.MISSED)
    return dict(total)


def of_results(boxes: Sequence[Result], masks: Sequence[Result] | None, categories: Categories) -> dict[int, Objects]:
    """COCO's results by the id of their image, by falling score. masks: in the order of the boxes."""
    places: dict[int, list[int]] = {}
    for place, result in enumerate(boxes):
        places.setdefault(result["image_id"], []).append(place)
    found = {}
    for image_id, some in places.items():
        falling = sorted(some, key=lambda place: -boxes[place]["score"])
        of_image = [boxes[place] for place in falling]
        scores = np.array([each["score"] for each in of_image], np.float32)
        shown = None if masks is None else np.array([_mask(masks[place]) for place in falling], bool)
        found[image_id] = Objects(_corners(of_image), _classes(of_image, categories), scores, shown)
    return found


def of_result(source: Path, wanted: int | None = None) -> Figure:
    """Of a finished run, or of a measurement of one, from its detections.json and its data. wanted: the step that the
    user asks for.

    Raises NotPossible where there is none, UserError where the data cannot be had.
    """
    result = run_files.read_json(source / run_files.RESULT, ("ap", "overflow", "test_images"))
    stored = run_files.read_config(source, ("detect", "data"))
    if result is None or stored is None:
        raise NotPossible(
            f"{source} holds no result of a detection.\n"
            "  expected: a finished run of configs/detect.py, or a workdir of --config.evaluate"
        )
    step = result.get("steps") or result["origin"]["step"]
    if wanted not in (None, step):
        raise NotPossible(
            f"The detections of {source} are those of step {step:,}.\n"
            f"  change:   leave the step out; --config.evaluate={source} --config.step={wanted} of configs/detect.py\n"
            "            measures another one, in a --workdir of its own"
        )
    config = ConfigDict(backbone.tuples(stored))
    data = detecting.open_data(config, tuple(result["mean"]), tuple(result["std"]))
    boxes, masks = _stored(source, masks=result["masks"])
    records = data.dataset.split("test")
    looked_at = seen(records, config.data.channels, result["test_images"])
    truth = detected.ground_truth((records[number] for number in looked_at), data.categories)
    one_class = detecting.one_class(config, data)
    found = {BOXES: detected.precision(truth, boxes, BOXES, one_class=one_class)}
    if masks is not None:
        found[MASKS] = detected.precision(truth, masks, MASKS, one_class=one_class)
    images = f"{result['test_images']:,} test images of {data.dataset.name}"
    counted = mistakes(boxes, truth, data.categories, one_class=one_class)
    return draw(found, counted, images, titled(source, config, step, "Precision"))


def seen(records: Records, channels: int, count: int) -> Sequence[int]:
    """Numbers of the test images that a run has looked at, `count` of them: all, or those that can be read."""
    numbers = range(len(records))
    return numbers if count == len(numbers) else [number for number in numbers if _readable(records, number, channels)]


def _readable(records: Records, number: int, channels: int) -> bool:
    try:
        record = records[number]
        crops.decode(record["image"], channels, record.get(VALUE_RANGE))
    except (crops.UnreadableImage, OSError) as error:
        passing.check(error, "A record cannot be read")
        return False
    return True


def titled(run: Path, config: ConfigDict, step: int, what: str) -> str:
    """For example 'Detection', and below it 'detect: Mask R-CNN, step 88,000'."""
    return f"{what}\n{run.name}: {'Mask' if config.detect.masks else 'Faster'} R-CNN, step {step:,}"


def _stored(run: Path, *, masks: bool) -> tuple[list[Result], list[Result] | None]:
    """(Boxes, masks) as the run has written them. Raises NotPossible where they are not there."""
    names = (run_files.DETECTIONS_OF_BOXES, run_files.DETECTIONS) if masks else (run_files.DETECTIONS,)
    try:
        found = [json.loads(run_files.read_text(run / name)) for name in names]
    except (OSError, ValueError) as error:
        raise NotPossible(f"What {run} has found cannot be read: {error}\n  expected: {' and '.join(names)}") from None
    return found[0], found[1] if masks else None


def _corners(annotations: Sequence[Result]) -> np.ndarray:
    sides = np.array([each["bbox"] for each in annotations], np.float32).reshape(-1, 4)
    return np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1)


def _classes(annotations: Sequence[Result], categories: Categories) -> np.ndarray:
    return categories.classes(np.array([each["category_id"] for each in annotations], np.int64))


def _mask(result: Result) -> np.ndarray:
    return np.asarray(pycocotools_mask.decode(result["segmentation"]), bool)
