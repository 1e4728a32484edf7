"""The folder that Hugging Face transformers opens: its names and settings are those that transformers itself writes
(tests/golden/hub.py), and what stands in it is the checkpoint's. Whether it sees the same: tests/test_hub_parity.py."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open

from repre_jax.core.errors import UserError
from repre_jax.interop import files, hub, hub_config, timm
from repre_jax.models import build_encoder, positions
from repre_jax.pretrained import weight_file
from repre_jax.tools import export
from tests.export.test_export import RECTANGLE, assert_equal_to_the_bit, found_in
from tests.golden.encoders import swin, vit
from tests.golden.weights import state_dict
from tests.helpers.runs import final_state
from tests.helpers.saved import GREY, saved_run

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "hub.json").read_text())
CASES = {  # of the golden: the encoder, and its image size there
    "deit": (vit(), (16, 16)),
    "no class token": (vit().clone(class_token=False), (16, 16)),
    "swin": (swin(), (48, 66)),
}
# What transformers adds from its defaults, which are not the encoder's: for masked images, feature maps and beginnings.
ADDED = {"encoder_stride", "initializer_range", "transformers_version", "out_features", "out_indices", "stage_names"}
DERIVED = {"hidden_size", "num_layers"}  # of a Swin: from its width and depths


def params_of(name):
    """Parameters from the golden's weights, no two tensors alike."""
    encoder = CASES[name][0]
    return timm.load(state_dict("swin" if name == "swin" else "deit"), encoder)


def opened(run, *arguments):
    """(folder, config, preprocessor, card) of a run's only export."""
    assert export.main([str(run), "--format=transformers", *arguments]) == 0
    (folder,) = (run / "export").iterdir()
    names = ("config.json", "preprocessor_config.json", "model.safetensors.json")
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", *names}
    return folder, *(json.loads((folder / name).read_text()) for name in names)


@pytest.mark.parametrize("name", CASES)
def test_names_and_shapes_are_those_that_transformers_writes(name):
    dumped = hub.dump(params_of(name), CASES[name][0])
    assert {key: [list(array.shape), "F32"] for key, array in dumped.items()} == GOLDEN[name]["tensors"]
    assert {array.dtype.name for array in dumped.values()} == {"float32"}
    assert GOLDEN[name]["metadata"] == hub.METADATA


@pytest.mark.parametrize("name", CASES)
def test_settings_are_those_that_transformers_writes(name):
    """No key is unknown there, and none is left to a default that is another's."""
    ours, theirs = hub_config.config(*CASES[name]), GOLDEN[name]["config"]
    assert ours == {key: theirs[key] for key in ours}
    derived = {"swin": DERIVED, "no class token": {"pooler_act", "pooler_output_size"}}.get(name, set())
    assert theirs.keys() - ours.keys() == (ADDED | derived) & theirs.keys()


@pytest.mark.parametrize("name", CASES)
def test_what_was_dumped_is_loaded_to_the_bit(name):
    encoder, params = CASES[name][0], params_of(name)
    dumped = hub.dump(params, encoder)
    assert hub.are_the_hubs(dumped)
    assert not hub.are_the_hubs(timm.dump(params, encoder))
    assert_equal_to_the_bit(weight_file.parameters(hub.to_timm(dumped), encoder, CASES[name][1]), params)


def test_the_three_parts_of_an_attention_are_timms_in_their_order():
    weights, dumped = state_dict("swin"), hub.dump(params_of("swin"), swin())
    whole = weights["layers.2.blocks.1.attn.qkv.weight"]
    for number, part in enumerate(("query", "key", "value")):
        theirs = dumped[f"encoder.layers.2.blocks.1.attention.self.{part}.weight"]
        np.testing.assert_array_equal(theirs, whole[48 * number : 48 * (number + 1)])
    merging = dumped["encoder.layers.1.downsample.reduction.weight"]
    np.testing.assert_array_equal(merging, weights["layers.2.downsample.reduction.weight"])


def test_a_model_with_a_head_is_read_without_it(tmp_path, capsys):
    """A prefix before the encoder's names, a classifier as of ViTForImageClassification, and ViTModel's pooling."""
    dumped = {f"vit.{name}": array + 1 for name, array in hub.dump(params_of("deit"), vit()).items()}
    dumped |= {"classifier.weight": np.zeros((7, 24), np.float32), "classifier.bias": np.zeros(7, np.float32)}
    files.write(tmp_path / "model.safetensors", dumped)
    params = weight_file.read(tmp_path / "model.safetensors").load(vit(), (16, 16))
    assert_equal_to_the_bit(params, jax.tree.map(lambda array: array + 1, params_of("deit")))
    said = capsys.readouterr().out
    assert "left out: 2 of classifier or projector: head.bias, head.weight" in said
    assert "left out: 2 of transformers' pooling layer: pooler.dense.bias, pooler.dense.weight" in said


def test_a_part_that_is_missing_is_named():
    dumped = hub.dump(params_of("deit"), vit())
    del dumped["encoder.layer.2.attention.attention.key.bias"]
    with pytest.raises(
        UserError, match=r"missing: +blocks\.2\.attn\.qkv\.bias .*\n  unknown: +blocks\.2\.attn\.query\.b"
    ):
        timm.load(hub.to_timm(dumped), vit())


