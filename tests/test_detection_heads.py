"""A detector's necks and heads against PyTorch (tests/golden/detection_heads.py), and what they refuse."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from repre_jax.core.errors import UserError
from repre_jax.models import build_encoder
from repre_jax.models.detection import heads, necks
from repre_jax.models.feature_pyramid import Neck
from tests.golden.named_values import value
from tests.helpers import torch_layout

GOLDEN = Path(__file__).parent / "golden" / "detection_heads.npz"
F32 = jnp.float32
SWIN = [(2, 16, 24, 6), (2, 8, 12, 12), (2, 4, 6, 24), (2, 2, 3, 48)]
# name -> (module, maps that it reads)
CASES = {
    "fpn": (Neck(8, F32), SWIN),
    "simple_16": (necks.SimplePyramid(8, 16, F32), [(2, 4, 6, 16)]),
    "simple_8": (necks.SimplePyramid(8, 8, F32), [(2, 8, 8, 16)]),
    "anchor_head": (heads.AnchorHead(8, F32), [(2, 4, 6, 8), (2, 2, 3, 8), (2, 1, 2, 8)]),
    "box_head": (heads.BoxHead(5, F32, hidden=10), [(2, 7, 7, 8)]),
    "mask_head": (heads.MaskHead(5, 8, F32), [(2, 14, 14, 8)]),
}
NAMES = {"kernel": "weight", "scale": "weight"}


def in_torch(name, path):
    """'norm_1', 'scale' -> 'norm_1.weight'; there the FPN is a part of the module that is compared."""
    return ".".join((*(("neck",) if name == "fpn" else ()), *path[:-1], NAMES.get(path[-1], path[-1])))


def params_of(name, module, shapes):
    """The values that PyTorch's side has."""
    given = shapes_of(shapes) if len(shapes) > 1 or name.startswith("simple") else shapes_of(shapes)[0]
    tree = jax.eval_shape(lambda maps: module.init(jax.random.key(0), maps)["params"], given)
    found = {}
    for path, leaf in flatten_dict(tree).items():
        key = f"{name}/{in_torch(name, path)}"
        there = value(key, torch_layout.shape_there(path, leaf.shape))
        found[path] = torch_layout.ours(path, there, leaf.shape)
    return unflatten_dict(found)


def shapes_of(shapes):
    return [jax.ShapeDtypeStruct(shape, F32) for shape in shapes]


@pytest.mark.parametrize("name", CASES)
def test_each_module_is_pytorchs(name):
    """Its outputs, and their gradients by each map that it reads."""
    module, shapes = CASES[name]
    wanted = {key.removeprefix(f"{name}/"): x for key, x in np.load(GOLDEN).items() if key.startswith(f"{name}/")}
    params = params_of(name, module, shapes)
    assert sorted(in_torch(name, path) for path in flatten_dict(params)) == wanted.pop("names").tolist()
    maps = [
        np.moveaxis(value(f"{name}/map_{number}", (count, channels, *sides)), 1, -1)
        for number, (count, *sides, channels) in enumerate(shapes, start=1)
    ]

    @jax.jit
    def outputs_and_gradients(maps):
        def weighed(maps):
            if name in ("fpn", "simple_16", "simple_8"):
                found = necks.with_coarsest(module.apply({"params": params}, maps))
            elif name == "anchor_head":
                found = module.apply({"params": params}, maps)
            else:
                found = module.apply({"params": params}, maps[0])
            found = (found,) if name == "mask_head" else found
            return sum((x * value(f"{name}/{n}", x.shape)).sum() for n, x in enumerate(found)), found

        gradients, found = jax.grad(weighed, has_aux=True)(maps)
        return found, gradients

    outputs, gradients = outputs_and_gradients(maps)
    found = {f"output_{number}": x for number, x in enumerate(outputs)}
    found |= {f"gradient_{number}": x for number, x in enumerate(gradients, start=1)}
    assert {*found} == {*wanted}
    for key, x in found.items():
        assert x.shape == wanted[key].shape, key
        assert x.dtype == F32, key
        np.testing.assert_allclose(x, wanted[key], rtol=2e-4, atol=2e-4 * np.abs(wanted[key]).max(), err_msg=key)


