"""Batches of cached features: the rows, their order, and one pass over them."""

import itertools

import numpy as np
import pytest
from ml_collections import ConfigDict

from repre_jax.core import sharding
from repre_jax.data.order import epoch_order
from repre_jax.evaluation.batches import never
from repre_jax.evaluation.store import Split
from repre_jax.probing.cached import Cache
from repre_jax.probing.frozen import FrozenEncoder

RECORDS, WIDTH, BATCH = 37, 3, 8


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
