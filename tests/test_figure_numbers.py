"""What figures show besides attention: colours of feature maps, t-SNE's records and scores, errors of pixels."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from repre_jax.core.errors import UserError
from repre_jax.evaluation import pyramid, tsne
from repre_jax.report.figures import reconstructions


def test_colours_are_the_three_largest_directions_of_all_images_together():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    parts = rng.random((2, 5, 4, 3)) * [9, 5, 2]
    maps = parts @ basis[:3] + 1e-3 * rng.standard_normal((2, 5, 4, 6)) + 7
    colours = pyramid.colours(maps.astype(np.float32))
    assert colours.shape == (2, 5, 4, 3)
    assert colours.min() == 0
    assert colours.max() == 1
    for channel in range(3):
        correlation = np.corrcoef(colours[..., channel].ravel(), parts[..., channel].ravel())[0, 1]
        assert abs(correlation) > 0.9, channel
    assert colours.tobytes() == pyramid.colours(maps.astype(np.float32)).tobytes()


def test_one_stray_token_does_not_fade_the_others():
    maps = np.random.default_rng(1).standard_normal((1, 20, 20, 4))
    maps[0, 0, 0] = 1e4
    assert pyramid.colours(maps)[..., 0].std() > 0.15


@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (1, 1, 2, 8), (2, 3, 3, 1)])
def test_components_that_are_not_there_are_grey(shape):
    colours = pyramid.colours(np.random.default_rng(2).standard_normal(shape))
    there = min(3, shape[0] * shape[1] * shape[2] - 1, shape[3])
    assert (colours[..., there:] == 0.5).all()
    assert [np.ptp(colours[..., channel]) for channel in range(there)] == [1] * there
    assert (pyramid.colours(np.ones((1, 4, 4, 8))) == 0.5).all()


def test_the_records_of_random_classes_are_chosen_by_the_seed():
    labels = np.random.default_rng(3).integers(-1, 30, 900)
    labels[labels == 7] = 8
    labels[0] = 7  # a class of one record
    chosen = tsne.choose(labels, classes=20, per_class=9, seed=1)
    classes, counts = np.unique(labels[chosen], return_counts=True)
    assert len(classes) == 20
    assert set(counts) == {9}
    assert (np.diff(chosen) > 0).all()
    assert not {-1, 7} & set(classes)
    np.testing.assert_array_equal(chosen, tsne.choose(labels, classes=20, per_class=9, seed=1))
    assert set(classes) != set(labels[tsne.choose(labels, classes=20, per_class=9, seed=2)])
    assert len(tsne.choose(labels, classes=99, per_class=10**6, seed=1)) == (labels >= 0).sum() - 1
    assert not len(tsne.choose(np.full(5, -1), classes=20, per_class=9, seed=1))


def test_the_map_is_repeatable_and_the_scores_are_scikit_learns():
    rng = np.random.default_rng(4)
    labels = rng.integers(3, size=40)
    features = np.eye(5)[labels] * rng.uniform(1, 90, (40, 1)) + 0.1 * rng.standard_normal((40, 5))
    found, again = (tsne.embed(features, labels, seed=5) for _ in range(2))
    assert found.points.shape == (40, 2)
    assert found.points.tobytes() == again.points.tobytes()
    assert found.silhouette == pytest.approx(silhouette_score(features, labels, metric="cosine"), abs=1e-5)
    assert found.silhouette_2d == pytest.approx(silhouette_score(found.points, labels), abs=1e-5)
    assert found.silhouette_2d > 0.5


@pytest.mark.parametrize("features", [np.zeros((8, 4)), np.ones((8, 4)) * np.arange(1, 9)[:, None]])
def test_a_collapsed_encoder_is_named(features):
    with pytest.raises(UserError, match="has collapsed"):
        tsne.embed(features, np.arange(8) % 2, seed=0)


def test_errors_under_reconstructions():
    view = np.zeros((2, 2, 3))
    rebuilt = view.copy()
    rebuilt[0] = 0.2
    l1, decibels = reconstructions.measures(view, rebuilt)
    assert l1 == pytest.approx(0.1)
    assert decibels == pytest.approx(10 * np.log10(1 / 0.02))
    assert reconstructions.measures(view, view)[1] == pytest.approx(120)
