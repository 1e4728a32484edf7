"""The numbers of the evaluations' configs, by hand from the sources that recipes.md 7.1 and 7.2 name."""

import math

import pytest

from repre_jax.builders import methods
from tests.test_configs import config_of, of

RECORDS = 1_281_167
LINEAR_KEYS = (
    "linear.init_std", "linear.batch_norm", "linear.label_smoothing", "encoder.drop_path", "epochs", "optim.name",
    "optim.momentum", "optim.nesterov", "optim.weight_decay", "optim.clip_norm", "optim.warmup_epochs",
    "augment.interpolation", "data.test_interpolation", "augment.crop_scale", "augment.flip_probability",
)  # fmt: skip
SAME = ((0.08, 1.0), 0.5)
LINEAR = {
    "": (0.01, False, 0.0, 0.0, 90, "sgd", 0.9, False, 0, None, 0, "bilinear", "bilinear", *SAME),
    ":dino": (0.01, False, 0.0, 0.0, 100, "sgd", 0.9, False, 0, None, 0, "bilinear", "bicubic", *SAME),
    ":moby": (0.02, False, 0.1, 0.2, 100, "sgd", 0.9, True, 0, 5.0, 5, "bilinear", "bilinear", *SAME),
    ":mae": (0.01, True, 0.0, 0.0, 90, "lars", 0.9, False, 0, None, 10, "bicubic", "bicubic", *SAME),
}
# Batch; peak of the learning rate; its course by epochs where it has a step an epoch.
RATES = {
    "": (1024, 12.0, lambda e: 6 * (1 + math.cos(math.pi * e / 90))),
    ":dino": (1024, 0.004, lambda e: 0.002 * (1 + math.cos(math.pi * e / 100))),
    ":moby": (1024, 2.0, None),
    ":mae": (16384, 6.4, None),
}


@pytest.mark.parametrize("protocol", LINEAR)
def test_linear_probes_are_their_authors(protocol):
    config = config_of("linear", protocol[1:])
    assert of(config, *LINEAR_KEYS) == LINEAR[protocol]
    assert config.linear.protocol == protocol[1:] or (config.linear.protocol, protocol) == ("mocov3", "")
    batch_size, peak, by_epoch = RATES[protocol]
    plan = methods.build_plan(config, RECORDS)
    assert config.batch_size == batch_size
    assert plan.peak_lr == pytest.approx(peak)
    if by_epoch:  # a step an epoch
        for epoch in (0, 20, 44):
            for part in (0.2, 0.8):
                step = math.floor((epoch + part) * plan.total_steps / config.epochs)
                assert float(plan.lr(step)) == pytest.approx(by_epoch(epoch), rel=1e-2)


def test_mobys_probe_warms_up_and_ends_at_its_floor():
    plan = methods.build_plan(config_of("linear", "moby"), RECORDS)
    assert float(plan.lr(0)) == pytest.approx(5e-7 * 1024 / 512, rel=0.1)
    assert float(plan.lr(round(plan.total_steps * 5 / 100))) == pytest.approx(2.0, rel=0.01)
    assert float(plan.lr(plan.total_steps)) == pytest.approx(5e-6 * 1024 / 512, rel=0.05)


FINETUNE_KEYS = (
    "epochs", "optim.name", "optim.weight_decay", "optim.warmup_epochs", "optim.clip_norm", "encoder.drop_path",
    "finetune.layer_decay", "finetune.mixup_alpha", "finetune.cutmix_alpha", "finetune.erase_probability",
    "finetune.label_smoothing", "finetune.randaugment", "finetune.init_std", "finetune.mean_then_norm",
)  # fmt: skip
MIXED = (0.8, 1.0, 0.25, 0.1, "rand-m9-mstd0.5-inc1")
FINETUNE = {
    "": ((100, "adamw", 0.05, 5, None, 0.1, 0.65, *MIXED, 2e-5, True), 2e-3, 1e-6),
    ":swin": ((100, "adamw", 0.05, 20, 5.0, 0.2, 1.0, *MIXED, 0.02, False), 1e-3, 1e-5),
    ":scratch": ((300, "adamw", 0.05, 20, 5.0, 0.1, 1.0, *MIXED, 0.02, True), 1e-3, 1e-5),
}


RECIPES = {
    "": "mae",
    "swin": "swin, 100 epochs instead of 300",
    "scratch": "from scratch, Swin's optimiser with MAE's head",
    "swin,scratch": "from scratch, swin",
}


@pytest.mark.parametrize("variants", RECIPES)
def test_a_recipe_says_what_it_is_not(variants):
    config = config_of("finetune", variants)
    assert config.finetune.recipe == config.published.finetune.recipe == RECIPES[variants]
    assert config.epochs == (300 if "scratch" in variants else 100), "Swin's supervised training has 300"


@pytest.mark.parametrize("recipe", FINETUNE)
def test_fine_tuning_is_maes_or_swins(recipe):
    config = config_of("finetune", recipe[1:])
    expected, peak, end = FINETUNE[recipe]
    assert of(config, *FINETUNE_KEYS) == expected
    plan = methods.build_plan(config, RECORDS)
    assert (config.batch_size, plan.peak_lr) == (1024, pytest.approx(peak))
    assert float(plan.lr(plan.total_steps)) == pytest.approx(end, rel=0.1)
