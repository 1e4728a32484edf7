"""COCO's three archives in miniature, under the real names: small JPEGs, polygons, a crowd, ids with holes."""

import copy
import io
import json
import zipfile

import cv2
import numpy as np
from PIL import Image

CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
]
SIZES = {  # image's id -> height, width
    "train": {9: (60, 80), 25: (96, 64), 30: (64, 64), 34: (70, 90), 36: (24, 80), 42: (60, 80)},
    "val": {139: (72, 96), 285: (90, 60)},
}
ARCHIVES = {"train": "train2017", "val": "val2017"}
IMAGES = {"train": 6, "val": 2}


def jpeg(number, size, orientation=None) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC))
    stream, exif = io.BytesIO(), Image.Exif()
    if orientation:
        exif[274] = orientation
    image.save(stream, "JPEG", quality=90, exif=exif)
    return stream.getvalue()


def file_name(identity) -> str:
    return f"{identity:012}.jpg"


def polygon(x, y, width, height) -> list[list[float]]:
    """A diamond in a box."""
    return [[x + width / 2, y, x + width, y + height / 2, x + width / 2, y + height, x, y + height / 2]]


def annotation(identity, image, category, box, **changes) -> dict:
    found = {
        "id": identity,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": box[2] * box[3] / 2,
        "iscrowd": 0,
        "segmentation": polygon(*box),
    }
    return {key: value for key, value in (found | changes).items() if value is not None}


def crowd(identity, image, category, size) -> dict:
    """The right half of an image, as run lengths that are not compressed."""
    half = size[1] // 2
    runs = [half * size[0], (size[1] - half) * size[0]]
    box = (half, 0, size[1] - half, size[0])
    return annotation(
        identity,
        image,
        category,
        box,
        iscrowd=1,
        area=float(runs[1]),
        segmentation={"size": list(size), "counts": runs},
    )


def tables(split) -> dict:
    """What the split's JSON holds. Of train, 42 has nothing, 34 only a crowd, and 36 is 24 pixels high."""
    if split == "train":
        annotations = [
            annotation(7038, 9, 90, (10.25, 8.5, 40.13, 30.77)),
            annotation(156, 9, 1, (50.0, 40.0, 28.0, 19.5)),
            annotation(900100, 25, 18, (4.0, 10.0, 50.0, 70.0)),
            annotation(12, 30, 1, (20.0, 20.0, 30.0, 30.0)),
            crowd(13, 30, 1, (64, 64)),
            crowd(900200, 34, 18, (70, 90)),
            annotation(15, 36, 1, (5.0, 5.0, 20.0, 15.0)),
        ]
    else:
        annotations = [
            annotation(1, 139, 90, (8.0, 8.0, 60.0, 40.0)),
            annotation(3, 139, 1, (70.0, 50.0, 20.0, 20.0)),
            annotation(4, 285, 18, (5.0, 20.0, 40.0, 60.0)),
        ]
    images = [
        {"id": identity, "file_name": file_name(identity), "height": size[0], "width": size[1], "license": 1}
        for identity, size in SIZES[split].items()
    ]
    return {
        "info": {},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": copy.deepcopy(CATEGORIES),
    }


def pictures(split) -> dict[str, bytes]:
    return {file_name(identity): jpeg(identity, size) for identity, size in SIZES[split].items()}


def zips(folder, without=()):
    """Writes the three archives, but for files whose names end so."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        f"{name}.zip": {f"{name}/{file}": data for file, data in pictures(split).items()}
        for split, name in ARCHIVES.items()
    }
    contents["annotations_trainval2017.zip"] = {
        f"annotations/instances_{name}.json": json.dumps(tables(split)).encode() for split, name in ARCHIVES.items()
    } | {"annotations/captions_val2017.json": b"{}"}
    for archive, inside in contents.items():
        with zipfile.ZipFile(folder / archive, "w") as file:
            for name, content in inside.items():
                if not name.endswith(tuple(without)):
                    file.writestr(name, content)
    return folder


def own(folder, change=lambda found: None, split="train", images=None):
    """A folder with photos/ and objects.json, which `change` has changed; the flags that prepare them."""
    found = copy.deepcopy(tables(split))
    change(found)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for name, content in (pictures(split) | (images or {})).items():
        if content is not None:
            (folder / "photos" / name).write_bytes(content)
    (folder / "objects.json").write_text(json.dumps(found))
    return ["coco", "--from", folder, "--name", "mine", "--images", "photos", "--annotations", "objects.json"]
