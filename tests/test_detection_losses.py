"""The losses of detection against PyTorch (tests/golden/detection_heads.py), and with nothing to sum."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.losses import detection as losses
from tests.golden.named_values import value

GOLDEN = Path(__file__).parent / "golden" / "detection_heads.npz"
SAMPLED = np.array([[1, 1, 0, 0, 0, -1], [0, 0, -1, -1, -1, -1]])  # as detection_heads.py has them
REGIONS = np.array([[2, 0, 5, 5, 5, -1], [5, 5, 5, -1, -1, -1]])
MASKED = np.array([[2, 0, -1], [4, -1, -1]])


def given(name, *shape):
    return 3 * value(f"losses/{name}", shape)


def of_anchors(sampled, logits=None, deltas=None):
    logits = given("anchor_logits", 2, 6) if logits is None else logits
    deltas = given("anchor_deltas", 2, 6, 4) if deltas is None else deltas
    return losses.anchors(logits, deltas, given("targets", 2, 6, 4), sampled == 1, sampled >= 0)


def of_regions(classes, logits=None, deltas=None):
    logits = given("region_logits", 2, 6, 6) if logits is None else logits
    deltas = given("region_deltas", 2, 6, 5, 4) if deltas is None else deltas
    return losses.regions(logits, deltas, np.maximum(classes, 0), given("targets", 2, 6, 4), classes >= 0)


def of_masks(classes, logits=None):
    logits = given("mask_logits", 2, 3, 4, 4, 5) if logits is None else logits
    targets = value("losses/mask_targets", (2, 3, 4, 4)) > 0
    return losses.masks(logits, targets, classes, classes >= 0)


def test_each_loss_and_its_gradient_are_pytorchs():
    anchors = (given("anchor_logits", 2, 6), given("anchor_deltas", 2, 6, 4))
    regions = (given("region_logits", 2, 6, 6), given("region_deltas", 2, 6, 5, 4))
    # name -> (loss of an input, the input's name, the input)
    cases = {
        "objectness": (lambda x: of_anchors(SAMPLED, logits=x)[0], "logits", anchors[0]),
        "anchor_deltas": (lambda x: of_anchors(SAMPLED, deltas=x)[1], "deltas", anchors[1]),
        "class": (lambda x: of_regions(REGIONS, logits=x)[0], "logits", regions[0]),
        "region_deltas": (lambda x: of_regions(REGIONS, deltas=x)[1], "deltas", regions[1]),
        "mask": (lambda x: of_masks(MASKED, logits=x), "logits", given("mask_logits", 2, 3, 4, 4, 5)),
    }
    inputs = {name: x for name, (_, _, x) in cases.items()}
    found = jax.jit(lambda xs: {name: jax.value_and_grad(cases[name][0])(x) for name, x in xs.items()})(inputs)
    wanted = np.load(GOLDEN)
    for name, (loss, gradient) in found.items():
        assert float(loss) == pytest.approx(float(wanted[f"losses/{name}"]), rel=1e-5), name
        np.testing.assert_allclose(gradient, wanted[f"losses/{name}/{cases[name][1]}"], atol=1e-6, err_msg=name)


def test_an_image_without_positives_or_negatives_counts_as_if_it_had_one():
    """3 + 1 samples of the first image, 1 + 2 of the second: a logit of 0 costs ln 2, so 5 / 7 of it."""
    sampled = np.array([[1, 1, 1, -1], [0, 0, -1, -1]])
    zeros = jnp.zeros((2, 4, 4))
    objectness, distance = losses.anchors(zeros[..., 0], zeros + 1, zeros, sampled == 1, sampled >= 0)
    assert float(objectness) == pytest.approx(5 / 7 * np.log(2))
    assert float(distance) == pytest.approx(3 * 4 / 7)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_sampled_reaches_neither_loss_nor_gradient(bad):
    """With nothing sampled at all they are 0, whatever the heads say."""
    nothing = np.full((2, 6), -1)

    def total(anchor, delta, region, box, mask):
        parts = (
            *of_anchors(nothing, anchor, delta),
            *of_regions(nothing, region, box),
            of_masks(np.full((2, 3), -1), mask),
        )
        return sum(parts)

    shapes = ((2, 6), (2, 6, 4), (2, 6, 6), (2, 6, 5, 4), (2, 3, 4, 4, 5))
    inputs = [jnp.full(shape, bad) for shape in shapes]
    loss, gradients = jax.jit(jax.value_and_grad(total, argnums=range(5)))(*inputs)
    assert loss == 0
    assert not any(np.asarray(x).any() for x in gradients)
