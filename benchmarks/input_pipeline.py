"""Where the input's time goes, stage by stage and end to end, beside the same views made wholly by Pillow on the host.

  python -m benchmarks.input_pipeline [--json] [--images-per-second N] [--config configs/moco_vit_s.py]

Records are JPEGs of 500 x 375 pixels, ImageNet's usual size, cut from scikit-learn's two photographs, stored as
ArrayRecord. Everything but the end-to-end part runs on one core. 'image' means a record with its two views.

  ours          read, decode once (libjpeg-turbo), two random resized crops (OpenCV), batch: what a worker does
  Pillow        decode, and for each view crop, flip, colour jitter, grey, blur, solarize, to float, normalise, as the
                PyTorch code bases do it; the operations and probabilities of the config
  device stage  our flip, jitter, grey, blur, solarize and normalisation under jit, here on this core too
"""

import argparse
import contextlib
import dataclasses
import io
import json
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.datasets import load_sample_images

from repre_jax.builders import augmentation, methods
from repre_jax.data import crops, loader, order, photometric, sources, views
from repre_jax.data.photometric import Photometric
from repre_jax.report import console
from repre_jax.system import command_line
from repre_jax.tools import prepare

SIZE = (375, 500)
Mean = Sequence[float] | np.ndarray  # one number a channel
BATCH = 32


def write_records(folder: Path, count: int) -> None:
    """`count` JPEGs of different cuts of two photographs, of about 110 kB as ImageNet's, prepared as ArrayRecord."""
    rng = np.random.default_rng(0)
    photographs = load_sample_images().images
    (folder / "jpegs").mkdir()
    for number in range(count):
        photograph = photographs[number % 2]
        top, left, height, width = crops.sample_crop(
            photograph.shape[0], photograph.shape[1], rng, (0.6, 1.0), (1.3, 1.4)
        )
        cut = crops.resize(photograph[top : top + height, left : left + width], SIZE)
        Image.fromarray(cut).save(folder / "jpegs" / f"{number:05}.jpg", quality=97)
    arguments = ["folder", "--from", str(folder / "jpegs"), "--name", "photographs", "--data-dir", str(folder)]
    with contextlib.redirect_stdout(io.StringIO()):
        prepare.main(arguments)


def pillow_crops(encoded: bytes, rng: random.Random, cut: crops.RandomCrops) -> list[Image.Image]:
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    numpy_rng = np.random.default_rng(rng.randrange(2**32))
    boxes = [crops.sample_crop(image.height, image.width, numpy_rng, cut.scale, cut.ratio) for _ in range(cut.count)]
    return [
        image.resize(cut.size[::-1], Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
        for top, left, height, width in boxes
    ]


def pillow_views(
    encoded: bytes, rng: random.Random, cut: crops.RandomCrops, kinds: Sequence[Photometric], mean: Mean, std: Mean
) -> np.ndarray:
    """The views of one record as torchvision's transforms on Pillow images make them: float32 [V, H, W, 3]."""
    cuts = pillow_crops(encoded, rng, cut)
    return np.stack([pillow_view(image, rng, kind, mean, std) for image, kind in zip(cuts, kinds, strict=True)])


def pillow_view(image: Image.Image, rng: random.Random, kind: Photometric, mean: Mean, std: Mean) -> np.ndarray:
    if rng.random() < kind.jitter_probability:
        image = pillow_jitter(image, rng, kind.jitter)
    if rng.random() < kind.grey_probability:
        image = image.convert("L").convert("RGB")
    if rng.random() < kind.blur_probability:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(*kind.blur_sigma)))
    if rng.random() < kind.solarize_probability:
        image = ImageOps.solarize(image)
    if rng.random() < kind.flip_probability:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return (np.asarray(image, np.float32) / 255 - mean) / std


def pillow_jitter(image: Image.Image, rng: random.Random, strengths: Sequence[float]) -> Image.Image:
    order = list(range(4))
    rng.shuffle(order)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for number in order:
        strength = strengths[number]
        if number < 3:
            image = enhancers[number](image).enhance(rng.uniform(max(0.0, 1 - strength), 1 + strength))
        else:
            hue, saturation, value = image.convert("HSV").split()
            turn = round(rng.uniform(-strength, strength) * 255)
            hue = Image.fromarray(((np.asarray(hue, np.int16) + turn) % 256).astype(np.uint8))
            image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    return image


def large_views(config: ConfigDict) -> views.PretrainView:
    """Without DINO's local views, which the Pillow side does not make."""
    return dataclasses.replace(augmentation.build_train_view(config), local=None)