@pytest.mark.parametrize("network", ["online", "target"])
def test_a_run_becomes_a_folder_that_is_found_again(copy, tmp_path, network, capsys):
    folder, config, preprocessor, card = opened(copy, f"--network={network}")
    assert folder.name == f"moco_v3-vit_s-{network}-8"
    assert "0 is the largest relative difference of pooled features and tokens" in capsys.readouterr().out
    assert config["model_type"] == "vit"
    assert (config["num_attention_heads"], config["image_size"], config["patch_size"]) == (4, 32, 8)
    assert (config["layer_norm_eps"], config["pooler_act"]) == (1e-6, "linear")
    assert preprocessor["image_mean"] == preprocessor["image_std"] == [0.5] * 3
    assert (preprocessor["size"], preprocessor["crop_size"]) == ({"shortest_edge": 32}, {"height": 32, "width": 32})
    with safe_open(folder / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
        table = file.get_tensor("embeddings.position_embeddings")
        np.testing.assert_array_equal(file.get_tensor("pooler.dense.weight"), np.eye(32))
    np.testing.assert_array_equal(table[0, 1:], positions.sincos(4, 4, 32))
    assert not table[0, 0].any(), "MoCo v3's class token has no position"
    found, params, _ = found_in(folder / "model.safetensors", tmp_path)
    trained = final_state(copy)
    assert_equal_to_the_bit(params, trained["params" if network == "online" else "target"]["encoder"])
    assert found.origin["sha256"] == card["sha256"]


def test_a_swin_on_a_rectangle_that_timm_has_not(tmp_path):
    """Two stages of 6 x 9 and 3 x 5 patches, windows of 3: padded and shifted, as transformers does it, too."""
    more = ["--config.data.image_size=(24,36)", "--config.encoder.depth=(2,2)", "--config.encoder.heads=(1,2)"]
    state = saved_run(tmp_path / "run", "moby_swin_t", *more, "--config.encoder.window=3", *GREY)
    folder, config, preprocessor, _ = opened(tmp_path / "run")
    assert (config["image_size"], config["window_size"], config["num_channels"]) == ([24, 36], 3, 1)
    assert (preprocessor["size"], preprocessor["do_convert_rgb"]) == ({"height": 24, "width": 36}, False)
    assert (preprocessor["image_mean"], preprocessor["image_std"]) == ([0.5], [0.25])
    assert_equal_to_the_bit(found_in(folder / "model.safetensors", tmp_path)[1], state.params["encoder"])


def test_a_swin_with_maps_smaller_than_its_window_is_refused(tmp_path, capsys):
    saved_run(tmp_path / "run", "moby_swin_t")
    assert export.main([str(tmp_path / "run"), "--format=transformers"]) == 1
    message = capsys.readouterr().err
    assert "no Swin for images of 32 x 32 pixels and windows of 4" in message
    assert "the map of stage 3, whose shorter side is 2" in message
    assert "--format=timm" in message
    assert not (tmp_path / "run" / "export").exists()


def test_learned_positions_of_a_rectangle(tmp_path):
    state = saved_run(tmp_path / "run", "moco_vit_s", *RECTANGLE, "--config.encoder.variant=deit")
    folder, config, *_ = opened(tmp_path / "run")
    assert config["image_size"] == [16, 32]
    theirs = files.read(folder / "model.safetensors")["embeddings.position_embeddings"]
    np.testing.assert_array_equal(theirs, state.params["encoder"]["pos_embed"])


def test_the_centre_is_cut_and_deep_images_keep_their_values():
    seen = {"image_size": [224, 224], "test_crop": 0.875, "channels": 3, "interpolation": "bicubic"}
    made = hub_config.preprocessor(seen | {"mean": [0.5, 0.4, 0.3], "std": [0.2] * 3})
    assert (made["size"], made["crop_size"]["width"], made["resample"]) == ({"shortest_edge": 256}, 224, 3)
    assert (made["do_rescale"], made["rescale_factor"], made["image_mean"]) == (True, 1 / 255, [0.5, 0.4, 0.3])
    for ranges in ([(100, 1100)], [(100, 1100), (100, 1100)]):
        deep = {"channels": 2, "mean": [0.5, 0.4], "std": [0.2, 0.1], "value_range": ranges}
        made = hub_config.preprocessor(seen | deep)
        assert made["do_rescale"] is False
        value = np.array([600.0, 300.0])
        ours = ((value - 100) / 1000 - [0.5, 0.4]) / [0.2, 0.1]
        np.testing.assert_allclose((value - made["image_mean"]) / made["image_std"], ours)


def test_a_folder_is_replaced_only_when_asked_and_may_be_named(copy, tmp_path, capsys):
    folder = tmp_path / "my model"
    command = [str(copy), "--format=transformers", f"--output={folder}"]
    assert export.main(command) == 0
    (folder / "config.json").write_text("somebody's")
    (folder / "model.safetensors").unlink()
    assert export.main(command) == 1
    assert f"{folder / 'config.json'} is there already" in capsys.readouterr().err
    assert export.main([*command, "--force"]) == 0
    assert json.loads((folder / "config.json").read_text())["model_type"] == "vit"


def test_the_whole_size_of_imagenet_fits():
    """Swin-T's maps of 56 to 7 patches are no smaller than its windows; ViT's default epsilon there is another."""
    assert hub_config.config(build_encoder("swin_t"), (224, 224))["window_size"] == 7
    assert hub_config.config(build_encoder("vit_s"), (224, 224))["layer_norm_eps"] == 1e-6
