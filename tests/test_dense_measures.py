"""What lines read off patch tokens: least squares as scikit-learn's, the patches' own rules, and known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import jaccard_score, r2_score

from repre_jax.core.errors import UserError
from repre_jax.core.types import LabelMaps
from repre_jax.data import label_classes
from repre_jax.data.label_classes import IGNORED
from repre_jax.data.segmentation_views import SegmentationCentreView
from repre_jax.evaluation import dense_measures, patches
from repre_jax.evaluation.dense_measures import Split
from repre_jax.evaluation.patches import Patches
from repre_jax.evaluation.ridge import Sums
from repre_jax.models import build_encoder, patch_tokens

SIDE, CLASSES = 2, 3


def test_a_line_is_scikit_learns_ridge_of_standardised_features_whatever_parts_it_was_summed_of():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(90, 6)) * [1, 5, 0.1, 1, 1, 1] + 3).astype(np.float32)
    y, weights = rng.normal(size=(90, 2)), rng.uniform(0.5, 2, 90)
    parts = [Sums.of(x[rows], y[rows], weights[rows]) for rows in (slice(0, 50), slice(50, 90))]
    whole = parts[0] + parts[1]
    for part in (slice(0, 6), slice(4, 6)):
        own = x[:, part].astype(np.float64)
        mean = np.average(own, axis=0, weights=weights)
        std = np.sqrt(np.average((own - mean) ** 2, axis=0, weights=weights))
        for penalty, line in zip((1e-3, 0.5), whole.of_features(part).lines((1e-3, 0.5)), strict=True):
            theirs = Ridge(alpha=penalty * weights.sum()).fit((own - mean) / std, y, sample_weight=weights)
            np.testing.assert_allclose(line(x[:, part]), theirs.predict((own - mean) / std), atol=1e-4)


def labelled(images, label_maps, tokens, extents=None):
    """All patches of these images, with these tokens."""
    count, size = len(images), images.shape[1:3]
    extents = np.array([size] * count) if extents is None else np.array(extents)
    batch = LabelMaps(images=images, label_maps=label_maps, extents=extents)
    numbers = patches.numbers_of(size, SIDE, 999)
    return patches.of_batch(batch, [(tokens, tokens.mean(axis=1))], numbers, SIDE, CLASSES)


def drawn(seed, count=12):
    """(Images of 8 x 8 whose patches have one class each; their patches), whose tokens end with nothing but noise and
    begin with class and pixels."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, CLASSES, (count, 4, 4)).astype(np.uint8)
    label_maps = classes.repeat(SIDE, axis=1).repeat(SIDE, axis=2)
    images = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    pixels = patches.in_patches(images, SIDE).reshape(count, 16, -1) / 255
    known = np.eye(CLASSES)[classes.reshape(count, 16)]
    noise = rng.normal(size=(count, 16, 2))
    return labelled(images, label_maps, np.concatenate([known, pixels, noise], axis=-1).astype(np.float32))


def test_what_a_line_can_know_is_measured_as_known_and_noise_as_nothing():
    parts = [drawn(seed) for seed in range(3)]
    split = Split(*parts, background=(0,))
    measures, penalties = dense_measures.measure(split, 0, {"last": 2, "all": 17})
    assert measures["object_ap_all"] == pytest.approx(1)
    assert measures["linear_miou_all"] == 1
    assert measures["detail_r2_all"] > 0.999
    assert measures["detail_within_r2_all"] > 0.999
    same = dense_measures.constant(split)
    assert measures["object_ap_last"] == pytest.approx(same["object_ap_constant"], abs=0.12)
    assert measures["linear_miou_last"] < 0.4
    assert measures["detail_r2_last"] == pytest.approx(0, abs=0.1)
    assert measures["detail_within_r2_last"] == pytest.approx(0, abs=0.1)
    assert measures["token_rank"] == pytest.approx(2, abs=0.05)
    assert set(penalties) == {f"{kind}_{depth}" for kind in ("object_ap", "linear_miou", "detail_r2") for depth in
                              ("last", "all")}  # fmt: skip
    seen = np.bincount(parts[2].majority.ravel())
    assert same["object_ap_constant"] == pytest.approx(1 - seen[0] / seen.sum())
    assert same["linear_miou_constant"] == pytest.approx(seen.max() / seen.sum() / 3)


def test_without_objects_there_is_no_precision_and_with_one_colour_no_variance():
    grey, plain = np.full((4, 8, 8, 3), 9, np.uint8), np.zeros((4, 8, 8), np.uint8)
    tokens = np.random.default_rng(0).normal(size=(4, 16, 5)).astype(np.float32)
    part = labelled(grey, plain, tokens)
    measures, penalties = dense_measures.measure(Split(part, part, part, background=(0,)), 0, {"last": 5, "all": 5})
    assert {name for name, value in measures.items() if value is not None} == {"token_rank", "pooled_rank"}
    assert penalties == {}


