"""The encoder that an evaluation takes from a file: a published one, timm's, or one of our own with its card."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import base_evaluation
from repre_jax.builders import methods
from repre_jax.core import sharding
from repre_jax.core.errors import UserError
from repre_jax.interop import files, timm
from repre_jax.models.encoders import SWINS
from repre_jax.pretrained import backbone
from repre_jax.tools import export
from tests.golden.encoders import vit
from tests.golden.published import as_framework, moby_swin
from tests.golden.weights import CASES, images, state_dict
from tests.helpers.saved import GREY, saved_run

GOLDEN = Path(__file__).parent / "golden" / "outputs.npz"
IMAGENET = (methods.IMAGENET["mean"], methods.IMAGENET["std"])
VIT = {"name": "vit_s", "width": 24, "depth": (6,), "heads": (3,), "patch": 4}
SWIN = {"name": "swin_t", "width": 12, "depth": (2, 2, 2, 2), "heads": (1, 2, 4, 4), "patch": 2, "window": 3}
LAYOUTS = {"moco_v3": "MoCo v3", "dino": "DINO", "moby": "MoBY"}


def evaluation(file, encoder=None, **keys):
    """An evaluation's config; keys of it by their full names, with '__' for the dot."""
    config = base_evaluation.get_config()
    config.init_from = str(file)
    config.encoder.update(encoder or {})
    given = {"data__name": "digits", "data__image_size": (16, 16)} | keys
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in given.items()})
    return config


def find(tmp_path, config):
    found = backbone.find(config, tmp_path / "evaluation")
    return found, jax.device_get(found.load(sharding.make_mesh(jax.device_count())))


def written(tmp_path, arrays, name="x.safetensors"):
    files.write(tmp_path / name, {key: np.asarray(array) for key, array in arrays.items()})
    return tmp_path / name


def published(framework):
    """The file of a framework with two encoders, the target's numbers larger by 1, and both by timm's names."""
    online = state_dict("swin" if framework == "moby" else "dino")
    if framework == "moco_v3":
        online["pos_embed"] = timm._fixed_positions(vit("moco_v3"), (4, 4))
    target = {name: array if name == "pos_embed" else array + 1 for name, array in online.items()}
    rename = moby_swin if framework == "moby" else dict
    return as_framework(LAYOUTS[framework], rename(online), rename(target)), {"online": online, "target": target}


