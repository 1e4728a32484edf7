"""Every config and variant: it builds, says what the paper says, and the tiny ones train."""

import functools
import importlib
import json
import math
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

import main
from configs import base, moco_swin_t, moco_vit_b, moco_vit_s
from repre_jax.builders import augmentation, config_checks, methods
from repre_jax.core.errors import UserError
from repre_jax.core.types import Views
from repre_jax.tasks import pretrain
from tests.helpers.pretraining import CONFIGS
from tests.helpers.small_frameworks import EXPECTED

ROOT = Path(__file__).resolve().parent.parent
NAMES = [
    *CONFIGS.values(), "simclr_vit_b", "byol_vit_b", "moco_vit_b", "moco_swin_t", "moby_swin_t", "dino_vit_b",
    "dino_swin_t",
]  # fmt: skip
# Their step is that of the ViT-S, wider; or framework and encoder are both traced, and train, by other files' names.
TWINS = {"simclr_vit_b", "byol_vit_b", "moco_vit_b", "dino_vit_b", "moby_swin_t", "dino_swin_t"}


def config_of(name, variants=""):
    return importlib.import_module(f"configs.{name}").get_config(variants)


def abstract(config):
    """(method, state and batch as shapes) of a config."""
    method = methods.build_method(config, methods.build_plan(config, records=100 * config.batch_size))
    view = augmentation.build_train_view(config)
    state = jax.eval_shape(lambda: method.init_state(jax.random.PRNGKey(0), (*view.views.size, 3)))

    def images(count, size):
        return jax.ShapeDtypeStruct((config.batch_size, count, *size, 3), np.uint8)

    local = images(view.local.count, view.local.size) if view.local else None
    labels = jax.ShapeDtypeStruct((config.batch_size,), np.int32)
    return method, state, Views(images(2, view.views.size), labels, local)


def test_there_is_a_config_for_every_row_of_the_paper():
    others = {
        "base",
        "base_evaluation",
        "dense_probe",
        "detect",
        "embedded",
        "finetune",
        "figures",
        "knn",
        "linear",
        "segment",
    }
    assert {path.stem for path in (ROOT / "configs").glob("*.py")} - others == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_builds_at_full_size(name):
    """The whole step is traced, but for twins; the state keeps its tree, shapes and dtypes."""
    config = config_of(name)
    pretrain.check(config)
    method, state, batch = abstract(config)
    assert state.params["encoder"]["norm"]["scale"].shape == ((384,) if name.endswith("vit_s") else (768,))
    if name in TWINS:
        return
    new, metrics = jax.eval_shape(method.train_step, state, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    assert {value.shape for value in metrics.values()} == {()}


def of(config, *keys):
    return tuple(functools.reduce(lambda tree, part: tree[part], key.split("."), config) for key in keys)


@pytest.mark.parametrize("framework", CONFIGS)
def test_numbers_are_those_of_the_sources(framework):
    config, expected = config_of(CONFIGS[framework]), EXPECTED[framework]
    assert config.framework.to_dict() == {"name": framework} | expected.settings
    keys = ("lr", "warmup_epochs", "weight_decay", "weight_decay_end")
    optim = (*of(config.optim, *keys), config.batch_size, *of(config.optim, "clip_norm", "clip_each", "schedule"))
    assert optim == expected.optim
    assert (config.optim.name, config.epochs) == ("adamw", 300)
    augment = config.augment
    assert of(augment, "interpolation", "colours") == (expected.interpolation, expected.colours)
    keys = ("jitter", "blur_probability", "solarize_probability", "local_views")
    assert (augment.crop_scale[0], *of(augment, *keys)) == expected.augment
    shared = ("crop_scale", "jitter_probability", "grey_probability", "blur_sigma", "flip_probability")
    assert of(augment, *shared) == ((augment.crop_scale[0], 1.0), 0.8, 0.2, (0.1, 2.0), 0.5)
    assert tuple(config.optim.rules) == expected.rules
    assert config.encoder.drop_path == expected.drop_path
    assert methods.encoder_of(config).heads == expected.heads
    assert config.data.mean == expected.mean


@pytest.mark.parametrize("variants", ["", "tiny"])
@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("vit_s")])
def test_other_encoders_have_the_same_recipe(name, variants):
    """But for DINO's epochs and gains, which its docstrings explain. A tiny ViT-B has the tiny ViT-S's size."""
    small_name = name.replace("vit_b", "vit_s").replace("swin_t", "vit_s")
    config, small = config_of(name, variants), config_of(small_name, variants)
    if variants and name.endswith("vit_b"):
        size = ("width", "depth", "heads", "patch")
        assert of(config.encoder, *size) == of(small.encoder, *size)
    if name.startswith("dino"):
        assert (config.epochs, config.framework.train_gain) == ({"dino_vit_b": 800, "dino_swin_t": 100}[name], False)
        config.epochs, config.framework.train_gain = small.epochs, small.framework.train_gain
    del config.encoder, small.encoder
    assert config.to_dict() == small.to_dict()


