"""What a core does for a crop of `configs/segment.py`: read, decode image and label map, resize, crop; and end to end.

  python -m benchmarks.segment_input [--images 24] [--workers 2] [--images-per-second N] [--config.KEY=VALUE ...]

Records are pairs of PNGs of 1024 x 2048 pixels, Cityscapes' size, of about its images' bytes, made of scikit-learn's
two photographs, and prepared as Cityscapes' archives are. All but the end-to-end part is processor time of one core,
the median over the images, so that what else the machine does counts little. Both with and without
data.decoded_cache, whose files are then in the page cache, as they are where there is memory for all of them.
--images-per-second, which a step takes, says how many workers feed it.
"""

import argparse
import contextlib
import functools
import io
import itertools
import math
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
from ml_collections import ConfigDict
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks import segment_program
from repre_jax.builders import segmentation as builder
from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import crops, label_maps, loader, segmentation_views
from repre_jax.data.cityscapes import archives
from repre_jax.data.segmentation import SegmentationData
from repre_jax.data.segmentation_views import SegmentationTestView, rescaled
from repre_jax.report import console
from repre_jax.system import command_line, environment
from repre_jax.tools import prepare

CUT = (320, 640)  # of a photograph of 427 x 640, mirrored to fill a quarter each, as noisy as a street is
IDS = 34  # of label maps
READ, VIEW = "read, image and label map", "the whole train view"
KEPT, KEPT_VIEW = "map what was decoded before", "the train view of that"
RATIOS = (0.5, 1.0, 1.5, 2.0)


