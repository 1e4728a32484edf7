"""Epochs and rates per 256 images against the sources' formulas."""

import math

import numpy as np
import pytest

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