@pytest.mark.parametrize("framework", CONFIGS)
def test_every_framework_takes_a_swin(framework):
    """The state after a step has the tree, shapes and dtypes of the one before. With a ViT, and without RePre, their
    steps run in test_engine.py."""
    config = config_of(CONFIGS[framework])
    config.encoder.name = "swin_t"
    base.with_variants(config, "tiny")
    method, state, batch = abstract(config)
    new, metrics = jax.eval_shape(method.train_step, state, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    assert "reconstruction" in metrics


@pytest.mark.parametrize(
    ("variant", "data"), [("digits", "digits"), ("scenes", "scenes/objects"), ("scenes_dense", "scenes/unlabelled")]
)
@pytest.mark.parametrize("name", NAMES)
def test_embedded_data_and_numbers_are_variants_of_all(name, variant, data):
    config = config_of(name, f"{variant},epochs=7.5,seed=3")
    pretrain.check(config)
    assert (config.data.name, config.epochs, config.seed) == (data, 7.5, 3)
    assert config_of(name, "epochs=600").epochs == 600
    assert config_of(name, "tiny,total_steps=5").total_steps == 5
    assert config_of(name, "tiny,epochs=2").total_steps is None


def test_dino_without_local_views():
    """Its third probability of blur and solarize is then nobody's."""
    config = config_of("dino_vit_s")
    config.augment.local_views = 0
    pretrain.check(config)
    assert len(augmentation.build_augmentation(config)) == 2


FAST = ("moco_vit_s", "dino_vit_s")  # the others take longer than make test has


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n not in TWINS]
)
def test_tiny_trains(name, tmp_path, monkeypatch):
    """A few steps on scenes, k-NN, one checkpoint, reconstructions. On digits: test_run.py, test_survives.py."""
    monkeypatch.chdir(ROOT)
    command = ["main.py", f"--config=configs/{name}.py:scenes,tiny", f"--workdir={tmp_path}", "--config.total_steps=4"]
    command += ["--config.knn.times=1", "--config.knn.train_records=64", "--config.checkpoint.every=1000"]
    assert main.main(command) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert result["steps"] == 4
    assert all(math.isfinite(loss) for loss in losses)
    assert len(set(losses)) == len(losses) >= 2
    assert 0 < result["reconstruction_l1"] < 10
    assert result["data_set"]["name"] == "scenes/objects"
    assert 0 < result["knn_top1_hog"] < 1


@pytest.mark.parametrize("variant", base.DECODERS)
@pytest.mark.parametrize("module", [moco_vit_s, moco_swin_t], ids=lambda module: module.__name__)
def test_every_variant_of_the_decoder_makes_another_step(module, variant):
    """Its decoder or its number of pixels is not the default's, but for conv2, which is the default."""
    assert (traced(module, "tiny") != traced(module, f"{variant},tiny")) == (variant != "conv2")


@functools.cache
def traced(module, variants):
    """What tells a variant's step from another's. With Swin, test_decoder.py has what meets what; here it is built."""
    method, state, batch = abstract(module.get_config(variants))
    if module is moco_vit_s:
        jax.eval_shape(method.train_step, state, batch)
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state.params["decoder"])}
    shapes = tuple(leaf.shape for leaf in jax.tree.leaves(state.params["decoder"]))
    return names, shapes, method.reconstruction.views


def test_the_encoders_are_the_papers():
    small, large, swin = (methods.encoder_of(m.get_config()) for m in (moco_vit_s, moco_vit_b, moco_swin_t))
    assert (small.width, small.depth, small.heads, small.patch, small.variant) == (384, 12, 12, 16, "moco_v3")
    assert (large.width, large.depth, large.heads, large.patch, large.variant) == (768, 12, 12, 16, "moco_v3")
    assert (swin.width, swin.depth, swin.heads, swin.window) == (96, (2, 2, 6, 2), (3, 6, 12, 24), 7)


@pytest.mark.parametrize("name", ["moco_vit_s", "knn"])
def test_a_question_mark_lists_the_variants_and_is_no_mistake(name):
    with pytest.raises(UserError, match=r"^Variants: .*digits.*, joined by commas$") as asked:
        config_of(name, "?")
    assert asked.value.status == 0


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ("conv1,conv4", "Variants conv1 and conv4 exclude each other"),
        ("digits,scenes", "Variants digits and scenes exclude each other"),
        ("transformer1,conv1,tiny", "Variants transformer1 and conv1 exclude each other"),
        ("baseline,single", "baseline has no decoder"),
        ("epochs=many", r"Variant epochs=many.\n  expected: a number, as in epochs=600"),
        ("lr=3", r"Unknown variant 'lr='.\n  expected: digits, scenes, .*epochs=NUMBER"),
    ],
)
def test_variants_that_exclude_each_other_are_named(variants, words):
    with pytest.raises(UserError, match=words):
        moco_vit_s.get_config(variants)


@pytest.mark.parametrize(("size", "fits"), [((23, 48), False), ((24, 96), True), ((48, 97), False)])
def test_hog_is_of_images_of_few_pixels(size, fits):
    """Smaller ones have no block of it, and larger ones more values than a bank of features can hold."""
    if fits:
        config_checks.hog(True, size)
        return
    with pytest.raises(UserError, match=r"(?s)knn.hog is True.*change:   --config.knn.hog=False"):
        config_checks.hog(True, size)
    config_checks.hog(False, size)


@pytest.mark.parametrize("name", NAMES)
def test_any_encoder_can_replace_a_configs_own(name):
    """--config.encoder.name alone is enough, and gives it its own number of heads."""
    for encoder, heads in (("vit_b", 12), ("vit_ti", 3), ("swin_t", (3, 6, 12, 24))):
        config = config_of(name)
        config.encoder.name = encoder
        assert methods.encoder_of(config).heads == heads


def test_one_kind_of_encoder_can_replace_another():
    """Both ways."""
    config = moco_vit_s.get_config()
    config.encoder.name = "swin_t"
    assert methods.encoder_of(config) == methods.encoder_of(moco_swin_t.get_config())
    config = moco_swin_t.get_config()
    config.encoder.name = "vit_s"
    assert methods.encoder_of(config) == methods.encoder_of(moco_vit_s.get_config())
