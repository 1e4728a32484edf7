"""Random access to images in parquet shards beside ArrayRecord: whether training can read the hub's ImageNet as it is.

  python -m benchmarks.parquet_access [--images 1000] [--group 100]

JPEGs of 500 x 375 pixels, ImageNet's usual size, cut from scikit-learn's two photographs, are written as ArrayRecord by
`prepare folder`, and byte for byte as two shards by pyarrow, with its defaults and row groups of 100, as the library
datasets writes images. Both are read by one process on one core, from the page cache, in their order and as training
reads them, by a permutation of all. No row group is held then: in ImageNet's 12,812 groups of 100 the next image is in
another one. 'a worker' adds the decoding and the two crops of configs/moco_vit_s.py.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.input_pipeline import large_views, write_records
from repre_jax.data import order, parquet, sources
from repre_jax.data.record_files import RecordFiles
from repre_jax.data.views import PretrainView
from repre_jax.report import console
from repre_jax.system import command_line

SHARDS = 2
ENOUGH = 0.9  # of ArrayRecord's images a second in a worker, to train from shards


def write_shards(folder: Path, encoded: list[bytes], group: int) -> parquet.Images:
    """The same images in shards, opened. group: images in a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()})
    folder.mkdir()
    for number in range(SHARDS):
        part = encoded[number * len(encoded) // SHARDS : (number + 1) * len(encoded) // SHARDS]
        rows = [{"image": {"bytes": data, "path": f"{i}.jpg"}, "label": 0} for i, data in enumerate(part)]
        path = folder / f"train-{number:05}-of-{SHARDS:05}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=group)
    return parquet.Images(tuple(parquet.opened(path) for path in parquet.files(folder, ["train"])[0]))


def milliseconds(use: Callable[[int], Any], indices: Sequence[int]) -> float:
    """Processor time an image, over all indices, after a tenth of them has warmed up what can be: nothing waits for a
    disk here, and what else the machine does counts little."""
    for index in indices[: len(indices) // 10]:
        use(index)
    started = time.process_time()
    for index in indices:
        use(index)
    return 1000 * (time.process_time() - started) / len(indices)


def measured(encoded: Callable[[int], bytes], shuffled: Sequence[int], view: PretrainView) -> list[float]:
    """Milliseconds an image of what gives its bytes: shuffled, and with decoding and crops."""

    def crop(index: int) -> Any:
        return view({"image": encoded(index), "label": 0}, np.random.default_rng(index))

    return [milliseconds(encoded, shuffled), milliseconds(crop, shuffled)]


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--group", type=int, default=100, help="images in a row group of parquet")
    arguments = parser.parse_args()
    config, _ = command_line.parse(["main.py", "--config=configs/moco_vit_s.py"])
    view = large_views(config)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_records(folder, arguments.images)
        records = sources.open_dataset("photographs", str(folder)).train
        assert isinstance(records, RecordFiles)
        encoded = [records[index]["image"] for index in range(arguments.images)]
        shards = write_shards(folder / "shards", encoded, arguments.group)
        assert all(shards[index]["image"] == encoded[index] for index in range(0, arguments.images, 7))
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        shuffled = [int(index) for index in order.epoch_order(arguments.images, 0, 0)]
        mean = sum(map(len, encoded)) / len(encoded)
        what = f"{arguments.images:,} JPEGs of {mean / 1000:.0f} kB, row groups of {arguments.group}"
        print(f"{what}, one core of {console.machine()}; pyarrow {_version()}")
        anew = parquet.Images(shards.shards, kept=0)
        in_order = range(arguments.images)
        ours = [milliseconds(lambda index: records[index]["image"], in_order)]
        ours += measured(lambda index: records[index]["image"], shuffled, view)
        theirs = [milliseconds(lambda index: shards[index]["image"], in_order)]
        theirs += measured(lambda index: anew[index]["image"], shuffled, view)
    for name, one, other in zip(("in order", "shuffled", "a worker"), ours, theirs, strict=True):
        print(f"  {name:<10} ArrayRecord {one:8.3f} ms an image, parquet {other:8.3f}, ratio {other / one:.2f}")
    share = ours[-1] / theirs[-1]
    verdict = "train from shards as they are" if share >= ENOUGH else "convert shards first"
    print(f"  {verdict}: from them a worker makes {share:.2f} of the images a second")


def _version() -> str:
    import pyarrow

    return pyarrow.__version__


if __name__ == "__main__":
    run()
