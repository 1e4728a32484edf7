"""Optimisers with rules, against the formulas of the sources written out for one tensor."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from repre_jax.core import optim, schedules
from repre_jax.core.errors import UserError
from tests.helpers.pretraining import CONFIGS, build, init

PARAMS = {
    "encoder": {"patch": {"kernel": np.full((2, 3), 2, np.float32)}, "bias": np.ones(3, np.float32)},
    "balance": {"a": np.ones((), np.float32)},
}
RULES = (("^encoder/patch/", "lr_scale", 0.0), ("^balance/", "weight_decay", 0.0), ("^balance/", "lr_scale", 5.0))
GRADIENTS = [0.5, -0.5, -1.5]


def plan(**changes):
    """Rate 0.01, 0.02, 0.03 ...; decay 0.3; 2 steps an epoch as the config means it, if not by the data's size."""
    made = schedules.resolve(
        records=2, batch_size=1, epochs=10.0, total_steps=None, warmup_epochs=0.0, lr_per_256=256.0, weight_decay=0.3
    )
    fixed = {"lr": lambda step: 0.01 * (step + 1), "peak_lr": 0.5, "steps_per_epoch": 7.0}
    return dataclasses.replace(made, **fixed | changes)


def train(optimizer, params=PARAMS, gradients=GRADIENTS, first=0):
    """The parameters after one update per gradient, which is the same number everywhere."""
    state = optimizer.init(params)
    for step, value in enumerate(gradients, start=first):
        gradient = jax.tree.map(lambda p, value=value: p * 0 + value, params)
        updates, state = optimizer.update(gradient, state, params, at_step=jnp.int32(step))
        params = optax.apply_updates(params, updates)
    return params


def adamw_by_hand(p, grads, decay=0.3, scale=1.0, first=0, rates=None):
    m = v = 0.0
    for step, g in enumerate(grads, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        rate = rates[step - 1] if rates else 0.01 * scale * (step + first)
        p = p - rate * decay * p - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.95**step)) + 1e-8)
    return p


def test_adamw_follows_the_formula_and_the_rules():
    params = train(optim.build("adamw", plan(), b2=0.95, rules=RULES))
    np.testing.assert_array_equal(params["encoder"]["patch"]["kernel"], 2)
    np.testing.assert_allclose(params["encoder"]["bias"], adamw_by_hand(1, GRADIENTS), rtol=1e-5)
    np.testing.assert_allclose(params["balance"]["a"], adamw_by_hand(1, GRADIENTS, decay=0, scale=5), rtol=1e-5)


def test_weight_decay_can_change_with_the_step():
    params = train(optim.build("adamw", plan(weight_decay=lambda step: 0.1 * step), b2=0.95))
    p = 1.0
    m = v = 0.0
    for step, g in enumerate(GRADIENTS, start=1):
        m, v, rate = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g, 0.01 * step
        p -= rate * (0.1 * (step - 1) * p + (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.95**step)) + 1e-8))
    np.testing.assert_allclose(params["encoder"]["bias"], p, rtol=1e-5)


def test_sgd_is_torchs():
    """simsiam main_simsiam.py:193-201: decay joins the gradient, momentum without dampening, then the rate."""
    params = train(optim.build("sgd", plan(), momentum=0.8))
    for first, moved in ((2.0, params["encoder"]["patch"]["kernel"]), (1.0, params["encoder"]["bias"])):
        p, buffer = first, 0.0
        for step, g in enumerate(GRADIENTS, start=1):
            buffer = 0.8 * buffer + g + 0.3 * p
            p -= 0.01 * step * buffer
        np.testing.assert_allclose(moved, p, rtol=1e-5)


