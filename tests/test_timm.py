"""timm's names <-> ours: values and sizes checked, everything given back to the bit."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from repre_jax.core.errors import UserError
from repre_jax.interop import files, timm
from repre_jax.models import positions
from tests.golden.encoders import swin, vit
from tests.golden.weights import state_dict


def fresh(encoder, seed=0):
    images = jnp.zeros((1, encoder.patch, encoder.patch, encoder.channels))
    return jax.jit(encoder.init)(jax.random.key(seed), images)["params"]


def names(encoder):
    return set(timm.dump(fresh(encoder), encoder))


@pytest.mark.parametrize("name", ["deit", "swin"])
def test_what_was_loaded_is_dumped_to_the_bit(name):
    weights = state_dict(name)
    encoder = swin() if name == "swin" else vit()
    back = timm.dump(timm.load(weights, encoder), encoder)
    assert set(back) == set(weights)
    for key, array in weights.items():
        assert back[key].dtype == np.float32
        assert np.ascontiguousarray(back[key]).tobytes() == array.tobytes(), key


@pytest.mark.parametrize("encoder", [vit(), vit("moco_v3"), swin()], ids=["deit", "moco_v3", "swin"])
@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_what_was_dumped_is_loaded_to_the_bit(encoder, kind, tmp_path):
    """Through a file, random values included that training would give."""
    params = jax.tree.map(lambda p: p + jax.random.normal(jax.random.key(p.size), p.shape), fresh(encoder))
    files.write(tmp_path / f"x.{kind}", timm.dump(params, encoder))
    back = timm.load(files.read(tmp_path / f"x.{kind}"), encoder)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True))


def test_the_names_are_timms():
    """Those of timm 1.0.31's vit_small_patch16_224 and swin_tiny_patch4_window7_224, without the classifier."""
    expected = {
        "cls_token",
        "pos_embed",
        "norm.weight",
        "norm.bias",
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
    }
    block = [
        f"{layer}.{kind}"
        for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")
    ]
    expected |= {f"blocks.{number}.{name}" for number in range(6) for name in block}
    assert names(vit()) == names(vit("moco_v3")) == expected
    expected = {
        f"{layer}.{kind}" for layer in ("patch_embed.proj", "patch_embed.norm", "norm") for kind in ("weight", "bias")
    }
    block.append("attn.relative_position_bias_table")
    expected |= {
        f"layers.{stage}.blocks.{number}.{name}" for stage in range(4) for number in range(2) for name in block
    }
    merging = ("norm.weight", "norm.bias", "reduction.weight")
    expected |= {f"layers.{stage}.downsample.{name}" for stage in (1, 2, 3) for name in merging}
    assert names(swin()) == expected


def test_the_counts_are_printed(capsys):
    weights = state_dict("deit") | {"head.weight": np.zeros((10, 24)), "head.bias": np.zeros(10)}
    timm.load(weights, vit())
    assert capsys.readouterr().out.splitlines() == [
        "Loaded 78 tensors, all that the encoder has, from 80 in the file.",
        "  encoder:  ViT (deit), width 24, 6 blocks, 3 heads, patch 4, pyramid of blocks 1-3-4-6",
        "  heads:    3 as it was built; the file cannot tell, 6 and 12 have equal shapes",
        "  left out: 2 of classifier or projector: head.bias, head.weight",
    ]


def test_every_fault_is_named():
    weights = state_dict("deit")
    del weights["blocks.2.norm1.bias"]
    weights["dist_token"] = np.zeros((1, 1, 24))
    weights["blocks.0.mlp.fc1.bias"] = np.zeros(5, np.float32)
    weights["norm.bias"] = np.zeros(24, np.int64)
    with pytest.raises(UserError) as caught:
        timm.load(weights, vit())
    message = str(caught.value)
    assert "missing:   blocks.2.norm1.bias (24,)" in message
    assert "unknown:   dist_token (1, 1, 24)" in message
    assert "misshapen: blocks.0.mlp.fc1.bias (5,), the encoder has (96,)" in message
    assert "misshapen: norm.bias has dtype int64" in message
    assert len(message.splitlines()) == 5


