"""What a core does for an image of `configs/detect.py`: read, decode, resize, crop, masks; and for a test's masks.

  python -m benchmarks.detection_input [--images 40] [--workers 2] [--images-per-second 40]

Records are JPEGs of 480 x 640 pixels and about 116 kB, where COCO's have about 160, so that decoding is too cheap here;
made of scikit-learn's two photographs, each with 7 objects whose outlines have 40 points, and prepared as COCO's
archives are. All but the end-to-end part is processor time of one core, the median over the images, so that what else
the machine does counts little. --images-per-second, which a step takes, says how many cores feed it.
"""

import argparse
import contextlib
import io
import itertools
import json
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from repre_jax.core.errors import UserError
from repre_jax.data import crops, detection, detection_order, detection_views, loader, shared_memory
from repre_jax.data.coco import images
from repre_jax.data.detection import DetectionData
from repre_jax.data.detection_views import DetectionTestView, DetectionView
from repre_jax.data.resizing import Placement, Resizing
from repre_jax.evaluation.detected import Detections
from repre_jax.report import console
from repre_jax.system import command_line, environment
from repre_jax.tools import prepare

SIZE, QUALITY = (480, 640), 93
OBJECTS, POINTS = 7, 40  # of an image: COCO has about 860,000 on 118,287 images
SLOTS, BATCH, WORKERS = 100, 16, 8  # as the config has them
FOUND = 100  # detections of an image


