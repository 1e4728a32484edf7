"""The encoder of a run as a file for timm or for JAX: what stands in it and in its card, and that it is the same."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import traverse_util

import repre_jax
from configs import base_evaluation
from repre_jax.builders import methods
from repre_jax.core import sharding
from repre_jax.core.errors import UserError
from repre_jax.interop import files, timm_models
from repre_jax.models import build_encoder
from repre_jax.pretrained import backbone, weight_file
from repre_jax.system import command_line
from repre_jax.tools import export
from tests.helpers.devices import xla_flags
from tests.helpers.exporting import exported
from tests.helpers.runs import ROOT, final_state
from tests.helpers.saved import GREY, STEP, saved_run

RECTANGLE = ["--config.data.image_size=(16,32)"]


def found_in(file, tmp_path):
    """The backbone that an evaluation takes from it, with nothing else said, and its parameters."""
    config = base_evaluation.get_config()
    config.init_from = str(file)
    found = backbone.find(config, tmp_path / "evaluation")
    return found, jax.device_get(found.load(sharding.make_mesh(jax.device_count()))), config


def features(encoder, params, size):
    images = np.random.default_rng(1).standard_normal((2, *size, encoder.channels), np.float32)
    output = jax.jit(encoder.apply)({"params": params}, images)
    return np.concatenate([output.pooled.ravel(), output.tokens.ravel()])


def assert_equal_to_the_bit(ours, theirs):
    ours, theirs = (traverse_util.flatten_dict(tree, sep="/") for tree in (ours, theirs))
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert np.asarray(array).tobytes() == np.asarray(theirs[name]).tobytes(), name


@pytest.mark.parametrize("kind", ["timm", "npz"])
@pytest.mark.parametrize("network", ["online", "target"])
def test_what_was_trained_is_exported_and_found_again(copy, tmp_path, network, kind, capsys):
    file, card = exported(copy, f"--network={network}", f"--format={kind}")
    assert "0 is the largest relative difference of pooled features and tokens" in capsys.readouterr().out
    assert file.name == f"moco_v3-vit_s-{network}-8{'.safetensors' if kind == 'timm' else '.npz'}"
    state = final_state(copy)
    trained = state["params" if network == "online" else "target"]["encoder"]
    assert ("block_1/attn/qkv/kernel" if kind == "npz" else "blocks.0.attn.qkv.weight") in files.read(file)
    found, params, config = found_in(file, tmp_path)
    assert_equal_to_the_bit(params, trained)
    assert found.origin == {
        "init_from": str(file), "framework": "moco_v3", "branch": network, "step": 8, "sha256": card["sha256"],
    }  # fmt: skip
    assert (found.mean, found.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (config.data.name, config.data.image_size, config.data.test_crop) == ("digits", (32, 32), 1.0)
    assert (config.network, config.step, found.encoder.heads) == (network, 8, 4)


@pytest.mark.parametrize(("config", "kind"), [("moco_vit_s", "timm"), ("moby_swin_t", "npz")])
def test_one_call_loads_encoder_parameters_and_card(config, kind, tmp_path, capsys):
    """In float32 and without what only training wants, however the run was trained; without a word."""
    more = ["--config.dtype=bfloat16", "--config.encoder.drop_path=0.1", "--config.encoder.remat=True"]
    state = saved_run(tmp_path / "run", config, *more)
    file, card = exported(tmp_path / "run", f"--format={kind}")
    capsys.readouterr()
    encoder, params, read = repre_jax.load_encoder(str(file))
    assert capsys.readouterr() == ("", "")
    assert read == card
    plain = command_line.parse(["main.py", f"--config={config}:tiny", "--config.encoder.drop_path=0.0"])[0]
    assert encoder == methods.encoder_of(plain)
    assert encoder.dtype == "float32"
    assert_equal_to_the_bit(params, state.params["encoder"])


def test_a_file_without_its_card_or_with_anothers_is_refused(tmp_path):
    saved_run(tmp_path / "run", "moco_vit_s")
    file, _ = exported(tmp_path / "run")
    alone = shutil.copy(file, tmp_path)
    with pytest.raises(UserError, match=rf"{file.name} has no card beside it, {file.name}.json.*\n  expected: "):
        repre_jax.load_encoder(alone)
    with pytest.raises(UserError, match=r"none.npz does not exist"):
        repre_jax.load_encoder(tmp_path / "none.npz")
    with pytest.raises(UserError, match=r"run is a folder\.\n(.|\n)*tools\.export .*/run writes that file"):
        repre_jax.load_encoder(tmp_path / "run")
    weight_file.card_of(file).write_text(weight_file.card_of(file).read_text().replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(UserError, match="its SHA-256 differs"):
        repre_jax.load_encoder(file)


def test_the_card_says_what_a_user_must_know(copy):
    file, card = exported(copy)
    assert card["file"] == file.name
    assert card["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (card["framework"], card["branch"], card["step"]) == ("moco_v3", "online", 8)
    encoder = {"name": "vit_s", "variant": "moco_v3", "width": 32, "depth": 2, "heads": 4, "patch": 8}
    assert card["encoder"].items() >= (encoder | {"image_size": [32, 32], "layer_norm_epsilon": 1e-6}).items()
    pixels = {"mean": [0.5] * 3, "std": [0.5] * 3, "channels": 3, "image_size": [32, 32], "test_crop": 1.0}
    assert card["preprocessing"].items() >= (pixels | {"interpolation": "bicubic"}).items()
    assert card["timm"] == {
        "model": "vit_small_patch16_224",
        "arguments": {
            "img_size": [32, 32], "patch_size": 8, "in_chans": 3, "num_classes": 0, "embed_dim": 32, "depth": 2,
            "num_heads": 4, "class_token": True, "global_pool": "token",
        },
    }  # fmt: skip
    assert card["config"] == json.loads((copy / "config.json").read_text())
    assert card["data"]["name"] == "digits"
    assert card["data"]["train_records"] == 1437
    assert card["parity"]["largest_relative_difference"] == 0
    assert card["versions"]["jax"] == jax.__version__


def test_one_device_is_enough_and_everyone_may_read_the_file(copy):
    """As a command of its own; the state was saved from two devices."""
    done = subprocess.run(
        [sys.executable, "-m", "repre_jax.tools.export", str(copy)],
        cwd=ROOT, env=os.environ | {"XLA_FLAGS": xla_flags(1)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (file,) = (copy / "export").glob("*.safetensors")
    trained = final_state(copy)["params"]["encoder"]
    np.testing.assert_array_equal(files.read(file)["norm.weight"], trained["norm"]["scale"])
    assert file.stat().st_mode == (copy / "config.json").stat().st_mode


def test_the_default_branch_is_the_one_that_the_authors_evaluate(tmp_path):
    state = saved_run(tmp_path / "dino", "dino_vit_s")
    file, card = exported(tmp_path / "dino")
    assert file.name == f"dino-vit_s-target-{STEP}.safetensors"
    assert card["branch"] == "target"
    assert card["config"]["encoder"]["drop_path"] == 0.1, "the run's own"
    assert_equal_to_the_bit(found_in(file, tmp_path)[1], state.target["encoder"])


def test_a_swin_gets_the_tables_that_timm_has_and_keeps_its_features(tmp_path):
    """Maps of 8, 4, 2 and 1 patches, windows of 4: timm's tables of the last two stages are 3 x 3 and 1 x 1."""
    state = saved_run(tmp_path / "run", "moby_swin_t")
    file, card = exported(tmp_path / "run")
    assert card["timm"]["model"] == "swin_tiny_patch4_window7_224"
    assert card["timm"]["arguments"] == {
        "img_size": [32, 32], "patch_size": 4, "in_chans": 3, "num_classes": 0, "embed_dim": 16,
        "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8], "window_size": 4, "global_pool": "avg",
    }  # fmt: skip
    assert card["encoder"]["layer_norm_epsilon"] == 1e-5
    arrays = files.read(file)
    ours = state.params["encoder"]
    for stage, side in enumerate((7, 7, 3, 1)):
        table = arrays[f"layers.{stage}.blocks.0.attn.relative_position_bias_table"]
        whole = ours[f"stage_{stage + 1}_block_1"]["attn"]["bias_table"].reshape(7, 7, -1)
        margin = (7 - side) // 2
        middle = whole[margin : 7 - margin, margin : 7 - margin]
        np.testing.assert_array_equal(table, middle.reshape(side**2, -1))
    found, params, _ = found_in(file, tmp_path)
    np.testing.assert_array_equal(features(found.encoder, params, (32, 32)), features(found.encoder, ours, (32, 32)))


