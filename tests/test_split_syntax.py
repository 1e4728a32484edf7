"""TFDS's syntax of splits for folders of images, compared with TFDS itself on the same files."""

import pytest

from repre_jax.core.errors import UserError
from repre_jax.data import sources
from tests.test_folder import fill

NAMES = [f"train/{'ab'[i % 2]}/{i:02}.jpg" for i in range(10)] + [f"val/{'ab'[i % 2]}/v{i}.jpg" for i in range(4)]


@pytest.fixture
def root(tmp_path):
    return fill(tmp_path / "images", [*NAMES, "test/t0.jpg", "test/t1.jpg"])


def train(root, spec):
    return sources.open_dataset(f"folder:{root}", None, spec, "validation").train


def names(source):
    return [source[i]["file_name"].rpartition("/")[2] for i in range(len(source))]


def test_the_sum_of_two_splits(root):
    """One after the other, each as it is by itself; each record has its own bytes and its own label."""
    both = train(root, "train+validation")
    assert names(both) == names(train(root, "train")) + names(train(root, "validation"))
    assert len(both) == 14
    for i in range(14):
        record = both[i]
        assert record["image"] == (root / record["file_name"]).read_bytes()
        assert record["label"] == "ab".index(record["file_name"].split("/")[1])
    assert names(train(root, "validation+train")) == names(both)[10:] + names(both)[:10]
    assert names(train(root, " train + validation ".strip())) == names(both)


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ("train[:3]+train[7:]", 6), ("train[:30%]+train[90%:]", 4), ("train[:3]+validation[2:]", 5),
        ("train[3:4]+train[5:6]", 2), ("train[-2:]+train[:2]", 4), ("train+train", 20), ("train[:50%]+train[50%:]", 10),
    ],
)  # fmt: skip
def test_parts(root, spec, count):
    """Those of the parts by themselves, in their order; parts with other bounds share nothing."""
    taken = train(root, spec)
    assert names(taken) == [name for part in spec.split("+") for name in names(train(root, part))]
    assert len(taken) == len(taken.labels) == count
    if spec != "train+train":
        assert len(set(names(taken))) == count


def test_a_sum_with_a_split_without_labels_has_none(root):
    whole = sources.open_dataset(f"folder:{root}", None, "all", "validation")
    assert (len(whole.train), whole.train.labels, whole.classes) == (16, None, None)
    fill(root, ["val/c/v9.jpg"])
    dataset = sources.open_dataset(f"folder:{root}", None, "train+validation")
    assert (dataset.classes, dataset.lacking) == (None, "validation has classes that train lacks: c")


@pytest.mark.parametrize("spec", ["train+none", "none", "train[", "train[:200%]", "train+", "train[:2", ""])
def test_what_is_no_split_is_named(root, spec):
    with pytest.raises(UserError) as error:
        train(root, spec)
    assert f"no split {spec!r}" in str(error.value)
    assert "expected: one of test, train, validation" in str(error.value)


def test_a_sum_that_is_empty(root):
    with pytest.raises(UserError, match=r"Split 'train\[:0\]\+train\[10:\]' .* is empty"):
        train(root, "train[:0]+train[10:]")