def test_shares_are_scikit_learns():
    rng = np.random.default_rng(0)
    y, answers = rng.normal(size=(40, 12)) + np.arange(12), rng.normal(size=(40, 12)) + np.arange(12)
    expected = r2_score(y, answers, multioutput="variance_weighted")
    assert dense_measures.explained(answers, y) == pytest.approx(expected)
    pixels, theirs = (x.reshape(40, 4, 3) - x.reshape(40, 4, 3).mean(axis=1, keepdims=True) for x in (y, answers))
    expected = r2_score(pixels.reshape(40, 12), theirs.reshape(40, 12), multioutput="variance_weighted")
    assert dense_measures.explained_within(answers, y, 3) == pytest.approx(expected)
    shifted = answers + np.tile([5.0, -3.0, 1.0], 4)  # another mean colour
    assert dense_measures.explained_within(shifted, y, 3) == pytest.approx(expected)
    labels = rng.integers(0, 4, 40)
    expected = jaccard_score(labels, answers[:, :4].argmax(axis=1), average="macro")
    assert dense_measures.miou(answers[:, :4], np.eye(4)[labels]) == pytest.approx(expected)


def test_a_patch_has_the_class_of_most_of_its_pixels_and_is_an_object_by_half_of_them():
    rows = [
        [[0, 0], [1, 2]],  # half of it of objects: the background is first
        [[0, 0], [0, 1]],
        [[2, 2], [0, 1]],
        [[1, IGNORED], [0, IGNORED]],  # half scored
        [[1, IGNORED], [IGNORED, IGNORED]],  # too few
    ]
    label_maps = np.concatenate(rows, axis=1)[None].astype(np.uint8)
    images = np.arange(2 * 10 * 3, dtype=np.uint8).reshape(1, 2, 10, 3)
    found = labelled(images, label_maps, np.zeros((1, 5, 1), np.float32), [(2, 7)])
    assert found.scored.tolist() == [[True, True, True, True, False]]
    assert found.objects((0,)).tolist()[0][:4] == [True, False, True, True]
    assert found.objects((0, 1)).tolist()[0][:4] == [False, False, True, False]
    assert found.majority.tolist()[0][:4] == [0, 0, 2, 0]
    assert found.inside.tolist() == [[True, True, True, False, False]], "padding begins in the fourth"
    np.testing.assert_array_equal(found.pixels[0, 1].reshape(2, 2, 3), images[0, :, 2:4])


def test_held_out_images_lie_evenly_among_the_others():
    assert np.flatnonzero(patches.held_out(10, 0.2)).tolist() == [4, 9]
    assert [int(patches.held_out(200, share).sum()) for share in (0.1, 0.25, 0.3)] == [20, 50, 60]


def test_the_central_part_of_an_image_is_seen_as_it_is():
    classes = label_classes.numbered(CLASSES)
    image = np.random.default_rng(0).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    label_map = np.tile(np.arange(9, dtype=np.uint8)[:, None] % 3, (1, 6))
    view = SegmentationCentreView((4, 8), classes)
    sample = view({"image": image, "label_map": label_map}, np.random.default_rng(0))
    np.testing.assert_array_equal(sample["images"][:, :6], image[2:6])
    np.testing.assert_array_equal(sample["label_maps"][:, :6], label_map[2:6])
    assert sample["extents"].tolist() == [4, 6]
    assert (sample["label_maps"][:, 6:] == IGNORED).all()
    assert {name: (x.shape, x.dtype) for name, x in view.filler.items()} == {
        name: (x.shape, x.dtype) for name, x in sample.items()
    }


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vit_ti", {"width": 8, "depth": 6, "heads": 2, "pyramid_levels": 1}),
        ("swin_t", {"width": 4, "depth": (1, 1), "heads": (1, 2), "window": 2}),
    ],
)
def test_a_token_is_that_of_the_last_block_behind_those_of_the_other_levels(name, sizes):
    """Of a ViT always four levels, though its own run fused one; of a Swin the deeper map as large as the first."""
    encoder = patch_tokens.with_levels(build_encoder(name, patch=4, image_size=(8, 16), **sizes), chosen=False)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 16, 3)), jnp.float32)
    params = jax.jit(encoder.init)(jax.random.key(0), images)["params"]
    tokens, pooled = jax.jit(lambda x: patch_tokens.extract(encoder, params, x))(images)
    output = jax.jit(lambda x: encoder.apply({"params": params}, x))(images)
    widths = patch_tokens.widths(encoder)
    assert tokens.shape == (2, 8, widths["all"])
    np.testing.assert_allclose(pooled, output.pooled, atol=1e-6)
    first, last = output.pyramid[0].reshape(2, 8, -1), np.asarray(output.pyramid[-1])
    np.testing.assert_allclose(tokens[..., : first.shape[-1]], first, atol=1e-6)
    if name == "vit_ti":
        assert (encoder.pyramid_blocks, widths) == ((1, 3, 4, 6), {"last": 8, "all": 32})
        np.testing.assert_allclose(tokens[..., -8:], last.reshape(2, 8, 8), atol=1e-6)
        with pytest.raises(UserError, match="ends with 3, and the encoder has 6 blocks"):
            patch_tokens.with_levels(encoder.clone(pyramid_blocks=(1, 3)), chosen=True)
    else:
        assert (widths, last.shape) == ({"last": 8, "all": 12}, (2, 1, 2, 8))
        deep = np.asarray(tokens[..., -8:]).reshape(2, 2, 4, 8)
        np.testing.assert_allclose(deep[:, :, 0], last[:, :, 0].repeat(2, axis=1).reshape(2, 2, 8), atol=1e-6)


def test_images_are_chosen_together_with_all_that_is_known_of_them():
    found = drawn(0).of_images(np.arange(12) % 3 == 0)
    assert isinstance(found, Patches)
    assert {len(each) for each in (*found.tokens, *found.pooled, found.pixels, found.inside, found.counts)} == {4}
