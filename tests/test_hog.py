"""HOG is scikit-image's."""

import jax
import numpy as np
import pytest
from skimage.feature import hog
from sklearn.datasets import load_sample_images

from repre_jax.evaluation.hog import descriptors


@pytest.mark.parametrize(("size", "channels"), [((48, 48), 3), ((30, 45), 3), ((24, 32), 1)])
def test_it_is_scikit_images(size, channels):
    """Of photographs. A gradient on the border of two orientations may fall to either side, by rounding."""
    photographs = load_sample_images().images
    images = np.stack([each[100 : 100 + size[0], 200 : 200 + size[1], :channels] for each in photographs])
    expected = np.stack([hog(each, channel_axis=2) for each in images])
    found = np.asarray(jax.jit(descriptors)(images))
    assert found.shape == expected.shape
    assert np.mean(np.abs(found - expected) < 1e-3) > 0.99
    cosines = (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-4)
