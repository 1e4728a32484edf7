"""Epochs and rates per 256 images against the sources' formulas."""

import importlib
import math

import numpy as np
import pytest

from repre_jax.builders import methods
from repre_jax.core import schedules
from repre_jax.core.errors import UserError


def resolve(**changes):
    settings = {
        "records": 1_281_167,
        "batch_size": 4096,
        "epochs": 300.0,
        "total_steps": None,
        "warmup_epochs": 40.0,
        "lr_per_256": 1.5e-4,
        "momentum_start": 0.99,
    }
    return schedules.resolve(**settings | changes)


def test_the_papers_run():
    plan = resolve()
    assert plan.total_steps == round(300 * 1_281_167 / 4096) == 93_835
    assert plan.warmup_steps == 12_511
    assert plan.peak_lr == pytest.approx(2.4e-3)
    for epoch in (0, 3.7, 20, 40, 41, 170, 299.9):
        step = epoch * plan.steps_per_epoch
        # moco-v3 main_moco.py:420-434, with a fractional epoch
        after = 2.4e-3 * 0.5 * (1 + math.cos(math.pi * (epoch - 40) / 260))
        lr = 2.4e-3 * epoch / 40 if epoch < 40 else after
        momentum = 1 - 0.5 * (1 + math.cos(math.pi * epoch / 300)) * (1 - 0.99)
        np.testing.assert_allclose(plan.lr(step), lr, rtol=1e-3, atol=1e-9)
        np.testing.assert_allclose(plan.momentum(step), momentum, rtol=1e-6)


def test_the_batch_scales_the_rate_and_the_steps():
    plan = resolve(batch_size=512)
    assert plan.peak_lr == pytest.approx(3e-4)
    assert plan.total_steps == round(300 * 1_281_167 / 512)


def test_total_steps_override_epochs_and_warmup_keeps_its_share():
    plan = resolve(total_steps=600)
    assert (plan.total_steps, plan.warmup_steps) == (600, 80)
    assert float(plan.lr(80)) == pytest.approx(2.4e-3)
    assert float(plan.lr(600)) == pytest.approx(0, abs=1e-9)
    assert float(plan.momentum(600)) == pytest.approx(1)


def test_without_warmup_the_first_step_has_the_full_rate():
    assert float(resolve(warmup_epochs=0.0).lr(0)) == pytest.approx(2.4e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"warmup_epochs": 300.0}, "warmup_epochs must be at least 0 and below epochs"),
        ({"total_steps": 0}, "total_steps must be at least 1"),
    ],
)
def test_impossible_numbers_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        resolve(**changes)


# Every number below is worked out by hand from the sources, for 1,281,167 images.
def of(name, **changes):
    """The plan of a config on ImageNet."""
    config = importlib.import_module(f"configs.{name}").get_config()
    config.update_from_flattened_dict(changes)
    return methods.build_plan(config, records=1_281_167)


