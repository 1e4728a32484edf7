"""The encoder's tensors among all that a file holds: every tensor accounted for, both networks told apart."""

import re

import numpy as np
import pytest

from repre_jax.core.errors import UserError
from repre_jax.interop import state_dicts, timm
from repre_jax.models import build_encoder, positions
from repre_jax.models.encoders import SWINS, VITS
from tests.golden.encoders import swin, vit
from tests.golden.published import as_framework, moby_swin
from tests.golden.weights import state_dict


@pytest.mark.parametrize("network", ["online", "target"])
@pytest.mark.parametrize("layout", ["MoCo v3", "DINO", "MoBY", "MoCo v2"])
def test_published_files_of_frameworks(layout, network, capsys):
    """The asked network is loaded and the other one left out, in each framework's own names."""
    encoder = {"MoCo v3": vit("moco_v3"), "MoBY": swin()}.get(layout, vit("dino"))
    online = state_dict("swin" if layout == "MoBY" else "dino")
    if layout == "MoCo v3":
        table = positions.sincos(4, 4, 24)
        online["pos_embed"] = np.concatenate([np.zeros((1, 24), np.float32), table])[None]
    target = {name: array if name == "pos_embed" else array + 1 for name, array in online.items()}
    rename = moby_swin if layout == "MoBY" else dict
    arrays = as_framework(layout, rename(online), rename(target))
    params = timm.load(arrays, encoder, network=network)
    back = timm.dump(params, encoder)
    for name, array in {"online": online, "target": target}[network].items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
    printed = capsys.readouterr().out
    accounted = [int(number) for number in re.findall(r"(?:left out: |Loaded )(\d+)", printed)]
    assert sum(accounted) == len(arrays), "every tensor of the file is loaded or named as left out"
    other = len(rename(online)) + {"MoCo v3": 2, "MoCo v2": 2}.get(layout, 0)
    assert f"left out: {other} of the other network" in printed
    with pytest.raises(
        UserError, match=f"a file of {layout}, and network is None.\n  expected: network='online' or network='target'"
    ):
        timm.load(arrays, encoder)


def test_a_file_with_one_network_offers_that_one():
    arrays = {f"teacher.backbone.{name}": array for name, array in state_dict("dino").items()}
    with pytest.raises(UserError, match=r"network is 'online'.\n  expected: network='target'$"):
        timm.load(arrays, vit("dino"), network="online")
    timm.load(arrays, vit("dino"), network="target")


def test_simsiams_file_is_called_its_own():
    """It has MoBY's name for the one encoder, and no target."""
    weights = state_dict("dino")
    arrays = as_framework("SimSiam", weights, {})
    assert state_dicts.framework_of(arrays) == ("simsiam", ("online",))
    back = timm.dump(timm.load(arrays, vit("dino"), network="online"), vit("dino"))
    for name, array in weights.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
    with pytest.raises(UserError, match=r"a file of SimSiam, and network is 'target'.\n  expected: network='online'$"):
        timm.load(arrays, vit("dino"), network="target")


@pytest.mark.parametrize("layout", ["MoBY", "MoCo v2"])
@pytest.mark.parametrize("kept", ["online", "target"])
def test_a_file_with_one_network_still_says_whose_it_is(layout, kept):
    """The heads and queues beside it tell MoBY's names from those of others."""
    weights = moby_swin(state_dict("swin")) if layout == "MoBY" else state_dict("dino")
    whole = as_framework(layout, weights if kept == "online" else {}, weights if kept == "target" else {})
    if layout == "MoCo v2":
        whole = {name: array for name, array in whole.items() if ("encoder_q" in name) == (kept == "online")}
    expected = layout.lower().replace(" ", "_")
    assert state_dicts.framework_of(whole) == (expected, (kept,))


def test_a_wrapped_encoder_is_nobodys():
    """SimMIM's file, for example: nothing but a prefix that MoBY has, too."""
    weights = {f"model.encoder.{name}": array for name, array in moby_swin(state_dict("swin")).items()}
    assert state_dicts.framework_of(weights) == (None, ("online",))
    plain = timm.load(weights, swin())
    np.testing.assert_array_equal(plain["norm"]["scale"], state_dict("swin")["norm.weight"])
    assert timm.load(weights, swin(), network="online")["norm"]["scale"].shape == plain["norm"]["scale"].shape
    with pytest.raises(UserError, match=r"one encoder, and network is 'target'"):
        timm.load(weights, swin(), network="target")
    of_torchvision = {"conv_proj.weight": np.zeros(1), "encoder.layers.encoder_layer_0.ln_1.weight": np.zeros(1)}
    assert state_dicts.framework_of(of_torchvision) == (None, ())


def test_a_plain_file_has_no_network():
    with pytest.raises(UserError, match=r"holds one encoder.*\n.*leave network out"):
        timm.load(state_dict("deit"), vit(), network="online")


def test_a_tensor_under_two_prefixes_is_refused():
    weights = state_dict("deit")
    with pytest.raises(UserError, match=r"holds 'norm.bias' more than once"):
        timm.load(weights | {"module.norm.bias": weights["norm.bias"]}, vit())
    arrays = as_framework("MoBY", state_dict("swin"), state_dict("swin"))
    with pytest.raises(UserError, match=r"holds 'norm.bias' more than once"):
        timm.load(arrays | {"norm.bias": weights["norm.bias"]}, swin(), network="target")


def test_an_unknown_prefix_is_pointed_out():
    weights = {f"backbone.trunk.{name}": array for name, array in state_dict("deit").items()}
    with pytest.raises(UserError, match=r"take 'backbone\.trunk\.' off all names"):
        timm.load(weights, vit())


@pytest.mark.parametrize("name", VITS | SWINS)
def test_no_tensor_of_a_full_size_encoder_is_taken_for_something_else(name):
    arrays = dict.fromkeys(timm._wanted(build_encoder(name)), np.zeros(1, np.float32))
    kept, left_out = state_dicts.encoder_tensors(arrays, None)
    assert kept.keys() == arrays.keys()
    assert left_out == {}


def test_nested_dictionaries_are_explained():
    with pytest.raises(UserError, match=r"state_dict\['model'\] is of type dict.\n.*files.read"):
        timm.load({"model": state_dict("deit")}, vit())