def test_a_swin_keeps_all_of_its_tables_in_npz(tmp_path):
    state = saved_run(tmp_path / "run", "moby_swin_t")
    file, card = exported(tmp_path / "run", "--format=npz")
    assert "timm" not in card
    assert_equal_to_the_bit(found_in(file, tmp_path)[1], state.params["encoder"])


def test_rectangles_and_other_channels(tmp_path):
    """Learned positions of 2 x 4 patches, grey images."""
    state = saved_run(tmp_path / "run", "moco_vit_s", *RECTANGLE, *GREY, "--config.encoder.variant=deit")
    file, card = exported(tmp_path / "run")
    assert card["timm"]["arguments"].items() >= {"img_size": [16, 32], "in_chans": 1}.items()
    assert (card["preprocessing"]["mean"], card["preprocessing"]["std"]) == ([0.5], [0.25])
    arrays = files.read(file)
    assert arrays["pos_embed"].shape == (1, 1 + 2 * 4, 32)
    assert arrays["patch_embed.proj.weight"].shape == (32, 1, 8, 8)
    found, params, config = found_in(file, tmp_path)
    assert_equal_to_the_bit(params, state.params["encoder"])
    assert (found.mean, found.std, config.data.channels) == ((0.5,), (0.25,), 1)
    turned = dataclasses.replace(found.encoder, image_size=(32, 16))  # as many positions, but others
    with pytest.raises(UserError, match=r"learned positions for images of 16 x 32 pixels.\n.*image_size='\(16, 32\)'"):
        weight_file.read(file).load(turned, (32, 16))


