"""The k-NN vote against a brute-force loop, scikit-learn and itself in one piece."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from sklearn.neighbors import KNeighborsClassifier

from repre_jax.core import sharding
from repre_jax.evaluation import knn


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(jax.device_count())


@pytest.fixture
def small_chunks(monkeypatch):
    """More than one chunk of queries and of the bank, the last ones smaller."""
    monkeypatch.setattr(knn, "QUERIES", 2)
    monkeypatch.setattr(knn, "BANK", 13)


def clusters(seed, train=61, test=37, classes=4, spread=1.2):
    """(train features, labels, test features, labels) of random lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 6))
    labels, answers = rng.integers(classes, size=train), rng.integers(classes, size=test)
    features = (centres[labels] + rng.normal(size=(train, 6)) * spread) * rng.uniform(0.1, 9, size=(train, 1))
    return features, labels, centres[answers] + rng.normal(size=(test, 6)) * spread, answers


def vote_by_loops(train, labels, queries, k, temperature, classes):
    predicted = []
    for query in queries:
        cosines = [query @ x / np.linalg.norm(query) / np.linalg.norm(x) for x in train]
        scores = np.zeros(classes)
        for index in np.argsort(cosines)[::-1][:k]:
            scores[labels[index]] += np.exp(cosines[index] / temperature)
        predicted.append(scores.argmax())
    return np.array(predicted)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_accuracy_equals_the_loop(temperature, mesh, small_chunks):
    """For all k at once; for one beyond the bank all vote."""
    train, labels, queries, answers = clusters(3)
    ks = (20, 1, 7, 500)
    expected = {k: np.mean(vote_by_loops(train, labels, queries, k, temperature, 4) == answers) for k in ks}
    ours = knn.accuracy(train, labels, queries, answers, classes=4, ks=ks, mesh=mesh, temperature=temperature)
    assert list(ours) == [1, 7, 20, 500]
    assert ours == pytest.approx(expected)
    assert all(0.3 < value < 1 for value in ours.values())
    assert len(set(ours.values())) > 2


@pytest.mark.parametrize("k", [1, 5, 20])
def test_with_equal_weights_it_is_scikit_learns_classifier(k, mesh, small_chunks):
    """At so high a temperature that each of the k counts the same; of classes with equal votes the first one wins."""
    train, labels, queries, answers = clusters(k, train=203, test=101, classes=5, spread=2.0)
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(train, labels).score(queries, answers)
    ours = knn.accuracy(train, labels, queries, answers, classes=5, ks=(k,), mesh=mesh, temperature=1e12)
    assert ours == {k: pytest.approx(theirs)}
    assert 0.2 < theirs < 0.9


def test_weights_decide_not_the_count(mesh):
    """One very near neighbour outvotes two far ones at a low temperature, however low, not at a high one."""
    train = np.array([[1.0, 0.0], [0.3, 1.0], [0.3, -1.0]])
    labels, query, answer = np.array([1, 0, 0]), np.array([[1.0, 0.0]]), np.array([1])
    for temperature, expected in ((1e-6, 1.0), (0.07, 1.0), (10.0, 0.0)):
        settings = {"classes": 2, "ks": (3,), "mesh": mesh, "temperature": temperature}
        assert knn.accuracy(train, labels, query, answer, **settings) == {3: expected}


@pytest.mark.parametrize("rows", [1, 7, 30, 61, 80])
def test_the_nearest_are_those_of_one_top_k_also_among_equals(rows, monkeypatch):
    """Corners of a cube, so that each cosine is exact and most of them occur often. A label is the record's number."""
    monkeypatch.setattr(knn, "BANK", rows)
    rng = np.random.default_rng(0)
    bank, queries = (rng.choice([-1.0, 1.0], (count, 4)).astype(np.float32) for count in (61, 5))
    expected = np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, :33]
    found = np.full((5, 33), -np.inf, np.float32), np.zeros((5, 33), np.int32)
    for _, chunk in knn._chunks(bank, np.arange(61)):
        found = knn.nearer(found, queries, *chunk)
    np.testing.assert_array_equal(found[1], expected)
    np.testing.assert_array_equal(found[0], np.take_along_axis(queries @ bank.T, expected, axis=1) / 4)