def standard_deviations(module, *inputs):
    """Of each kernel's first values, by name; biases begin as 0."""
    params = flatten_dict(jax.jit(module.init)(jax.random.key(0), *inputs)["params"])
    assert not any(np.asarray(x).any() for path, x in params.items() if path[-1] == "bias")
    return {path[0]: float(x.std()) for path, x in params.items() if path[-1] == "kernel"}


def test_heads_begin_as_mmdetections():
    """Xavier's uniform: sqrt(2 / (in + out)); Kaiming's normal by PyTorch's fan_out: sqrt(2 / fan_out)."""
    anchors = standard_deviations(heads.AnchorHead(64, F32), [jnp.zeros((1, 2, 2, 64))])
    assert anchors == pytest.approx(dict.fromkeys(("conv", "objectness", "deltas"), 0.01), rel=0.2)
    boxes = standard_deviations(heads.BoxHead(20, F32, hidden=64), jnp.zeros((1, 7, 7, 8)))
    expected = {"layer_1": (2 / (392 + 64)) ** 0.5, "layer_2": (2 / 128) ** 0.5, "classify": 0.01, "deltas": 0.001}
    assert boxes == pytest.approx(expected, rel=0.1)
    masks = standard_deviations(heads.MaskHead(20, 64, F32), jnp.zeros((1, 14, 14, 64)))
    expected = {f"conv_{number}": (2 / (9 * 64)) ** 0.5 for number in (1, 2, 3, 4)}
    assert masks == pytest.approx(expected | {"up": (2 / (4 * 64)) ** 0.5, "classify": (2 / 20) ** 0.5}, rel=0.1)


def test_heads_compute_in_bfloat16_and_answer_in_float32():
    regions = jnp.ones((2, 14, 14, 8), jnp.bfloat16)
    found = jax.eval_shape(lambda x: heads.MaskHead(5, 8, jnp.bfloat16).init_with_output(jax.random.key(0), x), regions)
    assert (found[0].shape, found[0].dtype) == ((2, 28, 28, 5), F32)
    assert {x.dtype for x in jax.tree.leaves(found[1])} == {jnp.dtype(F32)}


@pytest.mark.parametrize(
    ("name", "settings", "kind"),
    [
        ("swin_t", {"width": 8, "depth": (1,) * 4, "heads": (1,) * 4}, Neck),
        ("vit_ti", {"width": 8, "depth": 2, "heads": 1, "pyramid_levels": 1}, necks.SimplePyramid),
    ],
)
def test_each_encoder_has_its_neck(name, settings, kind):
    encoder = build_encoder(name, dtype="bfloat16", image_size=(64, 96), **settings)
    neck = necks.build(encoder, width=16)
    assert type(neck) is kind

    def levels(images):
        params = encoder.init(jax.random.key(0), images)
        maps = encoder.apply(params, images).pyramid
        return necks.with_coarsest(neck.init_with_output(jax.random.key(0), maps)[0])

    found = jax.eval_shape(levels, jax.ShapeDtypeStruct((2, 64, 96, 3), F32))
    assert [x.shape for x in found] == [(2, 16, 24, 16), (2, 8, 12, 16), (2, 4, 6, 16), (2, 2, 3, 16), (2, 1, 2, 16)]
    assert {x.dtype for x in found} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("vit_ti", {"patch": 14, "image_size": (28, 28)}, "patch is 14 pixels"),
        ("vit_ti", {"pyramid_blocks": (3, 6)}, "ends at block 6 of 12"),
        ("vit_ti", {"width": 6, "heads": 1}, "cannot be halved"),
        ("swin_t", {"patch": 8}, "cells of 8, 16, 32, 64 pixels"),
        ("swin_t", {"depth": (1, 1), "heads": (1, 1)}, "cells of 4, 8 pixels"),
    ],
)
def test_encoders_whose_maps_do_not_fit_are_refused(name, settings, said):
    with pytest.raises(UserError, match=said):
        necks.build(build_encoder(name, **settings))
