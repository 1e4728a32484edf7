"""The k-NN vote against a brute-force loop."""

import numpy as np
import pytest

from repre_jax.evaluation import knn


def vote_by_loops(train, labels, queries, k, temperature, classes):
    predicted = []
    for query in queries:
        cosines = [query @ x / np.linalg.norm(query) / np.linalg.norm(x) for x in train]
        scores = np.zeros(classes)
        for index in np.argsort(cosines)[::-1][:k]:
            scores[labels[index]] += np.exp(cosines[index] / temperature)
        predicted.append(scores.argmax())
    return np.array(predicted)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (20, 1.0), (500, 0.07)])
def test_accuracy_equals_the_loop(k, temperature, monkeypatch):
    monkeypatch.setattr(knn, "CHUNK", 13)  # more than one chunk, the last one smaller
    rng = np.random.default_rng(k)
    centres = rng.normal(size=(4, 6))
    labels, answers = rng.integers(4, size=61), rng.integers(4, size=37)
    train = (centres[labels] + rng.normal(size=(61, 6)) * 1.2) * rng.uniform(0.1, 9, size=(61, 1))
    queries = centres[answers] + rng.normal(size=(37, 6)) * 1.2
    expected = np.mean(vote_by_loops(train, labels, queries, k, temperature, 4) == answers)
    ours = knn.accuracy(train, labels, queries, answers, classes=4, k=k, temperature=temperature)
    assert 0.3 < expected < 1
    assert ours == pytest.approx(expected)


def test_weights_decide_not_the_count():
    """One very near neighbour outvotes two far ones at a low temperature, not at a high one."""
    train = np.array([[1.0, 0.0], [0.3, 1.0], [0.3, -1.0]])
    labels, query, answer = np.array([0, 1, 1]), np.array([[1.0, 0.0]]), np.array([0])
    settings = {"classes": 2, "k": 3}
    assert knn.accuracy(train, labels, query, answer, temperature=0.07, **settings) == 1.0
    assert knn.accuracy(train, labels, query, answer, temperature=10.0, **settings) == 0.0
