"""Batches of cached features: the rows, their order, and one pass over them."""

import contextlib
import itertools
import shutil

import cv2
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import main
from repre_jax.core import sharding
from repre_jax.core.errors import UserError
from repre_jax.data import sources
from repre_jax.data.order import epoch_order
from repre_jax.evaluation.batches import never
from repre_jax.evaluation.store import Split
from repre_jax.pretrained import backbone
from repre_jax.probing.cached import Cache
from repre_jax.probing.frozen import FrozenEncoder
from repre_jax.running import lifecycle, resume
from repre_jax.running.recorder import Recorder
from repre_jax.running.signals import StopRequest
from repre_jax.tasks import linear
from tests.helpers.evaluating import LINEAR, command
from tests.helpers.saved import saved_run

RECORDS, WIDTH, BATCH = 37, 3, 8
TORN = 26  # where the order in which a folder's records come has bee/05.png


@pytest.fixture
def cache(tmp_path):
    """Of two encoders, whose features say which record and which encoder they are of."""

    def splits(count):
        numbers = np.arange(count, dtype=np.float32)[:, None]
        return [Split(numbers + np.float32([0, 0, more]), np.arange(count), 0, 0.0) for more in (0, 100)]

    config = ConfigDict({"batch_size": BATCH, "seed": 4, "linear": {"held_out": 0.25}})
    job = FrozenEncoder(sharding.make_mesh(BATCH), dataset=None, encoder=None, params={}, mean=(), std=(), weights="")
    cache = Cache(config, [job] * 2, [tmp_path] * 2)
    cache.fill(splits(RECORDS), splits(11))
    return cache


def read(batches):
    return [(np.asarray(found), np.asarray(labels)) for found, labels in batches]


def test_held_out_records_are_not_trained_on(cache):
    train, held_out = set(cache.train.numbers), set(cache.held_out.numbers)
    assert len(held_out) == 9
    assert train | held_out == set(range(RECORDS))
    assert not train & held_out
    trained = np.concatenate([labels for _, labels in read(itertools.islice(cache.batches(0, None), 20))])
    assert set(trained) == train
    count, batches = cache.once(cache.held_out, never)
    judged = np.concatenate([labels for _, labels in batches])
    assert count == 9
    assert sorted(judged) == sorted(held_out)


def test_batches_are_in_the_loaders_order_from_any_step(cache):
    """Epochs flow into each other; features belong to their labels, of each encoder."""
    batches = read(itertools.islice(cache.batches(0, None), 9))
    places = np.concatenate([epoch_order(28, 4, epoch) for epoch in range(3)])[: 9 * BATCH]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), cache.train.numbers[places])
    for found, labels in batches:
        assert found.shape == (BATCH, 2, WIDTH)
        np.testing.assert_array_equal(found[:, 0], np.repeat(labels[:, None], WIDTH, axis=1))
        np.testing.assert_array_equal(found[:, 1, 2], labels + 100)
    later = read(itertools.islice(cache.batches(5, None), 4))
    for (found, labels), (again, same) in zip(batches[5:], later, strict=True):
        np.testing.assert_array_equal(found, again)
        np.testing.assert_array_equal(labels, same)