def test_chunks_change_nothing(mesh, monkeypatch):
    data = clusters(1, train=157, test=67)
    settings = {"classes": 4, "ks": (1, 10, 100), "mesh": mesh}
    whole = knn.accuracy(*data, **settings)
    for queries, bank in ((1, 10), (3, 157), (4096, 50)):
        monkeypatch.setattr(knn, "QUERIES", queries)
        monkeypatch.setattr(knn, "BANK", bank)
        assert knn.accuracy(*data, **settings) == whole


def test_what_is_asked_beside_it_changes_nothing(mesh):
    data = clusters(2)
    together = knn.accuracy(*data, classes=4, ks=(3, 10, 40), mesh=mesh)
    assert together == {k: knn.accuracy(*data, classes=4, ks=(k,), mesh=mesh)[k] for k in (3, 10, 40)}


def test_of_few_records_all_vote(mesh):
    """The k that was asked for is the one that is answered."""
    train, labels, queries, answers = clusters(2)
    few = train[:7], labels[:7], queries, answers
    found = knn.accuracy(*few, classes=4, ks=(3, 7, 20, 100), mesh=mesh)
    assert list(found) == [3, 7, 20, 100]
    assert found[7] == found[20] == found[100]


def test_one_and_two_devices_agree_and_gather_no_similarities(two_devices, mesh, small_chunks):
    data = clusters(4)
    one = Mesh(np.asarray(jax.devices()[:1]), ("data",))
    settings = {"classes": 4, "ks": (1, 5, 20)}
    assert knn.accuracy(*data, mesh=mesh, **settings) == knn.accuracy(*data, mesh=one, **settings)
    rows = [np.zeros((4, 20), np.float32), np.zeros((4, 20), np.int32), np.zeros((4, 6), np.float32)]
    similarity, labels, queries = sharding.shard_batch(rows, mesh)
    bank = sharding.copy_to_each((np.zeros((13, 6), np.float32), np.zeros(13, np.int32), np.int32(9)), mesh)
    compiled = knn._on_each(mesh).lower((similarity, labels), queries, *bank).compile()
    assert "all-" not in compiled.as_text()
    assert [shard.data.shape for shard in queries.addressable_shards] == [(2, 6)] * 2


def test_features_may_lie_in_files_and_the_vote_be_left_off(tmp_path, mesh, small_chunks):
    train, labels, queries, answers = clusters(5)
    np.save(tmp_path / "bank.npy", train)
    settings = {"classes": 4, "ks": (5,), "mesh": mesh}
    bank, seen = np.load(tmp_path / "bank.npy", mmap_mode="r"), []
    assert knn.accuracy(bank, labels, queries, answers, before_chunk=seen.append, **settings) == knn.accuracy(
        train, labels, queries, answers, **settings
    )
    rows, bank_rows = 2 * mesh.size, knn.BANK
    assert seen == [
        start + min(rows, 37 - start) * passed / len(train)
        for start in range(0, 37, rows)
        for passed in range(0, len(train), bank_rows)
    ]

    def leave(done):
        raise KeyError(done)

    with pytest.raises(KeyError, match="0"):
        knn.accuracy(train, labels, queries, answers, before_chunk=leave, **settings)


def test_the_nearest_are_those_that_vote(mesh, small_chunks):
    """Places and similarities by brute force; their vote, with equal weights, is `accuracy`'s."""
    train, labels, queries, answers = clusters(5)
    similarity, places = knn.nearest(train, queries, k=4, mesh=mesh)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, train)]
    cosines = unit[0] @ unit[1].T
    np.testing.assert_array_equal(places, np.argsort(-cosines, axis=1)[:, :4])
    np.testing.assert_allclose(similarity, np.take_along_axis(cosines, places, axis=1), atol=1e-6)
    ours = knn.accuracy(train, labels, queries, answers, classes=4, ks=(1, 4), mesh=mesh, temperature=1e6)
    assert ours[1] == np.mean(labels[places[:, 0]] == answers)
    counts = np.stack([(labels[places] == label).sum(1) for label in range(4)])
    sure = (counts == counts.max(0)).sum(0) == 1
    assert sure.sum() > 20
    voted = knn.accuracy(train, labels, queries[sure], answers[sure], classes=4, ks=(4,), mesh=mesh, temperature=1e6)
    assert voted[4] == np.mean(counts.argmax(0)[sure] == answers[sure])
    assert knn.nearest(train[:3], queries, k=9, mesh=mesh)[1].shape == (37, 3)
