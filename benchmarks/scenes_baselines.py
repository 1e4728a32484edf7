"""What can be had on scenes/objects without learning: k-NN on raw pixels and on HOG, as pre-training measures both.

  python -m benchmarks.scenes_baselines [--data-dir DIR] > benchmarks/scenes_baselines.txt

Both stand beside the results of an encoder. All training images vote on all test images: raw pixels are below 45 %, so
that there is something to learn, and HOG at least 20 points above them.
"""

import argparse
import contextlib
import datetime
import platform
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from repre_jax.builders import monitor
from repre_jax.core import sharding
from repre_jax.core.types import Records
from repre_jax.data import crops, sources
from repre_jax.data.scenes import object_canvases
from repre_jax.evaluation import hog, knn
from repre_jax.report import console

NAME = "scenes/objects"
KS = (20, 200)  # pre-training's, and the most of configs/knn.py
AT_ONCE = 500  # images


def pictures(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [N, H, W, 3], int64 [N]): all images of a split, and their labels."""
    found = [records[index] for index in range(len(records))]
    return np.stack([crops.decode(each["image"]) for each in found]), np.array([each["label"] for each in found])


def described(images: np.ndarray, by: Callable[[jax.Array], jax.Array]) -> np.ndarray:
    """float32 [N, values], so many images at a time."""
    parts = range(0, len(images), AT_ONCE)
    return np.concatenate([np.asarray(by(jnp.asarray(images[start : start + AT_ONCE]))) for start in parts])


def accuracies(bank: Records, queries: Records) -> dict[str, dict[int, float]]:
    """'raw pixels' and 'HOG' -> k -> accuracy, 0..1, of the vote of `bank` on `queries`."""
    (train, train_labels), (test, test_labels) = pictures(bank), pictures(queries)
    mesh = sharding.make_mesh(jax.device_count())
    return {
        name: knn.accuracy(
            *(described(train, by), train_labels, described(test, by), test_labels),
            classes=len(object_canvases.CLASSES),
            ks=KS,
            mesh=mesh,
        )
        for name, by in (("raw pixels", jax.jit(monitor.small_pixels)), ("HOG", jax.jit(hog.descriptors)))
    }


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of data sets; else $TFDS_DATA_DIR or TFDS's default")
    arguments = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # on first use it says where it writes the data set
        dataset = sources.open_dataset(NAME, arguments.data_dir)
    train, test = dataset.split("train"), dataset.split("test")
    lines = [
        f"| {name} | {' | '.join(f'{each:.1%}' for each in found.values())} |"
        for name, found in accuracies(train, test).items()
    ]
    print(
        f"{datetime.date.today()}, {console.devices()} ({console.machine()}), Python {platform.python_version()}, "
        f"jax {jax.__version__}; {NAME} {dataset.version}, {len(train):,} train and "
        f"{len(test):,} test images, chance {1 / len(object_canvases.CLASSES):.0%}\n"
    )
    print(f"| k-NN, cosine, temperature {knn.TEMPERATURE} | {' | '.join(f'k = {k}' for k in KS)} |")
    print(f"|---|{'---|' * len(KS)}")
    print("\n".join(lines))


if __name__ == "__main__":
    run()