def test_lars_is_moco_v3s():
    """moco-v3 optimizer.py:18-43, with a rule that takes one matrix out of the trust ratio."""
    params = {"a": {"kernel": jnp.array([[1.0, 2.0]]), "bias": jnp.ones(3)}, "b": {"kernel": jnp.ones((2, 2))}}
    rules = (("^b/", "trust_ratio", 0.0),)
    moved = train(optim.build("lars", plan(), trust_coefficient=0.02, rules=rules), params)

    def by_hand(p, decay, trust):
        p, buffer = np.array(p, np.float64), 0.0
        for step, g in enumerate(GRADIENTS, start=1):
            update = g + decay * p
            if trust:
                update = update * 0.02 * np.linalg.norm(p) / np.linalg.norm(update)
            buffer = 0.9 * buffer + update
            p = p - 0.01 * step * buffer
        return p

    np.testing.assert_allclose(moved["a"]["kernel"], by_hand([[1, 2]], 0.3, True), rtol=1e-5)
    np.testing.assert_allclose(moved["a"]["bias"], by_hand(np.ones(3), 0, False), rtol=1e-5)
    np.testing.assert_allclose(moved["b"]["kernel"], by_hand(np.ones((2, 2)), 0.3, False), rtol=1e-5)


def test_a_constant_rate_stays_at_the_peak():
    params = train(optim.build("adamw", plan(), b2=0.95, rules=(("^balance/", "constant_lr", 1.0),)))
    np.testing.assert_allclose(params["balance"]["a"], adamw_by_hand(1, GRADIENTS, rates=[0.5] * 3), rtol=1e-5)
    np.testing.assert_allclose(params["encoder"]["bias"], adamw_by_hand(1, GRADIENTS), rtol=1e-5)


def test_frozen_epochs_count_adams_steps_from_their_end():
    """Two steps an epoch: the third step is Adam's first for the frozen tensor, at the schedule's third rate.

    A count that had gone on would make that step another one.
    """
    gradients = [7.0, -3.0, *GRADIENTS]
    params = train(
        optim.build("adamw", plan(), b2=0.95, rules=(("^balance/", "frozen_epochs", 1.0),)), PARAMS, gradients
    )
    np.testing.assert_allclose(params["balance"]["a"], adamw_by_hand(1, GRADIENTS, first=2), rtol=1e-5)
    np.testing.assert_allclose(params["encoder"]["bias"], adamw_by_hand(1, gradients), rtol=1e-5)
    still = train(optim.build("adamw", plan(), rules=(("^balance/", "frozen_epochs", 1.0),)), PARAMS, gradients[:2])
    assert still["balance"]["a"] == 1


def test_the_rate_follows_the_runs_step_not_the_updates():
    """As after 4 skipped steps."""
    params = train(optim.build("adamw", plan(), b2=0.95), first=4)
    np.testing.assert_allclose(params["encoder"]["bias"], adamw_by_hand(1, GRADIENTS, first=4), rtol=1e-5)


def clipped(**settings):
    """What clipping makes of gradients of norm 3 and 4 (and 12, left out), by SGD at rate 1 without momentum."""
    params = {"a": jnp.zeros(9), "b": jnp.zeros((2, 2)), "c": jnp.zeros(())}
    gradients = {"a": jnp.ones(9), "b": jnp.full((2, 2), 2.0), "c": jnp.float32(12.0)}
    constant = plan(lr=lambda step: 1.0, weight_decay=lambda step: 0.0)
    optimizer = optim.build("sgd", constant, momentum=0.0, rules=(("^c$", "clip", 0.0),), **settings)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params, at_step=jnp.int32(0))
    return [-float(updates[name].ravel()[0]) for name in ("a", "b", "c")]


def test_gradients_are_clipped_together_or_each():
    assert clipped() == pytest.approx([1, 2, 12])
    assert clipped(clip_norm=2.0) == pytest.approx([2 / 5, 2 * 2 / 5, 12])
    assert clipped(clip_norm=2.0, clip_each=True) == pytest.approx([2 / 3, 2 * 2 / 4, 12])
    assert clipped(clip_norm=6.0) == pytest.approx([1, 2, 12])
    assert clipped(clip_norm=3.5, clip_each=True) == pytest.approx([1, 2 * 3.5 / 4, 12])


def test_zero_frozen_touches_only_the_frozen():
    zeroed = optim.zero_frozen(PARAMS, RULES)
    assert not zeroed["encoder"]["patch"]["kernel"].any()
    np.testing.assert_array_equal(zeroed["encoder"]["bias"], PARAMS["encoder"]["bias"])
    np.testing.assert_array_equal(zeroed["balance"]["a"], 1)


