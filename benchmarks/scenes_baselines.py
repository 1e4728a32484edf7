"""What can be had on scenes/objects without learning, by raw pixels and by HOG, and beside it what encoders reach.

  python -m benchmarks.scenes_baselines [--runs RUN ...] [--data-dir DIR] > benchmarks/scenes_baselines.txt

All training images vote on all test images, as in pre-training: raw pixels are below 45 %, so that there is something
to learn, and HOG at least 20 points above them. Both splits have the same eight mean colours of backgrounds, so the
vote is also taken without the training images of the query's own: it tells whether an emoji is known on a new colour.
"""

import argparse
import contextlib
import datetime
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from configs import knn as knn_config
from repre_jax.builders import monitor
from repre_jax.core import config_paths, sharding
from repre_jax.core.types import Records
from repre_jax.data import crops, sources
from repre_jax.data.scenes import object_canvases
from repre_jax.evaluation import batches, hog, knn, ridge
from repre_jax.pretrained import backbone
from repre_jax.probing import frozen
from repre_jax.report import console, results
from repre_jax.report.run import read

NAME = "scenes/objects"
KS = (20, 200)  # pre-training's, and the most of configs/knn.py
AT_ONCE = 500  # images
CELL = 8  # pixels of a side of the encoder's patches
COLUMNS = (
    *(f"k-NN, k = {k}" for k in KS),
    *(f"on a new colour, k = {k}" for k in KS),
    f"neighbours of its colour, k = {KS[0]}",
    "linear",
)


@dataclass(frozen=True)
class Side:
    """Some records of a split, N of them. images: uint8 [N, 48, 48, 3]. labels: int [N]. hues: int [N], which mean
    colour the background has. held_out: bool [N], of train, what settings are tuned on."""

    images: np.ndarray
    labels: np.ndarray
    hues: np.ndarray
    held_out: np.ndarray


def side(split: str, numbers: Sequence[int], records: Iterable[dict]) -> Side:
    """Of the records that have these numbers in 'train' or 'test'. Their hues are not stored: the function that draws
    a record knows them."""
    found = list(records)
    return Side(
        np.stack([crops.decode(each["image"]) for each in found]),
        np.array([each["label"] for each in found]),
        np.array([object_canvases.canvas(split, number).hue for number in numbers]),
        np.asarray(numbers) >= object_canvases.HELD_OUT_FROM,
    )


def whole(split: str, records: Records) -> Side:
    return side(split, range(len(records)), [dict(records[number]) for number in range(len(records))])


def described(images: np.ndarray, by: Callable[[jax.Array], jax.Array]) -> np.ndarray:
    """float32 [N, values], so many images at a time."""
    parts = range(0, len(images), AT_ONCE)
    return np.concatenate([np.asarray(by(jnp.asarray(images[start : start + AT_ONCE]))) for start in parts])


def without_learning(train: Side, test: Side) -> dict[str, dict[str, float]]:
    """'raw pixels' and 'HOG' -> what `judged` says of them."""
    by = {"raw pixels": jax.jit(monitor.small_pixels), "HOG": jax.jit(hog.descriptors)}
    return {
        name: judged(described(train.images, each), described(test.images, each), train, test)
        for name, each in by.items()
    }


def judged(bank: np.ndarray, queries: np.ndarray, train: Side, test: Side) -> dict[str, float]:
    """Of features [records, D] of train and test: a share, 0..1, for each of COLUMNS."""
    mesh = sharding.make_mesh(jax.device_count())
    enough = int(np.bincount(train.hues).max()) + max(KS)  # whichever colour is left out
    similarity, places = knn.nearest(bank, queries, k=enough, mesh=mesh)
    same = train.hues[places] == test.hues[:, None]
    votes = [
        accuracy
        for left_out in (np.zeros_like(same), same)
        for accuracy in _voted(similarity, train.labels[places], left_out, test.labels)
    ]
    return dict(zip(COLUMNS, [*votes, same[:, : KS[0]].mean(), _linear(bank, queries, train, test)], strict=True))


