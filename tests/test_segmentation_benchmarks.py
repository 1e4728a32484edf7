"""What the programs that measure segmentation say: multiply-adds, memory, and that bands change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import flops, hardware, products, segment_program, segment_step, steps
from repre_jax.models import build_encoder
from repre_jax.train import segmentation

SMALL = [
    "--config.data.image_size=(32, 48)", "--config.encoder.name=vit_ti", "--config.encoder.width=16",
    "--config.encoder.depth=(4,)", "--config.encoder.heads=(2,)", "--config.encoder.patch=8",
    "--config.segment.test_stride=(32, 32)", "--config.batch_size=2",
]  # fmt: skip


def shape(*sides):
    return jax.ShapeDtypeStruct(sides, jnp.float32)


def test_products_are_counted_in_loops_branches_and_convolutions():
    def function(x, kernel):
        y = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )
        y = jax.checkpoint(jnp.sin)(y).reshape(-1, 6)
        y, _ = jax.lax.scan(lambda carry, _: (carry @ jnp.ones((6, 6)), None), y, length=5)
        return jax.lax.cond(y.sum() > 0, lambda y: y @ jnp.ones((6, 7)), lambda y: y[:, :1] * jnp.ones(7), y)

    convolution = 4 * 3 * 6 * (3 * 3 * 2)
    assert products.macs(function, shape(1, 8, 6, 4), shape(3, 3, 2, 6)) == convolution + 12 * 6 * 6 * 5 + 12 * 6 * 7


@pytest.mark.parametrize(("name", "depth"), [("vit_s", 4), ("swin_t", (1, 1, 2, 1))])
def test_products_of_an_encoder_are_those_of_the_formula(name, depth):
    encoder = build_encoder(name, image_size=(224, 224), depth=depth)
    images = shape(1, 224, 224, 3)
    params = jax.eval_shape(encoder.init, jax.random.key(0), images)
    assert products.macs(encoder.apply, params, images) == pytest.approx(flops.encoder_macs(encoder), rel=2e-3)


def test_a_step_at_full_size_is_known_without_running_it():
    """SETR's Naive on four of ViT-S's blocks at 768, by hand; a frozen encoder has no backward pass."""
    naive, linear = (
        segment_program.build(segment_program.parse(head, ["--config.encoder.depth=(4,)"]))
        for head in ("naive", "linear")
    )
    blocks = 4 * (12 * 384**2 + 2 * 2305 * 384) * 2305
    patches = 48 * 48 * 16 * 16 * 3 * 384
    head = 48 * 48 * (384 * 256 + 256 * 19)
    assert naive.gflop() == pytest.approx(2 * 8 * 3 * (blocks + patches + 4 * head) / 1e9, rel=1e-3)
    assert linear.gflop() == pytest.approx(2 * 8 * (blocks + patches + 3 * 48 * 48 * 384 * 19) / 1e9, rel=1e-3)
    assert naive.full_size_bytes() == 4 * linear.full_size_bytes() == 4 * 4 * 8 * 768 * 768 * 19
    assert (set(naive.state.params), set(linear.state.params)) == ({"encoder", "head"}, {"head"})
    assert linear.frozen[0].keys() == naive.state.params["encoder"].keys()


@pytest.mark.parametrize("align", [False, True])
def test_bands_of_rows_give_the_loss_and_the_gradient_of_all_at_once(align, monkeypatch):
    monkeypatch.setattr(segmentation, "BAND", 2 * 4 * 48 * segment_program.CLASSES)
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 4, 6, segment_program.CLASSES)), jnp.float32)
    labels = rng.integers(0, segment_program.CLASSES, (2, 32, 48)).astype(np.uint8)
    labels[:, 20:, :5] = 255
    found = []
    for at_once in (False, True):
        method = segment_program.build(segment_program.parse("linear", SMALL), at_once=at_once).method
        method = dataclasses.replace(method, head=method.head.clone(align_corners=align))
        step = jax.jit(jax.value_and_grad(method._summed, has_aux=True))
        text = step.lower(logits, labels).as_text()
        assert ("while" in text) != at_once
        found.append(step(logits, labels))
    ((loss, correct), gradient), ((whole, right), expected) = found
    assert loss == pytest.approx(float(whole), rel=1e-6)
    assert correct == right > 0
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6 * float(jnp.abs(expected).max()))


def test_a_row_of_the_step_has_its_speed(monkeypatch):
    monkeypatch.setattr(steps, "TURN", 0.01)
    monkeypatch.setitem(hardware.SIDE, "cpu", 64)
    more = ["--config.encoder.depth=(1,)", "--config.encoder.pyramid_levels=1", "--config.segment.colours=False"]
    found = segment_step.measure(segment_program.parse("linear", [*SMALL, *more]), turns=1)
    assert found["images_per_second"] == pytest.approx(2e3 / found["median_ms"])
    assert found["mfu_of_matrix_product"] > 0
    assert (found["mfu_of_data_sheet"], found["attention"]) == (None, "xla")
    assert segment_step.cells(found | {"images_per_second": 0.01129})[0:4:3] == ("linear, vit_ti", "0.011")
