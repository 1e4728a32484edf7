"""The objects of a record: their masks, boxes and categories, and the same as COCO's programs read it.

A box is COCO's (x, y, width, height) in pixels: x and y are the left and upper edge of the first column and row that
the visible mask touches, so that x + width is the right edge of the last one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from repre_jax.data import order, rle


@dataclass(frozen=True)
class Instances:
    """The objects of one image, N of them.

    size: (height, width) of the image. ids, category_ids: int64 [N], as COCO numbers them, from 1 and with holes.
    boxes: float64 [N, 4]. areas: float64 [N], of the masks. crowds: bool [N]. counts: N compressed run lengths, empty
    where no mask is known. float64, since files have them as decimals, and what is scored follows from them.
    """

    size: tuple[int, int]
    ids: np.ndarray
    category_ids: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowds: np.ndarray
    counts: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def masks(self) -> np.ndarray:
        """Of what is visible, bool [N, H, W]."""
        masks = [rle.decode(each, *self.size) for each in self.counts]
        return np.stack(masks) if masks else np.zeros((0, *self.size), bool)

    def corners(self) -> np.ndarray:
        """The boxes as x0, y0, x1, y1, float32 [N, 4]."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]], axis=1).astype(np.float32)

    def trainable(self) -> np.ndarray:
        """bool [N]: those that a detector is trained on: no crowds, which count as background, and nothing of less than
        a pixel or outside the image (SwinOD mmdet/datasets/coco.py:140-158)."""
        height, width = self.size
        x, y, w, h = self.boxes.T
        seen_width = np.minimum(x + w, width) - np.maximum(x, 0)
        seen_height = np.minimum(y + h, height) - np.maximum(y, 0)
        whole = (w >= 1) & (h >= 1) & (self.areas > 0)
        return whole & (seen_width > 0) & (seen_height > 0) & ~self.crowds

    def annotations(self, image_id: int) -> list[dict[str, Any]]:
        """As they stand in COCO's files; without 'segmentation' where no mask is known."""
        return [
            {
                "id": int(self.ids[place]),
                "image_id": image_id,
                "category_id": int(self.category_ids[place]),
                "bbox": self.boxes[place].tolist(),
                "area": float(self.areas[place]),
                "iscrowd": int(self.crowds[place]),
            }
            | (
                {"segmentation": {"size": list(self.size), "counts": self.counts[place].decode()}}
                if self.counts[place]
                else {}
            )
            for place in range(len(self))
        ]


def of_record(record: Mapping) -> Instances:
    """The objects of a record of scenes/dense, or of others with its features. The size is the image's, by 'height' and
    'width' if it has them, or by its header. Raises UnreadableImage where that is not readable."""
    found = record["objects"]
    size = (int(record["height"]), int(record["width"])) if "height" in record else order.image_size(record["image"])
    return Instances(
        size=size,
        ids=np.array(found["id"], np.int64),
        category_ids=np.array(found["category_id"], np.int64),
        boxes=np.array(found["bbox"], np.float64).reshape(-1, 4),
        areas=np.array(found["area"], np.float64),
        crowds=np.array(found["iscrowd"], bool),
        counts=tuple(found["counts"]),
    )


def coco(records: Iterable[Mapping], categories: Sequence[Mapping]) -> dict[str, list]:
    """A data set as COCO's annotation files have it, which pycocotools takes as `COCO().dataset`.

    categories: {'id', 'name'} of each, as scenes/dense keeps them in its metadata.
    """
    images, annotations = [], []
    for record in records:
        found, image_id = of_record(record), int(record["image_id"])
        images.append({"id": image_id, "height": found.size[0], "width": found.size[1]})
        annotations += found.annotations(image_id)
    return {"images": images, "annotations": annotations, "categories": [dict(each) for each in categories]}
