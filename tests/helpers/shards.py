"""ImageNet in miniature as Hugging Face's hub distributes it: small parquet shards, written by pyarrow."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from repre_jax.data import imagenet
from tests.helpers.miniature import TRAIN, VALIDATION

SCHEMA = pa.schema(
    {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()},
)
NAMES = [f"things of kind {number}" for number in range(1000)]
WORDS = {"info": {"features": {"label": {"names": NAMES, "_type": "ClassLabel"}}}}


def row(data, path, label):
    return {"image": {"bytes": data, "path": path}, "label": label}


def write(file, rows, names=None, group=3):
    """names: of the classes, in the metadata of `datasets`; else words, as the hub's."""
    info = WORDS if names is None else {"info": {"features": {"label": {"names": list(names)}}}}
    schema = SCHEMA.with_metadata({"huggingface": json.dumps(info)})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), file, row_group_size=group)


def train_rows():
    """As the hub names them: each with its class's id behind the name, shuffled."""
    number = imagenet.class_names().index
    rows = [
        row(data, f"{name.removesuffix('.JPEG')}_{label}.JPEG", number(label))
        for label, images in TRAIN.items()
        for name, data in images.items()
    ]
    return rows[::2] + rows[1::2]


def validation_rows():
    labels = imagenet._package_lines("validation_labels.txt")
    rows = []
    for name, data in VALIDATION.items():
        label = labels[int(name[15:23]) - 1]
        rows.append(row(data, f"{name.removesuffix('.JPEG')}_{label}.JPEG", imagenet.class_names().index(label)))
    return rows


def write_all(folder):
    """Two shards of train, of 8 and 4 rows in groups of 3, and one of validation, in data/."""
    rows = train_rows()
    write(folder / "data" / "train-00000-of-00002.parquet", rows[:8])
    write(folder / "data" / "train-00001-of-00002.parquet", rows[8:])
    write(folder / "data" / "validation-00000-of-00001.parquet", validation_rows())
    write(folder / "data" / "test-00000-of-00001.parquet", [row(b"x", None, -1)])
    return folder