def test_the_last_matching_rule_wins():
    rules = (("encoder", "lr_scale", 0.5), ("bias$", "lr_scale", 0.25))
    scale = optim.values_by_path(PARAMS, rules, "lr_scale")
    assert scale == {"encoder": {"patch": {"kernel": 0.5}, "bias": 0.25}, "balance": {"a": 1.0}}


@pytest.mark.parametrize("framework", CONFIGS)
def test_the_configs_decay_what_their_sources_decay(framework):
    """MoBY and DINO: tensors of one axis do not (MoBY optimizer.py:35-49, dino utils.py:632-643); the others: all do.

    Log-variances never decay, nor do they count where gradients are clipped.
    """
    _, method = build("tiny", framework)
    params = jax.eval_shape(lambda: init(method).params)
    counted = optim.values_by_path(params, method.rules, "clip")
    assert counted.pop("balance") == {"contrastive": 0.0, "reconstruction": 0.0}
    assert set(jax.tree.leaves(counted)) == {1.0}
    decay = optim.values_by_path(params, method.rules, "weight_decay")
    assert decay.pop("balance") == {"contrastive": 0.0, "reconstruction": 0.0}
    del params["balance"]
    excluded = jax.tree.leaves(jax.tree.map(lambda _, value: value == 0.0, params, decay, is_leaf=lambda x: x is None))
    vectors = [leaf.ndim <= 1 for leaf in jax.tree.leaves(params)]
    assert sum(vectors) > 10
    assert excluded == (vectors if base.UNDECAYED in method.rules else [False] * len(vectors))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (("encodr/", "lr_scale", 0.0), "no parameter's path matches 'encodr/'"),
        (("encoder/", "lr", 0.0), "expected: .path pattern, lr_scale or constant_lr or .*, a number"),
        (("encoder/(", "lr_scale", 0.0), "not a regular expression"),
    ],
)
def test_a_wrong_rule_is_named(rule, words):
    with pytest.raises(UserError, match=words):
        optim.check_rules(PARAMS, (rule,))


def test_an_unknown_optimiser_is_named():
    with pytest.raises(UserError, match=r"Unknown optimiser 'adam'.\n  expected: adamw, lars, sgd"):
        optim.build("adam", plan())


def test_a_scaled_peak_falls_to_the_same_floor():
    """SETR's SGD: heads begin at ten times the rate and end at the floor that all share (recipes-dense.md 2.3)."""
    made = schedules.resolve(
        records=8, batch_size=8, epochs=1, total_steps=5, lr_per_256=0.32, lr_end=1e-4, shape="poly"
    )
    assert (made.peak_lr, made.floor) == (pytest.approx(0.01), 1e-4)
    optimizer = optim.build("sgd", made, momentum=0.9, rules=(("^balance/", "peak_scale", 10.0),))
    gradients = [0.5, -0.5, -1.5, 1.0, 0.25]
    after = train(optimizer, gradients=gradients)
    for base_rate, start, found in (
        (0.01, 2.0, after["encoder"]["patch"]["kernel"]),
        (0.1, 1.0, after["balance"]["a"]),
    ):
        value, moment = start, 0.0
        for step, gradient in enumerate(gradients):
            moment = 0.9 * moment + gradient
            value -= ((base_rate - 1e-4) * (1 - step / 5) ** 0.9 + 1e-4) * moment
        np.testing.assert_allclose(found, value, rtol=1e-6)


def test_a_scaled_peak_scales_the_whole_warm_up():
    made = schedules.resolve(
        records=8, batch_size=8, epochs=1, total_steps=6, warmup_steps=2, lr_per_256=0.32, lr_end=1e-3, shape="poly"
    )
    optimizer = optim.build("sgd", made, momentum=0.0, rules=(("^balance/", "peak_scale", 10.0),))
    after = train(optimizer, gradients=[1.0, 1.0, 1.0])
    np.testing.assert_allclose(after["balance"]["a"], 1 - (0 + 0.05 + 0.1), rtol=1e-6)
