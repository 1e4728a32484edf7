"""Class-balanced parts of the labels."""

import pickle

import numpy as np
import pytest

from repre_jax.core.errors import UserError
from repre_jax.data import sources, subset
from repre_jax.data.folder import ImageFolder
from repre_jax.system import runtime, terminal

COUNTS = {0: 40, 1: 3, 2: 111, 5: 1}


@pytest.fixture(scope="module")
def source():
    """Records whose images are no images: whoever decodes one fails."""
    labels = np.random.default_rng(0).permutation([label for label, count in COUNTS.items() for _ in range(count)])
    return [{"image": b"none", "label": label, "number": number} for number, label in enumerate(labels)]


def numbers(part):
    return [record["number"] for record in part]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_each_class_has_its_share_at_least_one(source, share):
    part = subset.balanced(source, share, draw=0)
    found, counts = np.unique([record["label"] for record in part], return_counts=True)
    assert dict(zip(found, counts, strict=True)) == {k: max(1, round(share * n)) for k, n in COUNTS.items()}
    assert len(set(numbers(part))) == len(part)
    assert numbers(part) == sorted(numbers(part))


def test_draws_differ_and_repeat(source):
    draws = [numbers(subset.balanced(source, 0.1, draw)) for draw in (0, 1, 2, 0)]
    assert draws[0] == draws[3]
    assert len({tuple(draw) for draw in draws}) == 3


def test_a_class_is_drawn_whatever_other_classes_there_are(source):
    alone = [record for record in source if record["label"] == 2]
    both = [record for record in source if record["label"] in (0, 2)]
    part = subset.balanced(both, 0.2, draw=4)
    assert numbers(subset.balanced(alone, 0.2, draw=4)) == [r["number"] for r in part if r["label"] == 2]


def test_classes_of_one_size_are_not_drawn_alike():
    records = [{"label": number % 2} for number in range(200)]
    chosen = subset.balanced(records, 0.1, draw=0).numbers
    assert {n // 2 for n in chosen if n % 2} != {n // 2 for n in chosen if not n % 2}


def test_every_record_can_be_drawn(source):
    drawn = {number for draw in range(60) for number in numbers(subset.balanced(source, 0.2, draw))}
    assert drawn == set(range(len(source)))


def test_all_of_it_is_the_source(source):
    assert subset.balanced(source, 1.0, draw=3) is source


def test_it_has_random_access_also_in_another_process():
    """Grain's workers get a pickled copy."""
    train = sources.open_dataset("digits").train
    part = subset.balanced(train, 0.1, draw=0)
    again = pickle.loads(pickle.dumps(part))
    counts = np.bincount(subset.labels_of(train))
    assert len(part) == len(again) == sum(round(0.1 * n) for n in counts)
    assert np.bincount([again[i]["label"] for i in range(len(again))]).tolist() == [round(0.1 * n) for n in counts]
    for index in (0, 7, -1):
        assert again[index] == part[index] == train[int(part.numbers[index])]
    with pytest.raises(IndexError):
        part[len(part)]


def test_a_folder_of_images_knows_its_labels_without_a_look_at_the_files(tmp_path):
    folder = ImageFolder(str(tmp_path), tuple(f"{i}.png" for i in range(30)), tuple(i % 3 for i in range(30)))
    assert [folder.labels[i] for i in subset.balanced(folder, 0.1, draw=0).numbers] in ([0, 1, 2], [0, 2, 1],
        [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])  # fmt: skip
    assert subset.labelled(folder)
    assert not subset.labelled(ImageFolder(str(tmp_path), ("a.png",)))


def test_records_without_a_label_are_told(source):
    unlabelled = [source[0], {"image": b"none"}, source[1] | {"label": -1}]
    with pytest.raises(UserError, match=r"data.labels is 0.5, and 2 of 3 training records have no label"):
        subset.balanced(unlabelled, 0.5, draw=0)
    assert subset.labelled(unlabelled)
    assert not subset.labelled(unlabelled[1:])


def test_one_process_shows_how_far_reading_the_labels_is(source, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "LOG_EVERY", 0.0)
    subset.labels_of(source)
    assert "reading labels: " in capsys.readouterr().err
    monkeypatch.setattr(runtime, "is_main", lambda: False)
    subset.labels_of(source)
    assert capsys.readouterr().err == ""
