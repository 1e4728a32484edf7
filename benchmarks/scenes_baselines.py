"""What can be had on scenes/objects without learning: k-NN on raw pixels and on HOG, scikit-image's hand-made edges.

  python -m benchmarks.scenes_baselines [--data-dir DIR] > benchmarks/scenes_baselines.txt

Both stand beside the results of an encoder. The vote is pre-training's own, all training images of which vote for all
test images: raw pixels are below 45 %, so that there is something to learn, and HOG at least 20 points above them.
"""

import argparse
import datetime
import platform
from importlib import metadata

import jax
import numpy as np
from skimage.feature import hog

from repre_jax.core import sharding
from repre_jax.core.types import Records
from repre_jax.data import crops, sources
from repre_jax.evaluation import knn
from repre_jax.report import console

NAME = "scenes/objects"
KS = (20, 200)  # pre-training's, and the most of configs/knn.py


def pictures(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [N, H, W, 3], int64 [N]): all images of a split, and their labels."""
    found = [records[index] for index in range(len(records))]
    return np.stack([crops.decode(each["image"]) for each in found]), np.array([each["label"] for each in found])


def raw(images: np.ndarray) -> np.ndarray:
    """Pixels in 0..1, float32 [N, values]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def edges(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients with scikit-image's own settings, float32 [N, values]."""
    return np.stack([hog(each, channel_axis=-1) for each in images]).astype(np.float32)


def accuracies(bank: Records, queries: Records) -> dict[str, dict[int, float]]:
    """'raw pixels' and 'HOG' -> k -> accuracy, 0..1, of the vote of `bank` on `queries`."""
    (train, train_labels), (test, test_labels) = pictures(bank), pictures(queries)
    mesh = sharding.make_mesh(jax.device_count())
    return {
        name: knn.accuracy(
            *(describe(train), train_labels, describe(test), test_labels),
            classes=10,
            ks=KS,
            mesh=mesh,
        )
        for name, describe in (("raw pixels", raw), ("HOG", edges))
    }


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of data sets; else $TFDS_DATA_DIR or TFDS's default")
    arguments = parser.parse_args()
    dataset = sources.open_dataset(NAME, arguments.data_dir)
    train, test = dataset.split("train"), dataset.split("test")
    lines = [
        f"| {name} | {' | '.join(f'{each:.1%}' for each in found.values())} |"
        for name, found in accuracies(train, test).items()
    ]
    print(
        f"{datetime.date.today()}, {console.devices()} ({console.machine()}), Python {platform.python_version()}, "
        f"scikit-image {metadata.version('scikit-image')}; {NAME} {dataset.version}, {len(train):,} train and "
        f"{len(test):,} test images, chance 10 %\n"
    )
    print(f"| k-NN, cosine, temperature {knn.TEMPERATURE} | {' | '.join(f'k = {k}' for k in KS)} |")
    print(f"|---|{'---|' * len(KS)}")
    print("\n".join(lines))


if __name__ == "__main__":
    run()
