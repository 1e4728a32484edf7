"""Each framework's loss and state against slow loops over the sources' formulas."""

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.builders import config_checks
from repre_jax.core.errors import UserError
from repre_jax.frameworks import FRAMEWORKS, dino
from tests.helpers.expected import BATCH, LOCAL, PROTOTYPES, QUEUE, WIDTH, unit
from tests.helpers.pretraining import CONFIGS, build
from tests.helpers.small_frameworks import EXPECTED, framework


def shapes(made, batch=BATCH):
    """Of what the loss is given: online, target."""
    width = PROTOTYPES if made.local_views else WIDTH
    online = (batch, made.online_views + LOCAL * made.local_views, width)
    return online, None if made.target == "none" else (batch, made.target_views, width)


def random_inputs(made, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    online, target = (None if s is None else scale * rng.normal(size=s) for s in shapes(made))
    framework_state = made.init_framework_state(jax.random.key(seed))
    if "centre" in framework_state:
        framework_state = {"centre": jnp.asarray(rng.normal(size=PROTOTYPES), jnp.float32)}
    return online, target, framework_state


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_equals_the_loop(name, seed):
    made = framework(name)
    online, target, framework_state = random_inputs(made, seed, scale=3.0 if seed else 0.3)
    step = 7 + 17 * seed
    given = None if target is None else jnp.asarray(target, jnp.float32)
    value, _, _ = made.loss(jnp.asarray(online, jnp.float32), given, framework_state, jnp.int32(step))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, EXPECTED[name].loss(online, target, framework_state, step), rtol=3e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_equal_embeddings_give_the_collapse_value_that_is_printed(name):
    made = framework(name)
    online, target = (None if s is None else jnp.ones(s) for s in shapes(made))
    framework_state = made.init_framework_state(jax.random.key(0))
    framework_state = {key: jnp.full_like(x, WIDTH**-0.5) if x.ndim == 2 else x for key, x in framework_state.items()}
    value, _, _ = made.loss(online, target, framework_state, jnp.int32(0))
    np.testing.assert_allclose(value, EXPECTED[name].collapse, rtol=1e-6, atol=1e-7)
    assert made.collapse.value == pytest.approx(EXPECTED[name].collapse)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_finite_where_all_embeddings_are_equal(name):
    """Also where they are all zero: that is where a collapse ends, and a square root has no gradient there."""
    made = framework(name)
    online, target = shapes(made)
    given = None if target is None else jnp.zeros(target)
    framework_state = made.init_framework_state(jax.random.key(0))
    for value in (0.0, 1.0):
        gradient = jax.grad(lambda x: made.loss(x, given, framework_state, jnp.int32(0))[0])(jnp.full(online, value))
        assert np.isfinite(gradient).all()


def test_every_framework_has_its_expectations():
    assert set(EXPECTED) == set(FRAMEWORKS)


@pytest.mark.parametrize("name", CONFIGS)
def test_nan_is_refused_in_every_number_of_a_framework(name):
    """And in a tuple of numbers, and whatever is out of the framework's ranges."""
    settings = EXPECTED[name].settings
    for key in [key for key, value in settings.items() if isinstance(value, float)]:
        config = importlib.import_module(f"configs.{CONFIGS[name]}").get_config()
        config.framework[key] = math.nan
        with pytest.raises(UserError, match=rf"framework.{key} is nan.\n  expected: a number"):
            config_checks.ranges(config)
    for key, (low, _) in FRAMEWORKS[name].ranges.items():
        config = importlib.import_module(f"configs.{CONFIGS[name]}").get_config()
        config.framework[key] = type(config.framework[key])(low - 1)
        with pytest.raises(UserError, match=rf"framework.{key} is -?[0-9.e-]+.\n  expected: a number"):
            config_checks.ranges(config)


@pytest.mark.parametrize("key", ["framework.teacher_temperature", "augment.jitter", "data.mean"])
def test_nan_is_refused_within_tuples(key):
    config = importlib.import_module(f"configs.{CONFIGS['dino']}").get_config()
    config.update_from_flattened_dict({key: (0.1, math.nan)})
    with pytest.raises(UserError, match=f"{key} is nan"):
        config_checks.ranges(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_no_loss_is_ever_negative(name):
    """Where it is lowest: the right answer with the largest margin, every other embedding opposite; and at random.

    Kendall's weights would follow a negative loss to minus infinity.
    """
    made = framework(name)
    online, target = shapes(made)
    ends = jnp.where(jnp.arange(BATCH)[:, None, None] % 2, -1.0, 1.0) * 1e4
    cases = [random_inputs(made, seed, scale)[:2] for seed, scale in ((0, 1e-3), (1, 1e3), (2, 1.0))]
    cases.append((jnp.broadcast_to(ends, online), None if target is None else jnp.broadcast_to(ends, target)))
    row = np.random.default_rng(3).normal(size=online[-1])
    cases.append((np.broadcast_to(row, online), None if target is None else np.broadcast_to(row, target)))
    for case in cases:
        given = [None if x is None else jnp.asarray(x, jnp.float32) for x in case]
        assert float(made.loss(*given, made.init_framework_state(jax.random.key(0)), jnp.int32(0))[0]) >= 0


@pytest.mark.parametrize("name", ["moco_v2", "moby"])
def test_queues_advance_by_the_batch_and_hold_the_newest_keys(name):
    """Four batches into a queue of three: the fourth replaces the first, each view in its own queue, normalised."""
    made = framework(name)
    framework_state = start = made.init_framework_state(jax.random.key(0))
    queues = {"moco_v2": {"queue": 0}, "moby": {"queue1": 0, "queue2": 1}}[name]
    for queue in queues:
        assert framework_state[queue].shape == (QUEUE, WIDTH)
        np.testing.assert_allclose(np.linalg.norm(framework_state[queue], axis=1), 1, rtol=1e-5)
    if name == "moby":
        assert (framework_state["queue1"] != framework_state["queue2"]).any()
    targets = []
    for seed in range(4):
        online, target, _ = random_inputs(made, seed)
        targets.append(target)
        before = framework_state
        _, framework_state, _ = made.loss(jnp.asarray(online), jnp.asarray(target), framework_state, jnp.int32(seed))
        assert int(framework_state["pointer"]) == (seed + 1) * BATCH % QUEUE
        if seed == 0:
            for queue in queues:
                np.testing.assert_array_equal(framework_state[queue][BATCH:], start[queue][BATCH:])
    for queue, view in queues.items():
        keys = [unit(row) for batch in (targets[3], targets[1], targets[2]) for row in batch[:, view]]
        np.testing.assert_allclose(framework_state[queue], keys, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(before[queue][:BATCH], [unit(row) for row in targets[0][:, view]], atol=1e-6)


def test_dinos_centre_follows_the_teacher_after_the_loss():
    made = framework("dino")
    online, target, framework_state = random_inputs(made)
    _, new, metrics = made.loss(jnp.asarray(online), jnp.asarray(target), framework_state, jnp.int32(0))
    expected = 0.8 * np.asarray(framework_state["centre"]) + 0.2 * target.reshape(-1, PROTOTYPES).mean(axis=0)
    np.testing.assert_allclose(new["centre"], expected, rtol=1e-5, atol=1e-6)
    assert 0 < float(metrics["teacher_entropy"]) < math.log(PROTOTYPES)
    np.testing.assert_array_equal(made.init_framework_state(jax.random.key(0))["centre"], np.zeros(PROTOTYPES))


def test_dino_skips_same_view_pairs():
    """A student whose two large views agree with nobody but themselves has nothing to gain from that."""
    teacher = jax.nn.one_hot(jnp.array([[0, 1]]), 3)
    own = jnp.log(jnp.array([[[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]]))
    np.testing.assert_allclose(dino.across_views(teacher, own), -math.log(0.1), rtol=1e-6)


def test_simclrs_loss_is_twice_the_mean_form():
    """The mean over 2B that solo-learn and lightly take."""
    rng = np.random.default_rng(0)
    online = rng.normal(size=(BATCH, 2, WIDTH))
    z = np.concatenate([online[:, 0], online[:, 1]])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    similar = np.exp(z @ z.T / 0.3)
    positive = similar[np.arange(2 * BATCH), np.roll(np.arange(2 * BATCH), BATCH)]
    mean = -np.log(positive / (similar.sum(axis=1) - np.diag(similar))).mean()
    value, _, _ = framework("simclr").loss(jnp.asarray(online), None, {}, jnp.int32(0))
    np.testing.assert_allclose(value, 2 * mean, rtol=1e-5)


@pytest.mark.parametrize("name", ["moco_v2", "moby"])
def test_a_queue_that_the_batch_does_not_divide_is_refused(name):
    with pytest.raises(UserError, match=r"framework.queue 18 is not a multiple of batch_size 4.*\n.*queue=16"):
        framework(name, batch=4)


def test_momentum_is_read_one_step_ahead_where_the_target_moves_first():
    """MoCo v2, v3 and MoBY move it before it is used; DINO and BYOL after."""
    found = {name: (framework(name).target, framework(name).ema_lead) for name in CONFIGS}
    assert found == {name: (expected.target, expected.ema_lead) for name, expected in EXPECTED.items()}


def test_local_views_are_dinos_alone():
    with pytest.raises(UserError, match="framework moco_v3 takes no local views, got 4"):
        build(**{"augment.local_views": 4})
    with pytest.raises(UserError, match=r"9 x 8 pixels cannot be cut[^-]*--config.augment.local_size='\(8, 8\)'"):
        build("tiny", "dino", **{"augment.local_size": (9, 8)})
    assert {n: framework(n).local_views for n in CONFIGS} == {n: EXPECTED[n].local_views for n in CONFIGS}
