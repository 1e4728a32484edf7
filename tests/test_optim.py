"""AdamW with rules, against the formulas of torch.optim.AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from repre_jax.core import optim
from repre_jax.core.errors import UserError

PARAMS = {"encoder": {"patch": {"kernel": jnp.ones((2, 3)) * 2}, "bias": jnp.ones(3)}, "balance": {"a": jnp.ones(())}}
RULES = (("^encoder/patch/", "lr_scale", 0.0), ("^balance/", "weight_decay", 0.0), ("^balance/", "lr_scale", 5.0))


def adamw_by_hand(p, grads, lr, decay, scale):
    m = v = 0.0
    for step, g in enumerate(grads, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        rate = lr * scale * step  # the schedule below
        p = p - rate * decay * p - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.95**step)) + 1e-8)
    return p


def test_adamw_follows_the_formula_and_the_rules():
    optimizer = optim.adamw(lambda s: 0.01 * (s + 1), b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.3, rules=RULES)
    gradients = [jax.tree.map(lambda p, i=i: p * 0 + 0.5 - i, PARAMS) for i in range(3)]
    params, state = PARAMS, optimizer.init(PARAMS)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    values = [0.5, -0.5, -1.5]
    np.testing.assert_array_equal(params["encoder"]["patch"]["kernel"], 2)
    np.testing.assert_allclose(params["encoder"]["bias"], adamw_by_hand(1, values, 0.01, 0.3, 1), rtol=1e-5)
    np.testing.assert_allclose(params["balance"]["a"], adamw_by_hand(1, values, 0.01, 0, 5), rtol=1e-5)


def test_zero_frozen_touches_only_the_frozen():
    zeroed = optim.zero_frozen(PARAMS, RULES)
    assert not zeroed["encoder"]["patch"]["kernel"].any()
    np.testing.assert_array_equal(zeroed["encoder"]["bias"], PARAMS["encoder"]["bias"])
    np.testing.assert_array_equal(zeroed["balance"]["a"], 1)


def test_the_last_matching_rule_wins():
    rules = (("encoder", "lr_scale", 0.5), ("bias$", "lr_scale", 0.25))
    scale = optim.values_by_path(PARAMS, rules, "lr_scale", 1.0)
    assert scale == {"encoder": {"patch": {"kernel": 0.5}, "bias": 0.25}, "balance": {"a": 1.0}}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (("encodr/", "lr_scale", 0.0), "no parameter's path matches 'encodr/'"),
        (("encoder/", "lr", 0.0), "expected .path pattern, lr_scale or weight_decay, value."),
        (("encoder/(", "lr_scale", 0.0), "not a regular expression"),
    ],
)
def test_a_wrong_rule_is_named(rule, words):
    with pytest.raises(UserError, match=words):
        optim.check_rules(PARAMS, (rule,))