def picture(number: int) -> np.ndarray:
    photograph = load_sample_images().images[number % 2]
    top = int(np.random.default_rng(number).integers(photograph.shape[0] - CUT[0] + 1))
    cut = photograph[top : top + CUT[0], : CUT[1]]
    quarter = cv2.resize(cut, (archives.SIZE[1] // 2, archives.SIZE[0] // 2), interpolation=cv2.INTER_CUBIC)
    half = np.concatenate([quarter, quarter[:, ::-1]], axis=1)
    return np.concatenate([half, half[::-1]], axis=0)


def ids(number: int) -> np.ndarray:
    """Patches of some hundred pixels."""
    field = np.random.default_rng(number).random((5, 9)).astype(np.float32)
    smooth = cv2.resize(field, archives.SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    return (np.clip(smooth, 0, 0.999) * 12).astype(np.uint8) * 3 % IDS


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, count: int) -> None:
    """Both archives, with `count` images for training and one to test, and what `prepare` makes of them."""
    stores = {kind: zipfile.ZipFile(folder / archive, "w") for kind, (archive, _) in archives.KINDS.items()}
    places = [("train", "aachen", number) for number in range(count)] + [("val", "munster", count)]
    for split, city, number in places:
        for (kind, store), content in zip(stores.items(), (picture(number), ids(number)), strict=True):
            ending = archives.KINDS[kind][1]
            store.writestr(f"{kind}/{split}/{city}/{city}_{number:06}_000019{ending}", png(content))
    for store in stores.values():
        store.close()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        arguments = ["cityscapes", "--from", str(folder), "--data-dir", str(folder / "data"), "--partial"]
        if prepare.main(arguments):
            raise UserError("The archives could not be prepared.")


def milliseconds(do: Callable[[Any], Any], items: Iterable[Any]) -> float:
    """Processor time of one, the median."""
    times = []
    for item in items:
        begun = time.process_time()
        do(item)
        times.append(time.process_time() - begun)
    return 1e3 * statistics.median(times)


def stages(config: ConfigDict, found: SegmentationData) -> dict[str, float]:
    """Milliseconds an image of each stage on this core."""
    records, view = found.dataset.train, builder.train_view(config, found)
    taken = [records[number] for number in range(len(records))]
    images = [crops.decode(record["image"]) for record in taken]
    maps = [label_maps.classes_of(record["label_map"], found.classes, archives.SIZE) for record in taken]
    samples = [view(record, np.random.default_rng(number)) for number, record in enumerate(taken)]
    kept, _ = builder.train_records(config, found)
    for number in range(len(kept)):
        kept[number]  # writes it
    known = [kept[number] for number in range(len(kept))]
    scale = builder.scale_to(config.segment.train_size)
    test = SegmentationTestView(archives.SIZE, found.classes, scale_to=builder.scale_to(config.segment.test_size))

    def of_view(pair: tuple[int, Any]) -> Any:
        return view(pair[1], np.random.default_rng(pair[0]))

    return {
        READ: milliseconds(lambda number: records[number], range(len(records))),
        "decode the image": milliseconds(lambda record: crops.decode(record["image"]), taken),
        "  (by Pillow)": milliseconds(lambda r: np.asarray(Image.open(io.BytesIO(r["image"])).convert("RGB")), taken),
        "decode the label map to classes": milliseconds(
            lambda record: label_maps.classes_of(record["label_map"], found.classes, archives.SIZE), taken
        ),
        **{
            f"resize both by {ratio:g}": milliseconds(
                functools.partial(resized, size=rescaled(archives.SIZE, scale, ratio)), zip(images, maps, strict=True)
            )
            for ratio in RATIOS
        },
        VIEW: milliseconds(of_view, [*enumerate(taken), *enumerate(taken, len(taken))]),
        KEPT: milliseconds(lambda number: kept[number], range(len(kept))),
        KEPT_VIEW: milliseconds(of_view, [*enumerate(known), *enumerate(known, len(known))]),
        "batch": milliseconds(lambda s: np.stack([s["images"]]), samples),
        "the whole test view": milliseconds(lambda record: test(record, np.random.default_rng(0)), taken),
    }


def resized(pair: tuple[np.ndarray, np.ndarray], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return segmentation_views.resized(pair[0], size), label_maps.resized(pair[1], size)


def end_to_end(config: ConfigDict, found: SegmentationData, records: Records, workers: int, batches: int) -> float:
    """Images a second of the loader with worker processes, by the clock."""
    stream = loader.train_batches(
        records,
        builder.train_view(config, found),
        seed=0,
        batch_size=config.batch_size,
        start_step=0,
        workers=workers,
    )
    for _ in range(2 * workers):
        next(stream)
    begun = time.perf_counter()
    for _ in itertools.islice(stream, batches):
        pass
    rate = batches * config.batch_size / (time.perf_counter() - begun)
    del stream  # ends its workers
    return rate


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24, help="to make")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=12, help="of the end-to-end part")
    parser.add_argument("--images-per-second", type=float, help="that a step takes")
    arguments, overrides = parser.parse_known_args()
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary), arguments.images)
        places = (f"--config.data.dir={temporary}/data", f"--config.data.decoded_cache={temporary}/decoded")
        config = segment_program.parse("", [*overrides, *places])
        found = builder.open_data(config)
        load = os.getloadavg()[0]
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(everywhere)})
        parts = stages(config, found)
        os.sched_setaffinity(0, everywhere)
        kept, _ = builder.train_records(config, found)
        rates = [
            end_to_end(config, found, records, arguments.workers, arguments.batches)
            for records in (found.dataset.train, kept)
        ]
        record = found.dataset.train[0]
        kilobytes = [len(record[name]) / 1e3 for name in ("image", "label_map")]
    host = parts[READ] + parts[VIEW], parts[KEPT] + parts[KEPT_VIEW]
    print(environment.command())
    print()
    print(
        f"{time.strftime('%Y-%m-%d')}, {console.machine()}, load {load:.1f} beside this; OpenCV {cv2.__version__}, "
        f"Pillow {Image.__version__}; PNGs of {kilobytes[0]:,.0f} kB and {kilobytes[1]:,.0f} kB"
    )
    print()
    for name, value in parts.items():
        print(f"{name:<34} {value:7.2f} ms")
    for which, of_one, rate in zip(("", ", decoded before"), host, rates, strict=True):
        print(f"{f'read and train view, of one core{which}':<50} {1e3 / of_one:7.1f} images/s")
        print(f"{f'{arguments.workers} workers, end to end{which}':<50} {rate:7.1f} images/s")
        if wanted := arguments.images_per_second:
            workers = math.ceil(wanted * of_one / 1e3)
            print(f"{wanted:g} images/s want --config.data.workers={workers}, at a core each{which}")


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted."))