def test_moby_over_the_run():
    """Batch 512: 2,502 steps an epoch, peak 1e-3, from 5e-7 to 5e-6, the cosine over all steps."""
    plan = of("moby_swin_t")
    total, warmup = round(300 * 1_281_167 / 512), round(5 * 1_281_167 / 512)
    assert (plan.total_steps, plan.warmup_steps) == (total, warmup)
    np.testing.assert_allclose(plan.lr(0), 5e-7, rtol=1e-5)
    np.testing.assert_allclose(plan.lr(1), 5e-7 + (1e-3 - 5e-7) / warmup, rtol=1e-3)
    jumped = 5e-6 + (1e-3 - 5e-6) * 0.5 * (1 + math.cos(math.pi * warmup / total))
    np.testing.assert_allclose(plan.lr(warmup), jumped, rtol=1e-5)
    assert jumped < 0.9995e-3
    np.testing.assert_allclose(plan.lr(total / 2), (1e-3 + 5e-6) / 2, rtol=1e-4)
    np.testing.assert_allclose(plan.lr(total), 5e-6, rtol=1e-2)
    assert [float(plan.weight_decay(step)) for step in (0, total // 2, total)] == pytest.approx([0.05] * 3)
    assert [float(plan.momentum(step)) for step in (0, total / 2, total)] == pytest.approx([0.99, 0.995, 1.0])


def test_dino_over_the_run():
    """Batch 1024: peak 2e-3 at the last step of the warm-up and one more, 1e-6 at the end, decay 0.04 -> 0.4."""
    plan = of("dino_vit_s")
    total, warmup = round(300 * 1_281_167 / 1024), round(10 * 1_281_167 / 1024)
    assert (plan.total_steps, plan.warmup_steps) == (total, warmup)
    assert float(plan.lr(0)) == 0
    np.testing.assert_allclose(plan.lr(1), 2e-3 / (warmup - 1), rtol=1e-3)
    np.testing.assert_allclose([plan.lr(warmup - 1), plan.lr(warmup)], 2e-3, rtol=1e-6)
    np.testing.assert_allclose(plan.lr(warmup + (total - warmup) / 2), (2e-3 + 1e-6) / 2, rtol=1e-4)
    np.testing.assert_allclose(plan.lr(total), 1e-6, rtol=1e-3)
    assert [float(plan.weight_decay(step)) for step in (0, total / 2, total)] == pytest.approx([0.04, 0.22, 0.4])
    assert [float(plan.momentum(step)) for step in (0, total / 2, total)] == pytest.approx([0.996, 0.998, 1.0])


def test_dinos_floor_does_not_grow_with_the_batch_and_mobys_does():
    for batch in (512, 2048):
        dino, moby = of("dino_vit_s", batch_size=batch), of("moby_vit_s", batch_size=batch)
        np.testing.assert_allclose(dino.lr(dino.total_steps), 1e-6, rtol=1e-3)
        np.testing.assert_allclose(moby.lr(0), 5e-7 * batch / 512, rtol=1e-5)


def test_dinos_teacher_warms_up_by_the_epoch():
    """0.04 -> 0.07 in 30 values, numpy.linspace's, one an epoch; constant within it (main_dino.py:374-378)."""
    temperature = schedules.linear_by_epoch(0.04, 0.07, 30.0, planned_epoch=7.5)
    expected = np.linspace(0.04, 0.07, 30)
    for step, epoch in ((0, 0), (7, 0), (8, 1), (15, 2), (14.9, 1), (7.5 * 15, 15), (7.5 * 29, 29), (7.5 * 250, 29)):
        np.testing.assert_allclose(temperature(step), expected[epoch], rtol=1e-6)
    np.testing.assert_allclose(schedules.linear_by_epoch(0.04, 0.07, 0.0, 7.5)(0), 0.07, rtol=1e-6)


def test_moco_v2s_momentum_is_constant():
    plan = of("moco_v2_vit_s")
    assert {round(float(plan.momentum(step)), 7) for step in (0, 1000, plan.total_steps)} == {0.999}


@pytest.mark.parametrize("name", ["moco_vit_s", "byol_vit_s"])
def test_moco_v3_and_byol_over_the_run(name):
    """Batch 4096: peak 2.4e-3 after 40 epochs, decay 0.1 throughout, momentum 0.99 -> 1."""
    plan = of(name)
    total, warmup = round(300 * 1_281_167 / 4096), round(40 * 1_281_167 / 4096)
    assert (plan.total_steps, plan.warmup_steps) == (total, warmup)
    middle = 2.4e-3 * 0.5 * (1 + math.cos(math.pi * (total / 2 - warmup) / (total - warmup)))
    rates = [float(plan.lr(step)) for step in (0, warmup, total / 2, total)]
    np.testing.assert_allclose(rates, [0, 2.4e-3, middle, 0], rtol=1e-4, atol=1e-9)
    assert [float(plan.momentum(step)) for step in (0, total / 2, total)] == pytest.approx([0.99, 0.995, 1.0])
    assert [float(plan.weight_decay(step)) for step in (0, total // 2, total)] == pytest.approx([0.1] * 3)


@pytest.mark.parametrize("total_steps", [None, 3000])
def test_the_teachers_temperature_over_the_run(total_steps):
    """0.04 in the first epoch, 0.07 from the 30th on; a run cut short keeps the shares, here 10 steps an epoch."""
    config = importlib.import_module("configs.dino_vit_s").get_config()
    config.update_from_flattened_dict({"total_steps": total_steps, "framework.out": 4})
    plan = methods.build_plan(config, records=1_281_167)
    loss = methods.build_framework(config, plan).loss
    epoch = plan.total_steps / 300
    assert epoch == pytest.approx(1251.1 if total_steps is None else 10, rel=1e-4)
    for step, expected in (
        (0, 0.04), (0.9 * epoch, 0.04), (15.5 * epoch, 0.04 + 0.03 * 15 / 29), (29.5 * epoch, 0.07),
        (plan.total_steps / 2, 0.07), (plan.total_steps - 1, 0.07),
    ):  # fmt: skip
        _, _, metrics = loss(np.ones((2, 2, 4)), np.ones((2, 2, 4)), {"centre": np.zeros(4)}, int(step))
        np.testing.assert_allclose(metrics["teacher_temperature"], expected, rtol=1e-5)


def test_simsiams_own_rate_changes_once_an_epoch():
    """main_simsiam.py:359-366 with 0.05 per 256 images at batch 512, 100 epochs: 10.5 steps an epoch here."""
    plan = resolve(records=5376, batch_size=512, epochs=100.0, warmup_epochs=0.0, lr_per_256=0.05, shape="simsiam")
    for step in (0, 10, 11, 525, 1049):
        epoch = math.floor(step / 10.5)
        np.testing.assert_allclose(plan.lr(step), 0.1 * 0.5 * (1 + math.cos(math.pi * epoch / 100)), rtol=1e-4)
    with pytest.raises(UserError, match="simsiam has no warm-up"):
        resolve(shape="simsiam")


def test_an_unknown_shape_is_named():
    known = "dino, moby, moco_v3, poly, simsiam, step"
    with pytest.raises(UserError, match=f"Unknown optim.schedule 'cosine'.\n  expected: {known}"):
        resolve(shape="cosine")


def test_planned_epochs_shrink_with_total_steps():
    """30 epochs of teacher warm-up and one of frozen prototypes stay the same share of a shortened run."""
    assert resolve().planned_epoch == resolve().steps_per_epoch
    assert resolve(total_steps=600).planned_epoch == 2.0


def short(**changes):
    """1,000 records in batches of 100: 10 steps an epoch, 100 in all, peak 0.1 * 100 / 256 * 2.56 = 0.1."""
    settings = {"records": 1000, "batch_size": 100, "epochs": 10.0, "warmup_epochs": 0.0, "lr_per_256": 0.256}
    return resolve(**settings | changes)


def rates(plan, *steps):
    return [float(plan.lr(step)) for step in steps]


def test_poly_falls_by_a_power_of_what_is_left_down_to_its_floor():
    """0.01 + 0.09 * (1 - step / 100)^power; after 20 steps of warm-up over the 80 that are left."""
    plan = short(shape="poly", lr_end=0.01)
    expected = [0.1, 0.01 + 0.09 * 0.75**0.9, 0.01 + 0.09 * 0.25**0.9, 0.01, 0.01]
    assert rates(plan, 0, 25, 75, 100, 110) == pytest.approx(expected, rel=1e-5)
    assert rates(short(shape="poly", power=2.0), 0, 50, 90) == pytest.approx([0.1, 0.025, 0.001], rel=1e-5)
    for warm in ({"warmup_steps": 20}, {"warmup_epochs": 2.0}):
        late = short(shape="poly", power=1.0, lr_start=0.02, **warm)
        assert late.warmup_steps == 20
        assert rates(late, 0, 5, 19, 20, 60, 100) == pytest.approx([0.02, 0.04, 0.096, 0.1, 0.05, 0.0], rel=1e-5)


def test_step_decay_multiplies_the_rate_at_its_epochs():
    """At the first step of the epoch; a run cut to half its steps keeps the shares."""
    plan = short(shape="step", decay_epochs=(6, 8.45))
    assert rates(plan, 0, 59, 60, 84, 85, 99) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rel=1e-5)
    half = short(shape="step", decay_epochs=(6,), decay_factor=0.5, total_steps=50, warmup_steps=10)
    assert rates(half, 0, 5, 10, 29, 30) == pytest.approx([0.0, 0.05, 0.1, 0.1, 0.05], rel=1e-5)


@pytest.mark.parametrize("shape", ["moco_v3", "moby", "dino", "simsiam"])
def test_warm_up_in_steps_is_that_of_as_many_epochs_and_absolute(shape):
    plan = short(shape=shape, warmup_steps=20, lr_start=0.01)
    if shape == "simsiam":
        falling = [0.05 * (1 + math.cos(math.pi * epoch / 10)) for epoch in (2, 9)]
        assert rates(plan, 0, 10, 19, 20, 95) == pytest.approx([0.01, 0.055, 0.0955, *falling], rel=1e-4)
    else:
        same = short(shape=shape, warmup_epochs=2.0, lr_start=0.01)
        assert rates(plan, 0, 7, 19, 20, 70, 100) == rates(same, 0, 7, 19, 20, 70, 100)
    assert short(shape=shape, warmup_steps=20, total_steps=50).warmup_steps == 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"warmup_steps": 20, "warmup_epochs": 2.0}, r"warmup_steps \(20\) and optim.warmup_epochs \(2\) exclude"),
        ({"warmup_steps": 100}, "warmup_steps must be below the run's 100 steps, got 100"),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number of at least 0, got -1"),
        ({"power": 0.9}, "optim.power is for optim.schedule poly, and the schedule is moco_v3"),
        ({"shape": "poly", "power": 0.0}, "optim.power must be above 0, got 0"),
        ({"shape": "poly", "decay_factor": 0.1}, "optim.decay_factor is for optim.schedule step"),
        ({"shape": "poly", "decay_epochs": (3,)}, "optim.decay_epochs is for optim.schedule step"),
        ({"shape": "step"}, r"optim.decay_epochs is None.\n  expected: rising numbers above 0 and below epochs \(10\)"),
        ({"shape": "step", "decay_epochs": (8, 6)}, r"optim.decay_epochs is \(8, 6\)"),
        ({"shape": "step", "decay_epochs": (8, 10)}, r"optim.decay_epochs is \(8, 10\)"),
        ({"shape": "step", "decay_epochs": (8,), "decay_factor": 1.0}, "decay_factor must lie between 0 and 1, got 1"),
        ({"shape": "step", "decay_epochs": (8,), "lr_end": 0.1}, "step ends where its decays lead"),
    ],
)
def test_settings_that_do_not_fit_the_schedule_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        short(**changes)


def test_a_config_of_an_evaluation_reaches_the_schedule():
    steps = {"optim.schedule": "step", "optim.decay_epochs": (50.0,), "optim.decay_factor": 0.2, "optim.lr_end": 0.0}
    plan = of("finetune", **steps, **{"optim.warmup_epochs": 0.0, "optim.warmup_steps": 3})
    assert plan.warmup_steps == 3
    np.testing.assert_allclose(plan.lr(plan.total_steps), plan.peak_lr * 0.2, rtol=1e-5)
