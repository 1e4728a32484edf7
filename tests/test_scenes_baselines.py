"""scenes/objects asks for something: pixels do not tell the classes, and edges tell some of them."""

import numpy as np
import pytest

from benchmarks import scenes_baselines
from benchmarks.scenes_baselines import Side
from repre_jax.data.scenes import builder


def test_raw_pixels_leave_room_and_edges_show_that_there_is_something():
    """On a third of the training canvases and a seventh of the others; on all of them 31.7 and 67.8 %."""
    sides = []
    for split, step in (("train", 3), ("test", 7)):
        numbers = range(0, builder.Scenes.RECORDS["objects"][split], step)
        sides.append(
            scenes_baselines.side(split, numbers, (builder.record("objects", split, number) for number in numbers))
        )
    train, test = sides
    assert train.held_out.mean() == 0.2 and set(train.hues) == set(test.hues) == set(range(8))
    found = scenes_baselines.without_learning(train, test)
    pixels, edges = found["raw pixels"], found["HOG"]
    assert 0.15 < pixels["k-NN, k = 20"] < 0.45
    assert edges["k-NN, k = 20"] > pixels["k-NN, k = 20"] + 0.2
    assert pixels["on a new colour, k = 20"] < pixels["k-NN, k = 20"] - 0.02, "raw pixels know the colours"
    assert edges["on a new colour, k = 20"] > edges["k-NN, k = 20"] - 0.1, "edges hardly do"
    assert pixels["neighbours of its colour, k = 20"] > 0.5 > edges["neighbours of its colour, k = 20"]
    assert 0.15 < pixels["linear"] < edges["linear"]


def test_on_a_new_colour_others_vote():
    """What all neighbours of the query's colour say is right, of those of other colours wrong."""
    rng = np.random.default_rng(0)
    labels, hues = np.repeat([0, 1], 300), np.repeat([2, 5], 300)
    bank = np.concatenate([[1, 0, 0.0]] * 300 + [[0, 1, 0.0]] * 300).reshape(600, 3) + rng.normal(0, 0.01, (600, 3))
    train = Side(np.zeros((600, 1)), labels, hues, np.arange(600) % 2 == 1)
    test = Side(np.zeros((4, 1)), np.array([0, 0, 0, 1]), np.array([2, 2, 5, 5]), np.zeros(4, bool))
    queries = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0.0]])
    found = scenes_baselines.judged(bank.astype(np.float32), queries.astype(np.float32), train, test)
    assert found == {
        "k-NN, k = 20": 1.0,
        "k-NN, k = 200": 1.0,
        "on a new colour, k = 20": 0.25,
        "on a new colour, k = 200": 0.25,
        "neighbours of its colour, k = 20": 0.75,
        "linear": 1.0,
    }


def test_flat_colours_leave_an_error():
    """Of a checkerboard of 0 and 255 in cells of 4: half a step of colour, none within a cell."""
    board = np.kron(np.indices((12, 12)).sum(axis=0) % 2, np.ones((4, 4)))[None, ..., None] * 255
    images = np.repeat(board, 3, axis=-1).astype(np.uint8)
    assert scenes_baselines.flat_l1(images, 48) == pytest.approx(0.5)
    assert scenes_baselines.flat_l1(images, 8) == pytest.approx(0.5)
    assert scenes_baselines.flat_l1(images, 4) == 0