@pytest.mark.parametrize("name", ["deit", "swin"])
def test_a_file_of_timms_gives_timms_features(tmp_path, name):
    """Under timm's names, with a classifier, and encoder.* said: outputs of another library (tests/golden)."""
    weights = state_dict(name) | {"head.weight": np.zeros((5, 24), np.float32)}
    size = CASES[name][1][0]
    config = evaluation(
        written(tmp_path, weights), VIT if name == "deit" else SWIN, data__image_size=size,
        data__channels=CASES[name][0].channels, data__mean=(0.5,) * CASES[name][0].channels,
        data__std=(0.5,) * CASES[name][0].channels,
    )  # fmt: skip
    found, params = find(tmp_path, config)
    output = jax.jit(found.encoder.apply)({"params": params}, images(name, size))
    wanted = np.load(GOLDEN)[f"{name}/{size[0]}x{size[1]}/pooled"]
    assert np.abs(output.pooled - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert (found.origin["framework"], found.origin["branch"], found.origin["step"]) == (None, None, None)
    assert config.network is None
    assert config.dtype == "float32"


@pytest.mark.parametrize("asked", [None, "online", "target"])
@pytest.mark.parametrize("framework", LAYOUTS)
def test_published_files_with_two_branches(tmp_path, framework, asked):
    arrays, networks = published(framework)
    usual = "target" if framework == "dino" else "online"
    encoder = SWIN if framework == "moby" else VIT
    channels = {"data__channels": 1, "data__mean": (0.5,), "data__std": (0.5,)} if framework == "moby" else {}
    config = evaluation(written(tmp_path, arrays), encoder, network=asked, data__image_size=(48, 48), **channels)
    if framework != "moby":
        config.data.image_size = (16, 16)
    found, params = find(tmp_path, config)
    assert found.origin["framework"] == framework
    assert found.origin["branch"] == config.network == (asked or usual)
    assert len(found.origin["sha256"]) == 64
    back = timm.dump(params, found.encoder)
    for name, array in networks[asked or usual].items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
    if encoder["name"] not in SWINS:
        assert found.encoder.variant == config.encoder.variant == framework, "positions and their resizing are theirs"
    assert channels or (found.mean, found.std) == IMAGENET


def test_simsiams_own_file_and_a_wrapped_encoder(tmp_path):
    """Neither is called MoBY's; the second one is nobody's, and "online" is still accepted for it."""
    weights = state_dict("dino")
    wrapped = {f"encoder.{name}": array for name, array in weights.items()}
    for arrays, framework in ((as_framework("SimSiam", weights, {}), "simsiam"), (wrapped, None)):
        file = written(tmp_path, arrays)
        found, params = find(tmp_path, evaluation(file, VIT, network="online"))
        assert (found.origin["framework"], found.origin["branch"]) == (framework, "online")
        np.testing.assert_array_equal(timm.dump(params, found.encoder)["cls_token"], weights["cls_token"])
        assert find(tmp_path, evaluation(file, VIT))[0].origin["branch"] == "online"
        whose = "a file of simsiam with the online encoder alone" if framework else "one encoder, and no networks"
        with pytest.raises(UserError, match=f"holds {whose}"):
            find(tmp_path, evaluation(file, VIT, network="target"))


def test_a_file_with_one_of_its_branches(tmp_path):
    arrays, networks = published("moco_v3")
    alone = {name: array for name, array in arrays.items() if "momentum_encoder" in name}
    file = written(tmp_path, alone)
    found, params = find(tmp_path, evaluation(file, VIT))
    assert found.origin["branch"] == "target"
    back = timm.dump(params, found.encoder)
    np.testing.assert_array_equal(back["norm.weight"], networks["target"]["norm.weight"])
    with pytest.raises(UserError, match="moco_v3 with the target encoder alone"):
        find(tmp_path, evaluation(file, VIT, network="online"))


def test_positions_of_another_size_are_those_that_the_encoder_would_make(tmp_path):
    file = written(tmp_path, state_dict("dino"))
    found, params = find(tmp_path, evaluation(file, VIT | {"variant": "dino"}, data__image_size=(24, 28)))
    output = jax.jit(found.encoder.apply)({"params": params}, images("dino", (24, 28)))
    wanted = np.load(GOLDEN)["dino/24x28/pooled"]
    assert np.abs(output.pooled - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_our_own_paths_without_a_card(tmp_path):
    encoder = vit()
    params = timm.load(state_dict("deit"), encoder)
    arrays = {"/".join(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    _, back = find(tmp_path, evaluation(written(tmp_path, arrays, "x.npz"), VIT))
    assert jax.tree.structure(back) == jax.tree.structure(params)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True))


def test_what_is_untrained_is_freshly_drawn(tmp_path):
    file = written(tmp_path, published("dino")[0])
    config = evaluation(file, VIT, network="untrained", seed=4)
    found, params = find(tmp_path, config)
    assert found.origin["branch"] == "untrained"
    key = jax.random.split(jax.random.PRNGKey(4), 4)[0]
    drawn = jax.jit(found.encoder.init)(key, np.zeros((2, 16, 16, 3), np.float32))["params"]
    np.testing.assert_array_equal(params["block_1"]["attn"]["qkv"]["kernel"], drawn["block_1"]["attn"]["qkv"]["kernel"])


GREY_SWIN = {"data__channels": 1, "data__image_size": (48, 48), "data__mean": (0.5,), "data__std": (0.5,)}
HINT = "x.safetensors\n  change:   --config.encoder.name, variant, width, depth"


@pytest.mark.parametrize(
    ("encoder", "keys", "message"),
    [
        ({}, {}, "x.safetensors has no card beside it, x.safetensors.json.\n  change:   --config.encoder.name=vit_s"),
        (VIT, {"data__name": None}, "data.name is not set, and nothing beside"),
        (
            VIT,
            {"network": "online"},
            "x.safetensors holds one encoder, and no networks.\n  change:   leave network out",
        ),
        (VIT, {"network": "both"}, "Unknown network 'both'"),
        (VIT, {"step": 3}, "x.safetensors is one file of weights.\n  change:   leave step out"),
        (VIT | {"width": 48}, {}, "misshapen: blocks.0.attn.proj.bias (24,), the encoder has (48,)"),
        (VIT | {"width": 48}, {}, HINT),
        (VIT | {"depth": (7,)}, {}, "missing:   blocks.6"),
        (VIT | {"depth": (5,)}, {}, "unknown:   blocks.5"),
        (VIT | {"variant": "moco_v3", "heads": (6,)}, {}, "is not MoCo v3's fixed table"),
        (SWIN, GREY_SWIN, "missing:   layers.0.blocks.0"),
        (VIT, {"data__channels": 1}, "data.mean is not set, and nobody says what"),
        (VIT, {"data__channels": 1, "data__mean": (0.5,)}, "data.std is not set"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, encoder, keys, message):
    config = evaluation(written(tmp_path, state_dict("deit")), encoder, **keys)
    with pytest.raises(UserError) as caught:
        find(tmp_path, config)
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"x\.pth"):
        find(tmp_path, evaluation(tmp_path / "x.pth", VIT))
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="of an unknown kind"):
        find(tmp_path, evaluation(tmp_path / "x.onnx", VIT))
    with pytest.raises(UserError, match="is neither a run, with a folder checkpoints, nor a file of weights"):
        find(tmp_path, evaluation(tmp_path / "none.pth", VIT))


@pytest.fixture
def file(tmp_path):
    """An exported one, with its card."""
    run = tmp_path / "run"
    saved_run(run, "dino_vit_s", *GREY, "--config.data.image_size=(16,16)")
    assert export.main([str(run), f"--output={tmp_path / 'x.safetensors'}"]) == 0
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"network": "online"}, r"holds the target encoder, not the online one.\n  change:   leave network out"),
        ({"step": 4}, "step is 4, and .* is one file of weights"),
        ({"encoder__width": 64}, "encoder.width is 64, and .*x.safetensors has 32"),
        ({"data__channels": 3}, "data.channels is 3, and .*x.safetensors has 1"),
    ],
)
def test_what_a_card_contradicts(file, tmp_path, keys, message):
    with pytest.raises(UserError, match=message):
        find(tmp_path, evaluation(file, **keys))


