"""Features by name, of a ViT and a Swin."""

import jax
import numpy as np
import pytest

from repre_jax.core.errors import UserError
from repre_jax.models import build_encoder, features

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)


def vit(depth=4, **settings):
    return build_encoder(
        "vit_ti", width=16, depth=depth, heads=2, patch=4, pyramid_levels=1, image_size=(8, 12), **settings
    )


def swin():
    return build_encoder("swin_t", width=8, depth=(1, 1), heads=(1, 2), patch=2, window=2, image_size=(8, 12))


@pytest.fixture(scope="module")
def params():
    made = vit().init(jax.random.key(0), IMAGES)["params"]
    noise = iter(jax.random.split(jax.random.key(1), 100))  # so that the last LayerNorm shows
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(noise), x.shape), made)


def test_class_tokens_of_the_last_blocks_are_those_of_shallower_encoders(params):
    """Each goes through the final LayerNorm, the last block's comes last (dino vision_transformer.py:225-233)."""
    found = features.extract(vit(), "cls3", params, IMAGES).reshape(2, 3, 16)
    for place, depth in enumerate((2, 3, 4)):
        shallow = {
            name: tree for name, tree in params.items() if not name.startswith("block") or int(name[-1]) <= depth
        }
        expected = features.extract(vit(depth), "cls", shallow, IMAGES)
        np.testing.assert_allclose(found[:, place], expected, atol=1e-6)


def test_what_each_name_means(params):
    output = vit().apply({"params": params}, IMAGES)
    by_name = {name: features.extract(vit(), name, params, IMAGES) for name in ("pooled", "cls", "mean", "cls+mean")}
    np.testing.assert_array_equal(by_name["cls"], output.cls)
    np.testing.assert_array_equal(by_name["pooled"], output.cls)
    np.testing.assert_allclose(by_name["mean"], np.asarray(output.tokens).mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(by_name["cls+mean"], np.concatenate([by_name["cls"], by_name["mean"]], axis=1))
    made = swin().init(jax.random.key(0), IMAGES)["params"]
    pooled, mean = (features.extract(swin(), name, made, IMAGES) for name in ("pooled", "mean"))
    np.testing.assert_allclose(pooled, mean, atol=1e-6)


def test_a_key_drops_paths(params):
    encoder = vit(drop_path=0.9)
    still, one, two = (
        features.extract(encoder, "cls", params, IMAGES, key) for key in (None, jax.random.key(0), jax.random.key(1))
    )
    assert np.abs(still - one).max() > 1e-3
    assert np.abs(one - two).max() > 1e-3


@pytest.mark.parametrize(
    ("encoder", "feature", "message"),
    [
        (vit(), "clss", "Unknown feature 'clss'"),
        (vit(), "...", "Unknown feature"),
        (vit(), "cls5", "has 4 blocks"),
        (swin(), "cls", "a Swin has no class token"),
        (swin(), "cls2", "a Swin has no class token"),
        (swin(), "cls+mean", "a Swin has no class token"),
    ],
)
def test_what_there_is_not_is_refused(encoder, feature, message):
    with pytest.raises(UserError, match=message):
        features.check(encoder, feature)
    for name in ("pooled", "mean"):
        features.check(encoder, name)