def test_another_encoder_is_refused():
    with pytest.raises(UserError, match=r"missing: +layers\.0(.|\n)*missing: +and 107 more\n  unknown: +blocks\.0"):
        timm.load(state_dict("deit"), swin())


def test_half_precision_is_widened():
    weights = {name: array.astype(np.float16) for name, array in state_dict("deit").items()}
    params = timm.load(weights, vit())
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    np.testing.assert_array_equal(params["norm"]["scale"], weights["norm.weight"].astype(np.float32))


def test_fixed_positions_are_compared_with_the_formula(capsys):
    weights = state_dict("moco_v3")
    with pytest.raises(UserError, match=r"pos_embed \(1, 17, 24\) in the file is not MoCo v3's.*\n.*variant='deit'"):
        timm.load(weights, vit("moco_v3", heads=6))
    weights["pos_embed"] = timm.dump(fresh(vit("moco_v3")), vit("moco_v3"))["pos_embed"]
    assert not weights["pos_embed"][0, 0].any()
    np.testing.assert_array_equal(weights["pos_embed"][0, 1:], positions.sincos(4, 4, 24))
    timm.load(weights, vit("moco_v3"))
    assert "left out: 1 of fixed positions, equal to the formula: pos_embed" in capsys.readouterr().out
    timm.load(weights, vit("moco_v3", image_size=(32, 16)))


def test_weights_of_moco_v3_are_recognised_in_another_flavour(capsys):
    """They load, as DeiT's fine-tuning does it, but six heads would be wrong for them."""
    weights = state_dict("deit")
    timm.load(weights, vit())
    assert "note:" not in capsys.readouterr().out
    weights["pos_embed"] = timm.dump(fresh(vit("moco_v3")), vit("moco_v3"))["pos_embed"]
    timm.load(weights, vit())
    assert "MoCo v3's, whose ViT-S has 12 heads: variant='moco_v3'" in capsys.readouterr().out


def test_weights_of_moco_v3_may_be_of_half_precision(capsys):
    """And no table that is nearly right passes for it: MAE's has columns first."""
    weights = state_dict("deit")
    table = timm.dump(fresh(vit("moco_v3")), vit("moco_v3"))["pos_embed"]
    for dtype in (np.float16, ml_dtypes.bfloat16):
        half = {name: array.astype(dtype) for name, array in (weights | {"pos_embed": table}).items()}
        timm.load(half, vit("moco_v3"))
        assert "equal to the formula" in capsys.readouterr().out
    columns_first = np.concatenate([table[..., 12:], table[..., :12]], axis=-1)
    for wrong in (columns_first, table + 1e-3, table[:, :-1], np.zeros((1, 0, 24)), np.zeros(())):
        with pytest.raises(UserError, match="is not MoCo v3's fixed table"):
            timm.load(weights | {"pos_embed": np.float32(wrong)}, vit("moco_v3"))


def test_a_moco_v3_file_without_positions_is_remarked_on(capsys):
    weights = state_dict("deit")
    del weights["pos_embed"]
    timm.load(weights, vit("moco_v3"))
    assert "note:     the file has no positions" in capsys.readouterr().out


@pytest.mark.parametrize(
    "odd",
    [np.zeros(()), np.zeros(5), np.zeros((17, 24)), np.zeros((1, 0, 24)), np.zeros((1, 17, 0)), np.zeros((1, 16, 24))],
)
@pytest.mark.parametrize("resize", [False, True])
def test_odd_positions_are_named(odd, resize):
    """Wrong rank, nothing in it, or not square: resizing does not help, and is not offered."""
    with pytest.raises(UserError) as caught:
        timm.load(state_dict("deit") | {"pos_embed": np.float32(odd)}, vit(), resize=resize)
    assert f"misshapen: pos_embed {odd.shape}, the encoder has (1, 17, 24)" in str(caught.value)
    assert "resize=True" not in str(caught.value)


def test_resizing_changes_no_dtype_check_and_no_number_of_heads():
    with pytest.raises(UserError, match="pos_embed has dtype int64, not floating point"):
        timm.load(state_dict("deit") | {"pos_embed": np.zeros((1, 10, 24), int)}, vit(), resize=True)
    with pytest.raises(UserError, match=r"bias_table \(25, 1\), the encoder has \(25, 2\)$"):
        timm.load(state_dict("swin"), swin(heads=(2, 2, 4, 4)), resize=True)


