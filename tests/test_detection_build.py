"""What configs/detect.py says: recipes to the number, and what is built of them."""

import importlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.builders import detection as builder
from repre_jax.builders import methods
from repre_jax.core import optim
from repre_jax.core.errors import UserError
from repre_jax.data.resizing import Resizing
from repre_jax.models import build_encoder
from repre_jax.models.detection.mask_rcnn import Detecting
from repre_jax.models.detection.targets import Sampling
from repre_jax.probing import detecting
from repre_jax.running import resume


def config(variants=""):
    found = importlib.import_module("configs.detect").get_config(variants)
    found.data.channels = 3
    return found


def test_a_run_that_goes_on_may_change_what_no_weight_depends_on():
    """With may_change, which has allowed these differences."""
    past = resume.History(step=4, changed=["detect.per_level: 2000 -> 1000", "detect.shorts: [800] -> [640]"])
    resume.check_fixed(past, None, detecting.FIXED_KEYS)
    for line in ("detect.width: 256 -> 128", "detect.masks: True -> False", "encoder.depth: [2] -> [3]"):
        with pytest.raises(UserError, match="What 4 steps were trained by cannot change:\\n  " + line.split(":")[0]):
            resume.check_fixed(resume.History(step=4, changed=[line]), None, detecting.FIXED_KEYS)


def test_the_defaults_are_swinod_s():
    """SwinOD's multi-scale config, number by number; and the parts have the same defaults by themselves."""
    found = config()
    builder.check(found)
    assert builder.resizing(found) == Resizing()
    assert builder.resizing(found).canvases == ((800, 1344), (1344, 800))
    assert builder.sampling(found) == Sampling()
    assert builder.testing(found) == Detecting()
    assert builder.resizing_of_tests(found).tested((480, 640)).last == (800, 1067)
    view = builder.train_view(found)
    assert (view.slots, view.masks, view.how) == (100, True, Resizing())
    assert (found.batch_size, found.epochs, found.encoder.drop_path, found.optim.clip_norm) == (16, 12, 0.1, None)
    assert (found.optim.name, found.optim.weight_decay, found.optim.b2, found.optim.eps) == ("adamw", 0.05, 0.999, 1e-8)
    assert (found.detect.width, found.detect.hidden, found.data.name) == (256, 1024, "coco_instances/2017")


def test_the_rate_rises_for_500_steps_and_falls_after_epochs_8_and_11():
    """SwinOD's warm-up is linear from a thousandth (mmcv lr_updater.py:89-92)."""
    plan = methods.build_plan(config(), records=117_280)
    assert (plan.total_steps, plan.steps_per_epoch) == (12 * 7330, 7330)
    for step in (0, 1, 250, 499, 500):
        assert float(plan.lr(step)) == pytest.approx(1e-4 * (1 - (1 - step / 500) * 0.999), rel=1e-4)
    steps = (8 * 7330 - 1, 8 * 7330, 11 * 7330 - 1, 11 * 7330, 12 * 7330 - 1)
    np.testing.assert_allclose([plan.lr(step) for step in steps], [1e-4, 1e-5, 1e-5, 1e-6, 1e-6], rtol=1e-5)
    longer = methods.build_plan(config("3x"), records=117_280)
    assert (longer.total_steps, config("3x").encoder.drop_path, config("3x").evaluations) == (36 * 7330, 0.2, 36)
    np.testing.assert_allclose([longer.lr(27 * 7330), longer.lr(33 * 7330)], [1e-5, 1e-6], rtol=1e-5)


def test_variants_change_what_they_say():
    single = builder.resizing(config("single_scale"))
    assert (single.shorts, single.longest, single.crop, single.flip_last) == ((800,), 1333, 0.0, True)
    assert (config().encoder.drop_path, config().optim.warmup_steps) == (0.1, 500)
    assert (config("single_scale").encoder.drop_path, config("single_scale").optim.warmup_steps) == (0.2, 1000)
    longer = config("3x,scenes")
    assert (longer.epochs, longer.encoder.drop_path) == (pytest.approx(5.4), 0.0)
    assert longer.optim.decay_epochs == pytest.approx((3.9, 5.1))
    assert config("scratch").network == "untrained"
    assert (config("boxes").detect.masks, builder.train_view(config("boxes")).masks) == (False, False)
    scenes = config("scenes")
    builder.check(scenes)
    assert builder.resizing(scenes).canvases == builder.resizing_of_tests(scenes).canvases == ((96, 128), (128, 96))
    for name, split, asked, alike in (
        ("scenes/dense", "test", None, False),
        ("scenes/dense:2.0.0", "unseen[:50%]", None, True),
        ("my_objects", "unseen", None, False),
        ("scenes/dense", "unseen", False, False),
        ("my_objects", "test", True, True),
    ):
        scenes.detect.test_one_class = asked
        dataset = SimpleNamespace(name=name, test_split=split)
        assert detecting.one_class(scenes, SimpleNamespace(dataset=dataset)) is alike
    with pytest.raises(UserError, match="multiscale and single_scale exclude each other"):
        config("multiscale,single_scale")


@pytest.mark.parametrize("kind", ["swin", "vit"])
def test_norms_and_tables_of_positions_do_not_decay(kind):
    """And all else does, biases too."""
    settings = {"width": 8, "depth": (1, 1, 1, 1), "heads": (1, 1, 1, 1), "window": 4} if kind == "swin" else {}
    vit = {"width": 8, "depth": 4, "heads": 1, "patch": 16, "image_size": (32, 32)}
    encoder = build_encoder("swin_t", **settings) if kind == "swin" else build_encoder("vit_ti", **vit)
    found = config()
    found.data.mean = found.data.std = (0.5, 0.5, 0.5)
    found.detect.width = found.detect.hidden = 8
    model = builder.build_model(found, builder.of_detector(encoder, None), 3)
    method = builder.build_method(found, model, methods.build_plan(found, records=117_280))

    def new(key):
        images = jnp.zeros((1, 32, 32, 3))
        return method.new_state(model.encoder.init(key, images)["params"], key)

    params = jax.eval_shape(new, jax.random.PRNGKey(0)).params
    decay = optim.values_by_path(params, method.rules, "weight_decay")
    kept = {jax.tree_util.keystr(path, simple=True, separator="/") for path, value in
            jax.tree_util.tree_leaves_with_path(decay, is_leaf=lambda x: x is None) if value == 0.0}  # fmt: skip
    free = {name for name in kept if "norm" not in name.lower()}
    if kind == "swin":
        assert free == {f"encoder/stage_{stage}_block_1/attn/bias_table" for stage in range(1, 5)}
        assert {f"neck/norm_{level}/scale" for level in range(1, 5)} <= kept
    else:
        assert free == {"encoder/pos_embed"}
        assert "neck/level_1_lateral_norm/bias" in kept
        assert "cls_token" not in params["encoder"]
    assert "box_head/classify/bias" not in kept


def test_an_encoder_that_does_not_fit_is_refused():
    three = build_encoder("swin_t", width=8, depth=(1, 1, 1), heads=(1, 1, 1), window=4)
    with pytest.raises(UserError, match="a Swin of four stages"):
        builder.build_model(config(), builder.of_detector(three, None), 3)
    vit = build_encoder("vit_ti", patch=14, image_size=(28, 28))
    with pytest.raises(UserError, match="encoder's patch is 14 pixels"):
        builder.build_model(config(), builder.of_detector(vit, None), 3)