def photograph(number: int) -> bytes:
    whole = load_sample_images().images[number % 2]
    top = int(np.random.default_rng(number).integers(whole.shape[0] - 360 + 1))
    cut = cv2.resize(whole[top : top + 360, :480], SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(number).normal(0, 4, cut.shape)
    stream = io.BytesIO()
    Image.fromarray(np.clip(cut + noise, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def objects(number: int) -> list[dict[str, Any]]:
    """Uneven outlines, most of them small, as COCO's are."""
    rng, found = np.random.default_rng(number), []
    for place in range(OBJECTS):
        radius = np.exp(rng.uniform(np.log(8), np.log(160)))
        angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
        reach = radius * (1 + 0.25 * rng.standard_normal(POINTS)).clip(0.4, 1.6)
        x = (rng.uniform(0, SIZE[1]) + reach * np.cos(angles)).clip(0, SIZE[1])
        y = (rng.uniform(0, SIZE[0]) + reach * np.sin(angles)).clip(0, SIZE[0])
        box = [x.min(), y.min(), x.max() - x.min(), y.max() - y.min()]
        outline = np.stack([x, y], axis=1).ravel().round(2).tolist()
        identity = OBJECTS * number + place + 1
        found.append({"id": identity, "image_id": number, "category_id": place % 3 + 1, "bbox": box, "iscrowd": 0})
        found[-1] |= {"area": box[2] * box[3] / 2, "segmentation": [outline]}
    return found


def write(folder: Path, count: int) -> DetectionData:
    """The archives, with `count` images for training and one to test, and what `prepare` makes of them."""
    numbers = {"train": range(count), "validation": range(count, count + 1)}
    with zipfile.ZipFile(folder / images.ANNOTATIONS[0], "w") as texts:
        for split, name in images.OFFICIAL.items():
            listed = [
                {"id": number, "file_name": f"{number}.jpg", "height": SIZE[0], "width": SIZE[1]}
                for number in numbers[split]
            ]
            known = [each for number in numbers[split] for each in objects(number)]
            categories = [{"id": identity, "name": str(identity)} for identity in (1, 2, 3)]
            tables = {"images": listed, "annotations": known, "categories": categories}
            texts.writestr(f"annotations/instances_{name}.json", json.dumps(tables))
            with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
                for number in numbers[split]:
                    archive.writestr(f"{name}/{number}.jpg", photograph(number))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if prepare.main(["coco", "--from", str(folder), "--data-dir", str(folder / "data"), "--partial"]):
            raise UserError("The archives could not be prepared.")
    return detection.open_dataset("coco_instances/2017", str(folder / "data"))


def milliseconds(do: Callable[[Any], Any], items: Iterable[Any], statistic: Callable = statistics.median) -> float:
    """Processor time of one."""
    times = []
    for item in items:
        begun = time.process_time()
        do(item)
        times.append(time.process_time() - begun)
    return 1e3 * statistic(times)


def stages(found: DetectionData) -> dict[str, float]:
    """Milliseconds an image of each stage on this core."""
    records, how = found.dataset.train, Resizing()
    view, without = DetectionView(how, SLOTS), DetectionView(how, SLOTS, masks=False)
    taken = [(number, records[number]) for number in range(len(records))]
    decoded = [crops.decode(record["image"]) for _, record in taken]
    placements = [how.drawn(SIZE, loader.draws(0, 0, number)) for number, _ in taken]
    plain, cropped = ([each for each in placements if bool(each.crop) == crop] for crop in (False, True))

    def masks(pair: tuple[tuple[int, Any], Placement]) -> None:
        ((_, record), placement) = pair
        chosen = np.arange(min(OBJECTS, len(record["objects"])))
        detection_views.packed_masks(record["objects"], chosen, placement, how.canvas(placement.last), SLOTS)

    def placed(pair: tuple[np.ndarray, Placement]) -> None:
        detection_views.placed(*pair)

    def of_view(pair: tuple[int, Any]) -> Any:
        return view(pair[1], loader.draws(0, 0, pair[0]))

    samples = [of_view(pair) for pair in taken[:BATCH]]
    samples = [each for each in samples if each["images"].shape == samples[0]["images"].shape]  # as a batch has them
    test = DetectionTestView(how, how.canvases[0])
    return {
        "read": milliseconds(lambda number: records[number], range(len(records))),
        "decode": milliseconds(lambda pair: crops.decode(pair[1]["image"]), taken),
        "resize": milliseconds(placed, zip(decoded, plain, strict=False)),
        "resize, crop, resize": milliseconds(placed, zip(decoded, cropped, strict=False)),
        f"masks of {OBJECTS} objects": milliseconds(masks, zip(taken, placements, strict=True)),
        # The mean: crops differ much from images without one.
        "the whole train view": milliseconds(of_view, taken, statistics.mean),
        "the same without masks": milliseconds(
            lambda pair: without(pair[1], loader.draws(0, 0, pair[0])), taken, statistics.mean
        ),
        "put into a batch": milliseconds(lambda _: batched(samples), range(3)) / len(samples),
        "the whole test view": milliseconds(lambda pair: test(pair[1], np.random.default_rng(0)), taken),
        f"{FOUND} masks as results": milliseconds(lambda number: results(number, found), range(8)),
    }


def batched(samples: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([each[name] for each in samples]) for name in samples[0]}


def megabytes(found: DetectionData) -> dict[str, float]:
    """What one image takes of a batch, which worker processes hand over through shared memory."""
    sample = DetectionView(Resizing(), SLOTS)(found.dataset.train[0], loader.draws(0, 0, 0))
    return {name: np.asarray(value).nbytes / 1e6 for name, value in sample.items()}


def results(number: int, found: DetectionData) -> None:
    """A test's masks, pasted and encoded."""
    rng = np.random.default_rng(number)
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (FOUND, 2)))
    corners = rng.uniform(0, 1, (FOUND, 2)) * (np.array(SIZE[::-1]) - 1)
    boxes = np.concatenate([corners, np.minimum(corners + sides, SIZE[::-1])], axis=1).astype(np.float32)
    masks = cv2.blur(rng.random((28, 28, FOUND)).astype(np.float32), (5, 5)).transpose(2, 0, 1)
    scores, classes = np.ones(FOUND, np.float32), np.zeros(FOUND, np.int64)
    Detections(number, SIZE, boxes, scores, classes, masks).of_masks(found.categories)


def end_to_end(found: DetectionData, workers: int, batches: int) -> tuple[float, float]:
    """Images of the loader with worker processes a second by the clock, and a second of processor time of all
    processes, with the handing over."""
    how = Resizing()
    order = detection_order.grouped(found.indices["train"].sizes, how, BATCH)
    view = DetectionView(how, SLOTS)
    stream = loader.train_batches(
        found.dataset.train, view, seed=0, batch_size=BATCH, start_step=0, workers=workers, order=order
    )
    for _ in range(workers):
        next(stream)
    begun, used = time.perf_counter(), processor_seconds()
    for _ in itertools.islice(stream, batches):
        pass
    passed, used = time.perf_counter() - begun, processor_seconds() - used
    del stream  # ends its workers
    return batches * BATCH / passed, batches * BATCH / used


def processor_seconds() -> float:
    """That this process and its children, which still run, have used."""
    seconds, tick = time.process_time(), os.sysconf("SC_CLK_TCK")
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / tick
    return seconds


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40, help="to make")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=8, help="of the end-to-end part")
    parser.add_argument("--images-per-second", type=float, default=40, help="that a step takes")
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as temporary:
        found = write(Path(temporary), arguments.images)
        load = os.getloadavg()[0]
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(everywhere)})
        parts = stages(found)
        os.sched_setaffinity(0, everywhere)
        rate = end_to_end(found, arguments.workers, arguments.batches) if arguments.workers else None
        sample = megabytes(found)
        kilobytes = statistics.mean(len(found.dataset.train[number]["image"]) / 1e3 for number in range(8))
    host = parts["read"] + parts["the whole train view"] + parts["put into a batch"]
    print(environment.command())
    print()
    print(f"{time.strftime('%Y-%m-%d')}, {console.machine()}, load {load:.1f} beside this; OpenCV {cv2.__version__}")
    print(f"JPEGs of {SIZE[0]} x {SIZE[1]} pixels and {kilobytes:,.0f} kB, {OBJECTS} objects each")
    print()
    for name, value in parts.items():
        print(f"{name:<34} {value:7.2f} ms")
    print(f"{'read, train view, batch: one core':<34} {1e3 / host:7.1f} images/s")
    if rate is not None:
        print(f"{f'{arguments.workers} workers, end to end':<34} {rate[0]:7.1f} images/s by the clock")
        print(f"{'a second of processor time of all':<34} {rate[1]:7.1f} images")
        host = 1e3 / rate[1]
    image = sum(sample.values())
    print(f"{'an image of a batch':<34} {image:7.1f} MB, {sample['masks']:.1f} MB of it masks, whatever is in them")
    most = BATCH * image * (shared_memory.FOR_EACH * WORKERS + shared_memory.ELSEWHERE) / 1e3
    print(f"{f'/dev/shm, {WORKERS} workers, batches of {BATCH}':<34} {most:7.1f} GB at most")
    cores = math.ceil(arguments.images_per_second * host / 1e3)
    print(f"{arguments.images_per_second:g} images/s want --config.data.workers={cores}, at a core each")


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted."))