def test_keys_that_are_set_win_over_the_card(file, tmp_path):
    config = evaluation(file, data__mean=(0.25,), data__image_size=(24, 24), data__name="other", step=3)
    found, _ = find(tmp_path, config)
    assert (found.mean, found.std) == ((0.25,), (0.25,))
    assert (config.data.name, config.data.image_size, found.encoder.image_size) == ("other", (24, 24), (16, 16))


def test_a_file_that_its_card_does_not_describe(file, tmp_path):
    arrays = files.read(file)
    files.write(file, arrays | {"norm.bias": arrays["norm.bias"] + 1})
    with pytest.raises(UserError, match=r"x.safetensors is not the file that .*x.safetensors.json describes"):
        find(tmp_path, evaluation(file))


@pytest.mark.parametrize("change", [{"model_type": "vit"}, {"branch": "both"}, {"config": {}}, None])
def test_a_card_that_is_not_whole_is_not_passed_over(file, tmp_path, change):
    card = tmp_path / "x.safetensors.json"
    text = card.read_text()
    whole = json.loads(text)
    card.write_text(text[:300] if change is None else json.dumps(whole | change if change.keys() & whole else change))
    with pytest.raises(UserError, match=r"x.safetensors.json is damaged, or no card of x.safetensors"):
        find(tmp_path, evaluation(file))


def test_positions_are_resized_once_when_asked(tmp_path):
    """For images of the config's size; the network computes what it computes with the file's own table."""
    file = written(tmp_path, state_dict("deit"))
    size = {"data__image_size": (24, 16)}
    theirs = backbone.find(evaluation(file, VIT), tmp_path / "evaluation")
    found = backbone.find(evaluation(file, VIT, **size), tmp_path / "evaluation", resize_positions=True)
    mesh = sharding.make_mesh(jax.device_count())
    params, resized = theirs.load(mesh), found.load(mesh)
    assert (found.encoder.grid, resized["pos_embed"].shape) == ((6, 4), (1, 25, 24))
    assert {leaf.sharding for leaf in jax.tree.leaves(resized)} == {sharding.replicated(mesh)}
    pixels = np.random.default_rng(0).normal(size=(2, 24, 16, 3)).astype(np.float32)
    each_pass, once = (
        jax.jit(some.encoder.apply)({"params": weights}, pixels).tokens
        for some, weights in ((theirs, params), (found, resized))
    )
    np.testing.assert_allclose(once, each_pass, atol=1e-5)


def test_a_file_is_read_without_its_class_token(tmp_path):
    """And with the pyramid of other blocks."""
    config = evaluation(written(tmp_path, state_dict("deit")), VIT | {"class_token": False, "pyramid_blocks": (2, 6)})
    found, params = find(tmp_path, config)
    assert (found.encoder.class_token, found.encoder.pyramid_blocks) == (False, (2, 6))
    assert "cls_token" not in params
    assert methods.architecture(config.encoder.to_dict())["class_token"] is False