def seconds_per_image(do: Callable, items: Iterable) -> float:
    """Mean over the items of the second half; the first half warms caches up."""
    items = list(items)
    for item in items[: len(items) // 2]:
        do(item)
    started = time.perf_counter()
    for item in items[len(items) // 2 :]:
        do(item)
    return (time.perf_counter() - started) / (len(items) - len(items) // 2)


def stages(dataset: sources.DataSet, config: ConfigDict) -> dict[str, float]:
    """Seconds an image of each stage, one after the other on this core."""
    view, kinds = large_views(config), augmentation.build_augmentation(config)
    encoded = [dataset.train[i]["image"] for i in range(len(dataset.train))]
    images = [crops.decode(data) for data in encoded]
    samples = [view(dataset.train[i], np.random.default_rng(i)) for i in range(len(dataset.train))]
    batches = [samples[i : i + BATCH] for i in range(0, len(samples) - BATCH + 1, BATCH)]
    arrays = [np.stack([sample["images"] for sample in batch]) for batch in batches]
    count = len(dataset.train)
    mean, std = methods.normalisation(config, dataset)
    device = jax.jit(lambda key, x: photometric.normalize(photometric.augment(key, x, kinds[:2]), mean, std))
    key, rng = jax.random.PRNGKey(0), random.Random(0)
    return {
        "read": seconds_per_image(
            lambda i: dataset.train[int(order.epoch_order(count, 0, 0)[i])]["image"], range(count)
        ),
        "decode": seconds_per_image(crops.decode, encoded),
        "crop": seconds_per_image(
            lambda pair: view.views(pair[1], np.random.default_rng((0, 1, pair[0]))), enumerate(images)
        ),
        "batch": seconds_per_image(lambda b: np.stack([s["images"] for s in b]), batches) / BATCH,
        "transfer": seconds_per_image(lambda a: jax.block_until_ready(jax.device_put(a)), arrays) / BATCH,
        "device stage": seconds_per_image(lambda a: jax.block_until_ready(device(key, a)), arrays) / BATCH,
        "Pillow, wholly": seconds_per_image(
            lambda data: pillow_views(data, rng, view.views, kinds[:2], mean, std), encoded
        ),
        "Pillow, decode": seconds_per_image(lambda data: Image.open(io.BytesIO(data)).convert("RGB"), encoded),
        "Pillow, decode and crop": seconds_per_image(
            lambda data: [np.asarray(image) for image in pillow_crops(data, rng, view.views)], encoded
        ),
    }


def end_to_end(dataset: sources.DataSet, config: ConfigDict, workers: int, batches: int) -> float:
    """Images a second of the loader with worker processes, over all cores."""
    view = large_views(config)
    stream = loader.train_batches(dataset.train, view, seed=0, batch_size=BATCH, start_step=0, workers=workers)
    for _ in range(2 * workers):
        next(stream)
    started = time.perf_counter()
    for _ in range(batches):
        next(stream)
    rate = batches * BATCH / (time.perf_counter() - started)
    del stream  # ends its workers
    return rate


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/moco_vit_s.py")
    parser.add_argument("--records", type=int, default=256, help=f"to make; at least {2 * BATCH}")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images-per-second", type=float, help="that a step takes; says how many workers feed it")
    parser.add_argument("--batches", type=int, default=60, help="of the end-to-end part")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    config, _ = command_line.parse(["main.py", f"--config={arguments.config}"])
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_records(folder, arguments.records)
        dataset = sources.open_dataset("photographs", str(folder))
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(everywhere)})
        parts = stages(dataset, config)
        os.sched_setaffinity(0, everywhere)
        rate = end_to_end(dataset, config, arguments.workers, arguments.batches)

    host = sum(parts[name] for name in ("read", "decode", "crop", "batch"))
    pillow = parts["Pillow, wholly"]
    result = {
        "ours_images_per_second_per_core": 1 / host,
        "pil_images_per_second_per_core": 1 / pillow,
        "ratio": pillow / host,
        "ratio_crops_only": parts["Pillow, decode and crop"] / (parts["decode"] + parts["crop"]),
        "ratio_with_device_stage": pillow / (host + parts["device stage"]),
        "workers": arguments.workers,
        "images_per_second_with_workers": rate,
        "share_of_the_workers_sum": rate * host / arguments.workers,
    }
    if arguments.json:
        print(json.dumps({"milliseconds": {k: 1000 * v for k, v in parts.items()}, **result}, indent=2))
        return
    print(f"{arguments.config}, views of {augmentation.image_size(config)}, one core of {console.machine()}")
    for name, seconds in parts.items():
        print(f"  {name:<24} {1000 * seconds:7.3f} ms an image")
    for name, value in result.items():
        print(f"  {name:<34} {value:.2f}")
    if arguments.images_per_second:
        workers = math.ceil(arguments.images_per_second * arguments.workers / rate)
        print(f"  {arguments.images_per_second:g} images/s want --config.data.workers={workers}, at a core each")


if __name__ == "__main__":
    run()