def _voted(similarity: np.ndarray, labels: np.ndarray, left_out: np.ndarray, answers: np.ndarray) -> list[float]:
    """Accuracy for each of KS of the nearest records that are not left out; all are [queries, records], nearest first,
    and of each query's at least the largest k are kept."""
    kept = np.argsort(left_out, axis=1, kind="stable")[:, : max(KS)]
    nearest, theirs = (jnp.asarray(np.take_along_axis(each, kept, axis=1)) for each in (similarity, labels))
    winners = knn.vote((nearest, theirs), classes=len(object_canvases.CLASSES), ks=KS, temperature=knn.TEMPERATURE)
    return [float((np.asarray(each) == answers).mean()) for each in winners]


def _linear(bank: np.ndarray, queries: np.ndarray, train: Side, test: Side) -> float:
    """Of a ridge classifier of standardised features, trained on all of train, as strong as its part with photographs
    of its own chose."""
    kept, held = ((bank[chosen], train.labels[chosen]) for chosen in (~train.held_out, train.held_out))
    return ridge.accuracy(kept, held, (queries, test.labels), len(object_canvases.CLASSES))


def encoded(run: Path, network: str, data_dir: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The pooled features of train and test, float32 [records, D], by a network of a run on scenes/objects."""
    config = knn_config.get_config("scenes")
    config.init_from, config.network = str(run), network
    config.data.name, config.data.dir = NAME, data_dir
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        job = frozen.build(config, backbone.find(config, Path(folder)))
        train, test = (
            np.array(frozen.extract(config, job, Path(folder), split, batches.never).features)
            for split in ("train", "test")
        )
    return train, test


def flat_l1(images: np.ndarray, cell: int) -> float:
    """L1 in 0..1, as of reconstructions, between uint8 [N, H, W, C] and the same with each cell x cell pixels in their
    mean colour."""
    count, height, width, channels = images.shape
    cells = images.reshape(count, height // cell, cell, width // cell, cell, channels) / 255
    return float(np.abs(cells - cells.mean(axis=(2, 4), keepdims=True)).mean())


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", default=[], metavar="RUN", help="pre-trained on the data set")
    parser.add_argument("--data-dir", help="folder of data sets; else $TFDS_DATA_DIR or TFDS's default")
    arguments = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # on first use it says where it writes the data set
        dataset = sources.open_dataset(NAME, arguments.data_dir)
    train, test = whole("train", dataset.split("train")), whole("test", dataset.split("test"))
    rows = without_learning(train, test)
    for folder in arguments.runs:
        path = config_paths.absolute(folder)
        trained = read(path)
        title = f"{results.title(trained)}, seed {trained.config.get('seed')}"
        for network, name in (("untrained", "untrained"), ("online", f"after {trained.step:,} steps")):
            rows[f"{title}, {name}"] = judged(*encoded(path, network, arguments.data_dir), train, test)
    print(
        f"{datetime.date.today()}, {console.devices()} ({console.machine()}), Python {platform.python_version()}, "
        f"jax {jax.__version__}; {NAME} {dataset.version}, {len(train.labels):,} train and "
        f"{len(test.labels):,} test images, chance {1 / len(object_canvases.CLASSES):.0%}; "
        f"k-NN: cosine, temperature {knn.TEMPERATURE}\n"
    )
    print(f"| accuracy on test | {' | '.join(COLUMNS)} |")
    print(f"|---|{'---|' * len(COLUMNS)}")
    for name, found in rows.items():
        print(f"| {name} | {' | '.join(f'{each:.1%}' for each in found.values())} |")
    print("\nOn a new colour: without the training images whose background has the query's own mean colour.")
    print("Linear: a ridge classifier of standardised features, as strong as train[80%:] chose.")
    print(
        f"L1 of the test images in a flat colour: of each image {flat_l1(test.images, object_canvases.SIZE):.4f}, "
        f"of each {CELL} x {CELL} pixels {flat_l1(test.images, CELL):.4f}."
    )


if __name__ == "__main__":
    run()