def test_a_swin_that_timm_would_compute_otherwise_is_refused(tmp_path, capsys):
    state = saved_run(tmp_path / "run", "moby_swin_t", *RECTANGLE)
    assert export.main([str(tmp_path / "run")]) == 1
    message = capsys.readouterr().err
    assert "timm's Swin computes something else for images of 16 x 32 pixels" in message
    assert "stage 3, 1 x 2: one side is no longer than the window" in message
    assert "--format=npz" in message
    file, _ = exported(tmp_path / "run", "--format=npz")
    assert_equal_to_the_bit(found_in(file, tmp_path)[1], state.params["encoder"])


@pytest.mark.parametrize(
    ("size", "settings", "refused"),
    [
        ((224, 224), {}, None),
        ((32, 32), {}, None),  # maps of 8, 4, 2, 1: shifted but not padded, then no larger than the window
        ((112, 112), {}, "stage 3, 7 x 7"),  # with windows of 4
        ((256, 256), {}, None),
        ((448, 224), {}, "stage 4, 14 x 7: one side is no longer"),
        ((448, 224), {"depth": (2, 2, 2, 1)}, None),  # the last stage has no shifted block
        ((224, 320), {"depth": (1, 1, 1, 1)}, None),  # padded, but nothing is shifted
        ((224, 320), {"depth": (1, 2, 1, 1)}, "stage 2, 28 x 40: the window does not divide it"),
        ((64, 128), {"depth": (1, 1, 1, 1)}, "stage 4, 2 x 4: one side is no longer than the window"),
    ],
)
def test_where_timms_swin_differs(size, settings, refused):
    window = 4 if size in ((32, 32), (112, 112), (256, 256)) else 7
    encoder = build_encoder("swin_t", window=window, **settings)
    if refused is None:
        assert timm_models.arguments(encoder, size)["img_size"] == list(size)
    else:
        with pytest.raises(UserError, match=refused):
            timm_models.arguments(encoder, size)


def test_the_card_has_the_pixels_of_the_run_not_of_its_config(tmp_path):
    """As of a data set whose mean was measured: the config does not say it."""
    saved_run(tmp_path / "run", "moco_vit_s", pixels={"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]})
    _, card = exported(tmp_path / "run")
    assert (card["preprocessing"]["mean"], card["preprocessing"]["std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])


def test_an_older_run_says_what_its_config_does(tmp_path):
    saved_run(tmp_path / "run", "moco_vit_s", pixels=False)
    _, card = exported(tmp_path / "run")
    assert card["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
