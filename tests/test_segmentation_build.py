"""Which segmentation head fits which encoder, which blocks it reads, and how large its logits are."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import segment as segment_config
from repre_jax.builders import methods, segmentation
from repre_jax.core.errors import UserError
from repre_jax.core.types import SegmentationLogits
from repre_jax.models import build_encoder
from repre_jax.models.segmentation import build as heads
from repre_jax.models.segmentation.layers import Layer
from repre_jax.system import command_line


@pytest.mark.parametrize(
    ("flags", "steps"),
    [((), 80_000), (("--config.epochs=8",), 2975), (("--config.epochs=8", "--config.total_steps=100"), 100)],
)
def test_a_length_in_epochs_that_is_typed_goes_before_the_protocols_in_steps(flags, steps):
    """Of Cityscapes' 2,975 images, 8 at a time."""
    config, _ = command_line.parse(["main.py", "--config=configs/segment.py", *flags])
    segmentation.follow_epochs(config, config.typed)
    assert methods.build_plan(config, records=2975).total_steps == steps


def encoder_of(kind="vit", **settings):
    if kind == "swin":
        return build_encoder("swin_t", width=6, depth=(1, 1, 1, 1), heads=(1, 1, 2, 2), window=2, **settings)
    return build_encoder("vit_ti", width=6, heads=1, image_size=(32, 48), **{"depth": 4, "patch": 16} | settings)


def shapes_of(name, encoder, size=(32, 48)):
    """(the shapes of the logits, of the auxiliary ones, the variables) for one such image, without computing."""
    head = heads.build(name, 7, encoder)

    def run(key):
        output, _ = encoder.init_with_output(key, jnp.zeros((1, *size, 3)))
        variables = head.init(key, output, train=False)
        logits, _ = head.apply(variables, output, train=True, mutable=["batch_stats"])
        tested = head.apply(variables, output, train=False)
        assert isinstance(tested, SegmentationLogits)
        return logits, tested, variables

    logits, tested, variables = jax.eval_shape(run, jax.random.key(0))
    assert tested.auxiliary == ()
    assert tested.logits.shape == logits.logits.shape
    assert {leaf.dtype for leaf in jax.tree.leaves((logits, variables))} == {jnp.dtype(jnp.float32)}
    return logits.logits.shape[1:], [x.shape[1:] for x in logits.auxiliary], variables


@pytest.mark.parametrize(
    ("name", "patch", "logits", "auxiliary"),
    [
        ("naive", 16, (2, 3), [(2, 3)] * 3),
        ("pup", 16, (16, 24), [(8, 12)] * 4),
        ("pup", 8, (16, 24), [(8, 12)] * 4),
        ("pup", 4, (16, 24), [(8, 12)] * 4),
        ("mla", 16, (8, 12), [(2, 3)] * 4),
        ("mla", 8, (8, 12), [(4, 6)] * 4),
        ("mla", 2, (16, 24), [(16, 24)] * 4),
        ("linear", 16, (2, 3), []),
        ("linear_pyramid", 16, (2, 3), []),
    ],
)
def test_how_large_the_logits_of_a_vit_are(name, patch, logits, auxiliary):
    """Of images of 32 x 48: PUP ends at half of it, its auxiliary heads and MLA at a quarter, for each patch."""
    encoder = encoder_of(patch=patch, class_token=heads.needs_class_token(name), pyramid_blocks=heads.blocks(name, 4))
    assert shapes_of(name, encoder)[:2] == ((*logits, 7), [(*size, 7) for size in auxiliary])


@pytest.mark.parametrize(("name", "logits"), [("fpn", (9, 13)), ("linear", (2, 2)), ("linear_pyramid", (9, 13))])
def test_how_large_the_logits_of_a_swin_are(name, logits):
    """Of images of 36 x 52, whose maps have odd sides."""
    assert shapes_of(name, encoder_of("swin"), (36, 52))[:2] == ((*logits, 7), [])


def test_half_precision_is_for_products_only():
    """Parameters, statistics and logits stay float32; see shapes_of."""
    for name, kind in (("mla", "vit"), ("fpn", "swin")):
        assert shapes_of(name, encoder_of(kind, dtype="bfloat16"))[0][-1] == 7


