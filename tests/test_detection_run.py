"""A split put through a detector that needs no training: it finds what is bright."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

from repre_jax.core.errors import Interrupted, UserError
from repre_jax.data.crops import UnreadableImage
from repre_jax.data.detection import Categories
from repre_jax.data.instances import Instances
from repre_jax.data.object_index import ObjectIndex
from repre_jax.data.resizing import Resizing
from repre_jax.evaluation.detected import BOXES, MASKS, Detections
from repre_jax.evaluation.detection_run import DetectionRun
from repre_jax.models.detection.mask_rcnn import Found
from repre_jax.tasks.figures import precision
from repre_jax.tools import detect as tool
from tests.test_detection_views import of_masks

CATEGORIES = Categories((3, 7), ("left", "right"))
SIZES = [(64, 96), (96, 64), (60, 90), (64, 96), (96, 48), (64, 64), (64, 96)]
HOW = Resizing(shorts=(32,), longest=64, flip=0.0, crop=0.0)


class Squares:
    """Record n: a white rectangle on black, of one object; its class is whether n is odd."""

    def __init__(self, broken=()):
        self.broken = broken

    def __len__(self):
        return len(SIZES)

    def __getitem__(self, number):
        if number in self.broken:
            raise UnreadableImage("not there")
        mask = np.zeros(SIZES[number], bool)
        mask[16 : 36 + number, 8:40] = True
        image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1)
        found = of_masks(SIZES[number], [mask])
        ids, category = np.array([number + 1]), np.array([3 + 4 * (number % 2)])
        found = Instances(found.size, ids, category, found.boxes, found.areas, found.crowds, found.counts)
        return {
            "image": image,
            "objects": found,
            "classes": np.array([number % 2], np.int32),
            "record": number,
            "image_id": 100 + number,
        }


def bright(params, batch):
    """One detection an image, around what is white; class 1 of odd records."""

    def one(image, record, scale):
        white = image[..., 0] > 127
        rows, columns = white.any(axis=1), white.any(axis=0)
        y0, x0 = rows.argmax(), columns.argmax()
        y1, x1 = y0 + rows.sum(), x0 + columns.sum()
        factors = jnp.stack([scale[1], scale[0], scale[1], scale[0]])
        return jnp.stack([x0, y0, x1, y1]).astype(jnp.float32) / factors

    boxes = jax.vmap(one)(batch.images, batch.records, batch.scale)[:, None]
    count = len(batch.records)
    return Found(
        boxes=boxes,
        scores=jnp.full((count, 1), params),
        classes=(batch.records % 2)[:, None],
        valid=jnp.ones((count, 1), bool),
        masks=jnp.ones((count, 1, 28, 28)),
        overflow=batch.records >= 5,
    )


def run_of(records, devices=2, masks=True):
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ("data",))
    index = ObjectIndex(np.array(SIZES, np.int32), np.ones(7, np.int32), np.ones(7, np.int32))
    return DetectionRun(records, index, CATEGORIES, HOW, bright, mesh, channels=3, masks=masks)


def never():
    return False


def test_a_split_of_two_orientations_is_found_whatever_the_devices():
    found = [run_of(Squares(), devices).found(jnp.float32(0.5), never, 0.0) for devices in (1, 2)]
    assert found[0].boxes == found[1].boxes and found[0].masks == found[1].masks
    assert [each["image_id"] for each in found[0].boxes] == [100, 101, 102, 103, 104, 105, 106]
    assert [each["category_id"] for each in found[0].masks] == [3, 7, 3, 7, 3, 7, 3]
    assert (found[0].images, found[0].overflow) == (7, 2)
    assert [each["segmentation"]["size"] for each in found[0].masks] == [list(size) for size in SIZES]
    for number, each in enumerate(found[0].boxes):  # images of half the size or less: within two pixels
        np.testing.assert_allclose(each["bbox"], [8, 16, 32, 20 + number], atol=2.01)
    assert found[0].precision.keys() == {BOXES, MASKS}
    assert found[0].precision[BOXES].values["AP50"] == pytest.approx(1)


def test_images_that_cannot_be_read_are_no_ground_truth_either():
    found = run_of(Squares(broken=(2, 4))).found(jnp.float32(0.5), never, 0.3)
    assert [each["image_id"] for each in found.boxes] == [100, 101, 103, 105, 106]
    assert (found.images, found.precision[BOXES].values["AP50"]) == (5, pytest.approx(1))
    with pytest.raises(UserError, match="2 of 7 records to evaluate on could not be read"):
        run_of(Squares(broken=(2, 4))).found(jnp.float32(0.5), never, 0.2)


def test_a_figure_of_a_finished_run_is_of_the_images_that_it_could_read():
    assert list(precision.seen(Squares(broken=(2, 4)), 3, 5)) == [0, 1, 3, 5, 6]
    assert list(precision.seen(Squares(), 3, 7)) == list(range(7))


def test_a_tool_lists_the_images_that_could_be_read_by_their_records(capsys):
    whole = run_of(Squares(broken=(2, 4)))
    images, boxes, masks = tool.all_at_once(whole, jnp.float32(0.5))
    assert [(each["id"], each["file_name"]) for each in images] == [(100 + n, str(n)) for n in (0, 1, 3, 5, 6)]
    assert [(each["height"], each["width"]) for each in images] == [SIZES[number] for number in (0, 1, 3, 5, 6)]
    measured = whole.found(jnp.float32(0.5), never, 0.3)
    assert (boxes, masks) == (measured.boxes, measured.masks)
    said = capsys.readouterr().out
    assert [f"image {n} cannot be read, and is left out" in said for n in range(7)] == [n in (2, 4) for n in range(7)]


class Brightest:
    """Stands for a detector of boxes: one box an image, whose score is what its first pixel has of 255."""

    config = ConfigDict({"data": {"channels": 3, "value_range": None}})
    categories = CATEGORIES

    def raw(self, image, image_id):
        box, score = np.float32([[1, 2, 3, 5]]), np.float32([image[0, 0, 0] / 255])
        return Detections(image_id, image.shape[:2], box, score, np.zeros(1, np.int32))


def test_pictures_are_found_in_their_order_but_for_those_that_are_broken(tmp_path, capsys):
    """While the next one is being decoded."""
    pictures = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (9 + number, 7), (50 * number, 0, 0)).save(path)
        pictures.append((10 + number, path))
    images, boxes, masks = tool.one_by_one(pictures, Brightest())
    assert images == [{"id": 10 + n, "file_name": f"{n}.png", "height": 7, "width": 9 + n} for n in range(4)]
    assert [each["image_id"] for each in boxes] == [10, 11, 12, 13]
    np.testing.assert_allclose([each["score"] for each in boxes], np.arange(4) * 50 / 255, atol=1e-6)
    assert masks == []
    pictures[2][1].write_bytes(pictures[2][1].read_bytes()[:40])
    images, boxes, _ = tool.one_by_one(pictures, Brightest())
    assert [each["id"] for each in images] == [each["image_id"] for each in boxes] == [10, 11, 13]
    assert "2.png cannot be read: 40 bytes" in " ".join("".join(capsys.readouterr()).split())


def test_without_masks_there_are_boxes_alone():
    found = run_of(Squares(), masks=False).found(jnp.float32(0.5), never, 0.0)
    assert (found.masks, list(found.precision)) == (None, [BOXES])


def test_it_can_be_stopped():
    with pytest.raises(Interrupted, match="0 of 5 detecting"):
        run_of(Squares()).found(jnp.float32(0.5), lambda: True, 0.0)