def test_one_pass_sees_each_record_once(cache):
    batches = list(cache.once(cache.test, never)[1])
    assert [found.shape for found, _ in batches] == [(BATCH, 2, WIDTH)] * 2
    assert [len(labels) for _, labels in batches] == [8, 3]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), np.arange(11))
    np.testing.assert_array_equal(batches[1][0][:3, 0, 0], [8, 9, 10])
    assert (batches[1][0][3:] == 0).all()


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """(folder of a run of random weights, folder of images, of which train's number TORN, bee/05.png, is none)."""
    tmp_path = tmp_path_factory.mktemp("probe")
    saved_run(tmp_path / "run", "moco_vit_s")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for name in ("ant", "bee", "cat"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(count):
                file = tmp_path / "pets" / split / name / f"{number:02}.png"
                cv2.imwrite(str(file), rng.integers(0, 256, (8, 8, 3), np.uint8))
    (tmp_path / "pets" / "train" / "bee" / "05.png").write_bytes(b"none")
    return tmp_path / "run", tmp_path / "pets"


def begin(probe, pets, workdir):
    """(What a start of cached heads would read, a function that writes a checkpoint of them); they are not trained."""
    of = [f"--config.data.name=folder:{pets}", "--config.data.test_split=validation", "--config.data.train_split=train"]
    more = ["--config.data.max_unreadable=0.2", "--config.linear.held_out=0.25"]
    config, workdir = main.parse(command(LINEAR, probe[0], workdir, *of, *more, variants="cached,tiny"))
    source = backbone.find(config, workdir)
    mesh = linear.check(config, source)
    with lifecycle.begun(config, workdir) as session:
        training = linear.build(config, source, workdir, mesh, session.past)
        session.record(training.dataset, step=session.past.step)
        with StopRequest(mesh) as stop:
            training.prepare(stop, never)
            state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(training.fresh))
            with contextlib.closing(Recorder(session, training, stop, 0)) as recorder:
                recorder.save(2, state)
        return read(itertools.islice(training.batches(0, None), 5)), resume.look(workdir, session.settings)


@pytest.fixture
def pets(probe, tmp_path):
    return shutil.copytree(probe[1], tmp_path / "pets")


def mend(pets):
    shutil.copyfile(pets / "train" / "bee" / "06.png", pets / "train" / "bee" / "05.png")


def assert_same(batches, others):
    for (found, labels), (again, same) in zip(batches, others, strict=True):
        np.testing.assert_array_equal(labels, same)
        np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("lost", ["features", "features/train/labels.npy", None])
def test_heads_that_were_begun_go_on_with_the_same_records(probe, pets, tmp_path, lost):
    """Also where their features are made anew once a record has been mended: it would move all behind it."""
    assert sources.open_dataset(f"folder:{pets}").train.files[TORN] == "bee/05.png"
    before, past = begin(probe, pets, tmp_path / "w")
    assert past.left_out == {"train": [TORN], "test": []}
    mend(pets)
    if lost:
        place = tmp_path / "w" / lost
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    after, past = begin(probe, pets, tmp_path / "w")
    assert_same(before, after)
    assert past.left_out == {"train": [TORN], "test": []}


def test_heads_that_are_begun_now_get_the_mended_record(probe, pets, tmp_path):
    before, _ = begin(probe, pets, tmp_path / "w")
    mend(pets)
    after, past = begin(probe, pets, tmp_path / "v")
    assert past.left_out == {"train": [], "test": []}
    assert any(not np.array_equal(labels, others) for (_, labels), (_, others) in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("train/ant/03.png", "1 train records cannot be read that the steps so far were trained with"),
        ("val/ant/03.png", "1 test records cannot be read that the steps so far were judged by"),
    ],
)
def test_heads_do_not_go_on_without_a_record_that_they_had(probe, pets, tmp_path, name, said):
    begin(probe, pets, tmp_path / "w")
    shutil.rmtree(tmp_path / "w" / "features")
    torn = pets / name
    whole = torn.read_bytes()
    torn.write_bytes(b"none")
    with pytest.raises(UserError, match=rf"{said}:\n  ant/03.png: 4 bytes"):
        begin(probe, pets, tmp_path / "w")
    torn.write_bytes(whole)
    _, past = begin(probe, pets, tmp_path / "w")
    assert past.left_out == {"train": [TORN], "test": []}


def test_encoders_have_features_of_the_same_records(cache):
    few = Split(np.zeros((RECORDS - 1, WIDTH), np.float32), np.arange(RECORDS - 1), 1, 0.0, [3])
    whole = Split(np.zeros((RECORDS, WIDTH), np.float32), np.arange(RECORDS), 0, 0.0, [])
    with pytest.raises(UserError, match="Some train records could be read for one encoder and not for another"):
        cache.fill([whole, few], [whole, whole])
    cache.fill([few, few], [whole, whole])
    assert cache.left_out() == {"train": [3], "test": []}
    earlier = Split(np.zeros((RECORDS - 1, WIDTH), np.float32), np.arange(RECORDS - 1), 1, 0.0, [])
    cache.fill([earlier, earlier], [whole, whole])
    assert cache.left_out() == {"test": []}, "nobody wrote down which they were"