def test_widths_and_the_first_values_are_the_authors():
    """SETR's 256 and 128, PyTorch's bounds; FPN's 256 and 128."""
    *_, variables = shapes_of("mla", encoder_of())
    kernels = {"/".join(path[1:-1]): x.shape for path, x in flatten_dict(variables).items() if path[-1] == "kernel"}
    assert kernels["neck/lateral_1/conv"] == (6, 256)
    assert kernels["neck/output_4/conv"] == (3, 3, 256, 256)
    assert kernels["decode/level_2_layer_1/conv"] == (3, 3, 256, 128)
    assert kernels["decode/classify"] == (3, 3, 512, 7)
    assert kernels["auxiliary_3"] == (256, 7)
    *_, variables = shapes_of("fpn", encoder_of("swin"))
    assert variables["params"]["neck"]["lateral_3"]["kernel"].shape == (24, 256)
    assert variables["params"]["decode"]["level_4_layer_3"]["conv"]["kernel"].shape == (3, 3, 128, 128)
    layer = Layer(8, 3, jnp.float32)
    params = jax.jit(lambda key: layer.init(key, jnp.zeros((1, 2, 3, 6)), train=False))(jax.random.key(0))["params"]
    bound = 1 / math.sqrt(54)
    assert 0.95 * bound < np.abs(params["conv"]["kernel"]).max() <= bound
    assert 0.5 * bound < np.abs(params["conv"]["bias"]).max() <= bound
    assert params["bn"]["scale"].tolist() == [1] * 8
    assert params["bn"]["bias"].tolist() == [0] * 8


@pytest.mark.parametrize(
    ("name", "depth", "blocks"),
    [
        ("naive", 12, (3, 6, 9, 12)),
        ("pup", 12, (5, 8, 10, 12)),
        ("mla", 12, (3, 6, 9, 12)),
        ("naive", 24, (10, 15, 20, 24)),
        ("pup", 24, (10, 15, 20, 24)),
        ("mla", 24, (6, 12, 18, 24)),
        ("pup", 6, (3, 4, 5, 6)),
        ("naive", 6, (1, 3, 4, 6)),
        ("pup", 4, (1, 2, 3, 4)),
        ("pup", 2, (1, 2)),
        ("mla", 1, (1,)),
        ("linear", 12, (12,)),
        ("linear_pyramid", 12, (3, 6, 9, 12)),
    ],
)
def test_the_blocks_that_heads_read(name, depth, blocks):
    """SETR's for 12 and 24 blocks; a head can always be built for them."""
    assert heads.blocks(name, depth) == blocks
    heads.build(name, 3, encoder_of(depth=depth, pyramid_blocks=blocks))


def test_mla_alone_wants_no_class_token():
    assert [name for name in heads.NAMES if not heads.needs_class_token(name)] == ["mla"]


@pytest.mark.parametrize(
    ("name", "classes", "encoder", "message"),
    [
        (
            "pup",
            7,
            {"kind": "swin"},
            r"'pup' cannot read a Swin's maps.\n  expected: fpn, linear, linear_pyramid\n.*configs/segment.py:fpn$",
        ),
        (
            "fpn",
            7,
            {},
            "'fpn' cannot read a ViT's maps.\n  expected: naive, pup, mla, linear, linear_pyramid\n.*segment.py:naive$",
        ),
        ("upernet", 7, {}, "Unknown segmentation head 'upernet'.\n  expected: naive, pup, mla, fpn, linear, "),
        ("naive", 7, {"pyramid_blocks": (1, 2)}, r"ends at block 2 of 4.*\n.*pyramid_blocks='\(1, 2, 3, 4\)'"),
        ("naive", 1, {}, "number of classes is 1.\n  expected: a whole number of at least 2"),
        ("naive", 7.5, {}, "number of classes is 7.5."),
    ],
)
def test_what_does_not_fit_is_refused(name, classes, encoder, message):
    with pytest.raises(UserError, match=message):
        heads.build(name, classes, encoder_of(**encoder))


def test_a_swins_stages_are_not_chosen():
    with pytest.raises(UserError, match="'fpn' takes no blocks of a ViT"):
        heads.blocks("fpn", 12)


def test_every_variant_keeps_the_rate_of_its_head():
    """A fifth of the others' for MLA."""
    for variants in ("", "scenes", "tiny"):
        rates = [
            segment_config.get_config(f"{head},{variants}".strip(",")).optim.lr for head in ("naive", "pup", "mla")
        ]
        assert rates == [0.32, 0.32, pytest.approx(0.064)], variants
