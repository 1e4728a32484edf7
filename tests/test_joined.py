"""Parameters that are updated together (train/joined.py) end as those that are updated one by one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.core import optim
from repre_jax.core.types import TrainState
from repre_jax.train import joined, update
from tests.test_optim import plan

RULES = (
    ("bias", "weight_decay", 0.0),
    ("patch", "lr_scale", 0.0),
    ("decoder", "lr_scale", 3.0),
    ("last", "frozen_epochs", 0.5),
    ("norm", "clip", 0.0),
)


def params(seed):
    rng = np.random.default_rng(seed)

    def layer(*shape):
        return {"kernel": jnp.float32(rng.normal(size=shape)), "bias": jnp.float32(rng.normal(size=shape[-1:]))}

    encoder = {"patch": layer(2, 3), "block_1": layer(3, 4), "norm": {"scale": jnp.ones(3)}, "block_2": layer(3, 4)}
    return {"encoder": encoder, "head": {"first": layer(4, 2), "last": layer(2, 2)}, "decoder": layer(3, 3, 2, 4)}


def steps(name, *, in_groups, worst):
    """The states of three steps, of which the second is skipped if `worst` is not finite."""
    optimizer = optim.build(name, plan(peak_lr=0.1), rules=RULES, clip_norm=1.0)
    begin = params(0)
    target = {"encoder": params(1)["encoder"]}
    state = TrainState.begin(jax.random.PRNGKey(0), begin, optimizer.init(begin), target, {})
    step = jax.jit(lambda state, gradients: update.update(
        state, gradients, {}, {"loss": jnp.float32(0)},
        optimizer=optimizer, rules=RULES, momentum=0.9, in_groups=in_groups,
    ))  # fmt: skip
    found = []
    for number in range(3):
        gradients = params(10 + number)
        if number == 1:
            gradients["decoder"]["bias"] = gradients["decoder"]["bias"].at[0].set(worst)
        found.append(step(state, gradients))
        state = found[-1][0]
    return found


@pytest.mark.parametrize("name", optim.BY_NUMBER)
@pytest.mark.parametrize("worst", [2.0, np.nan])
def test_a_step_in_groups_is_a_step_of_each_tensor(name, worst):
    together, apart = (steps(name, in_groups=how, worst=worst) for how in (True, False))
    assert int(apart[-1][0].skipped) == np.isnan(worst)
    chex.assert_trees_all_close(together, apart, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal_structs(together, apart)


def test_what_is_alike_is_in_a_group():
    groups = joined.groups_of(params(0), RULES, apart=("encoder",))
    assert sorted(groups.values()) == sorted([
        ["encoder/block_1/kernel", "encoder/block_2/kernel"],
        ["encoder/block_1/bias", "encoder/block_2/bias"],
        ["encoder/patch/kernel"],
        ["encoder/patch/bias"],
        ["encoder/norm/scale"],
        ["head/first/kernel"],
        ["head/first/bias"],
        ["head/last/kernel"],
        ["head/last/bias"],
        ["decoder/kernel"],
        ["decoder/bias"],
    ])  # fmt: skip