@pytest.mark.parametrize("variant", ["deit", "dino"])
def test_positions_of_another_size_are_resized_when_asked(variant):
    weights = state_dict("deit")
    encoder = vit(variant, image_size=(24, 12))
    with pytest.raises(UserError, match=r"pos_embed \(1, 17, 24\), the encoder has \(1, 19, 24\) \(resize=True interp"):
        timm.load(weights, encoder)
    params = timm.load(weights, encoder, resize=True)
    images = jax.random.normal(jax.random.key(0), (1, 24, 12, 3))
    resized = jax.jit(encoder.apply)({"params": params}, images)
    own = vit(variant)
    on_the_fly = jax.jit(own.apply)({"params": timm.load(weights, own)}, images)
    np.testing.assert_allclose(resized.pooled, on_the_fly.pooled, rtol=1e-4, atol=1e-5)


def test_window_biases_of_another_size_are_resized_when_asked(capsys):
    weights = state_dict("swin")
    with pytest.raises(UserError, match=r"bias_table \(25, 1\), the encoder has \(49, 1\) \(resize=True interpolates"):
        timm.load(weights, swin(window=4))
    capsys.readouterr()
    params = timm.load(weights, swin(window=4), resize=True)
    assert "resized:  8: layers.0.blocks.0.attn.relative" in capsys.readouterr().out
    table = weights["layers.1.blocks.0.attn.relative_position_bias_table"]
    expected = positions.resize(table.reshape(5, 5, 2), (7, 7)).reshape(49, 2)
    np.testing.assert_array_equal(params["stage_2_block_1"]["attn"]["bias_table"], expected)


def test_dump_refuses_parameters_of_another_encoder():
    params = fresh(vit())
    with pytest.raises(UserError, match=r"not those of the encoder \(.* 5 blocks, .*\n  unknown:   block_6/"):
        timm.dump(params, vit(depth=5))
    with pytest.raises(UserError, match="missing:   block_7/"):
        timm.dump(params, vit(depth=7))
    with pytest.raises(UserError, match="misshapen: block_1/"):
        timm.dump(params, vit(width=12))


@pytest.mark.parametrize("name", ["deit", "moco_v3"])
def test_a_class_token_that_the_encoder_is_without_is_left_out(name, capsys):
    """With its position; all else is the file's, and what is written then is read again."""
    weights, encoder = state_dict("deit"), vit(name).clone(class_token=False)
    if name == "moco_v3":
        weights["pos_embed"] = timm.dump(fresh(vit("moco_v3")), vit("moco_v3"))["pos_embed"]
    params, whole = timm.load(weights, encoder), timm.load(weights, vit(name))
    text = "left out: 2 of class token, which the encoder is without: cls_token, pos_embed's first row"
    assert text in capsys.readouterr().out
    assert jax.tree.structure(params) == jax.tree.structure(fresh(encoder))
    if name == "deit":
        np.testing.assert_array_equal(params.pop("pos_embed"), whole.pop("pos_embed")[:, 1:])
    del whole["cls_token"]
    jax.tree.map(np.testing.assert_array_equal, params, whole)
    back = timm.dump(again := timm.load(weights, encoder), encoder)
    jax.tree.map(np.testing.assert_array_equal, timm.load(back, encoder), again)
    lacking = r"missing: +cls_token" if name == "deit" else r"pos_embed .* is not MoCo v3's fixed table"
    with pytest.raises(UserError, match=lacking):
        timm.load(back, vit(name))


def test_positions_without_a_class_token_are_resized():
    small = np.random.default_rng(0).normal(size=(1, 9, 24)).astype(np.float32)
    weights = state_dict("deit") | {"pos_embed": small}
    del weights["cls_token"]
    encoder = vit().clone(class_token=False)
    table = timm.load(weights, encoder, resize=True)["pos_embed"]
    expected = positions.resize(small.reshape(3, 3, 24), encoder.grid).reshape(table.shape)
    np.testing.assert_array_equal(table, expected)
