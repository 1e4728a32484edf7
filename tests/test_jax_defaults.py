"""JAX's 64-bit mode, from somebody's profile, changes neither a program's numbers nor those of the step by itself."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import main
from repre_jax.builders import methods
from repre_jax.core.types import LabelledImages
from repre_jax.data import mixing, photometric
from repre_jax.evaluation import knn
from repre_jax.models import build_encoder
from repre_jax.system import command_line, jax_defaults
from repre_jax.tasks import pretrain
from repre_jax.tools import figures
from tests import test_probe, test_supervised
from tests.helpers.pretraining import CONFIGS
from tests.test_configs import abstract, config_of

OTHERS = {"jax_enable_x64": True, "jax_numpy_dtype_promotion": "strict", "jax_numpy_rank_promotion": "raise"}


@pytest.fixture
def profile():
    """What the environment may have set; what it was before comes back."""
    for name, value in OTHERS.items():
        jax.config.update(name, value)
    yield
    for name, value in jax_defaults.DEFAULTS.items():
        jax.config.update(name, value)


def test_programs_compute_as_ever_and_leave_the_settings(profile, capsys):
    seen = []
    assert command_line.exit_status(lambda: seen.append((jnp.ones(2) + np.float64(1)).dtype), "Interrupted.") == 0
    assert seen == [np.float32]
    assert {name: getattr(jax.config, name) for name in OTHERS} == OTHERS
    assert "Note: JAX_ENABLE_X64, JAX_NUMPY_DTYPE_PROMOTION, JAX_NUMPY_RANK_PROMOTION" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_default_prng_impl", "rbg"), ("jax_threefry_partitionable", False), ("jax_random_seed_offset", 7)],
)
def test_programs_draw_as_ever(name, value, capsys):
    """Each by itself gives other numbers, or keys that a checkpoint's do not fit."""

    def draws():
        key = jax.random.PRNGKey(3)
        return [key, *jax.random.split(key, 3), jax.random.normal(key, (5,)), jax.random.permutation(key, 6)]

    usual, seen = jax.device_get(draws()), []
    try:
        jax.config.update(name, value)
        other = jax.device_get(draws())
        assert command_line.exit_status(lambda: seen.extend(jax.device_get(draws())), "Interrupted.") == 0
        assert getattr(jax.config, name) == value
    finally:
        jax.config.update(name, jax_defaults.DEFAULTS[name])
    chex.assert_trees_all_equal(seen, usual)
    assert not all(a.shape == b.shape and (a == b).all() for a, b in zip(other, usual, strict=True))
    assert f"Note: {name.upper()}: not heeded here" in capsys.readouterr().out


def test_every_program_begins_with_them(profile, monkeypatch):
    """main.py and a tool; after a mistake, too, the settings are the user's again."""
    seen = []
    monkeypatch.setattr(pretrain, "run", lambda *_: seen.append(jax.config.jax_enable_x64))
    assert main.main(["main.py", "--config=configs/moco_vit_s.py:tiny", "--config.compile_cache=False"]) == 0
    monkeypatch.setattr(figures, "_run", lambda *_: seen.append(jax.config.jax_enable_x64))
    assert figures.main(["all", "nothing"]) == 0
    assert main.main(["main.py"]) == 1
    assert seen == [False, False]
    assert jax.config.jax_enable_x64


def test_nothing_is_said_where_nothing_is_set(capsys):
    assert command_line.exit_status(lambda: None, "Interrupted.") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["dino_vit_s", "moco_swin_t"])
def test_a_step_by_itself_has_the_same_dtypes(name):
    """Whoever calls it from a program of their own: state and metrics in float32, int32 and uint32."""
    with jax.enable_x64(True):
        method, state, batch = abstract(config_of(name, "tiny"))
        new, metrics = jax.eval_shape(method.train_step, state, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, new)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"float32", "int32", "uint32"}
    assert {leaf.dtype.name for leaf in metrics.values()} == {"float32"}


@pytest.mark.parametrize("name", [name for name in CONFIGS.values() if not name.startswith("dino")])
def test_losses_have_the_same_dtypes(name):
    config = config_of(name, "tiny")

    def loss():
        framework = methods.build_method(config, methods.build_plan(config, records=1600)).framework
        pairs = jnp.zeros((16, 2, config.framework.get("out") or 8), jnp.float32)
        kept = framework.init_framework_state(jax.random.PRNGKey(0))
        return kept, *framework.loss(pairs, pairs, kept, jnp.int32(3))

    usual = jax.eval_shape(loss)
    with jax.enable_x64(True):
        other = jax.eval_shape(loss)
    chex.assert_trees_all_equal_shapes_and_dtypes(usual, other)


@pytest.mark.parametrize("kind", ["probe", "fine-tuning"])
def test_steps_with_labels_have_the_same_dtypes(kind):
    """Of the heads, of running statistics, of metrics and of the predictions that are counted."""

    def step():
        side = (8, 8) if kind == "probe" else test_supervised.SIZE
        images = jnp.zeros((8, *side, 3), jnp.uint8)
        batch = LabelledImages(images, jnp.zeros(8, jnp.int32))
        if kind == "fine-tuning":
            mixed = mixing.Mixing(0.8, 1.0)
            method = test_supervised.build(mixing=mixed, erase=0.5, flip=0.5, rules=(("head/", "lr_scale", 0.5),))
            state = test_supervised.fresh(method, jax.random.PRNGKey(0))
            return state, *method.train_step(state, batch)
        method = test_probe.build((1.0, 2.0), batch_norm=True, label_smoothing=0.1)
        encoder = method.encoder.init(jax.random.PRNGKey(1), images.astype(jnp.float32))["params"]
        state = method.init_state(jax.random.PRNGKey(0), 1, 16)
        new, metrics = method.train_step(state, batch, encoder)
        return state, new, metrics, method.correct(new, jnp.zeros((1, 8, 16), jnp.float32), batch.labels)

    usual = jax.eval_shape(step)
    with jax.enable_x64(True):
        other = jax.eval_shape(step)
    chex.assert_trees_all_equal_shapes_and_dtypes(usual, other)


@pytest.mark.parametrize("what", ["augment", "mix", "erase", "vote", "init"])
def test_draws_and_votes_are_the_same(what):
    """A draw of another dtype takes other bits of the key. Of colours the last bit is the compiler's: it is given whole
    numbers of another width, and rounds a sum elsewhere."""
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 6, 6, 3), np.uint8)
    pixels = (images[:, 0] / 255).astype(np.float32)
    view = photometric.Photometric((0.4, 0.4, 0.2, 0.1), 0.8, 0.2, 0.5, (0.1, 0.3), 0.3, 0.5)
    mixed = mixing.Mixing(0.8, 1.0, probability=0.9)
    cosines = np.asarray([[0.9, 0.8, 0.1]] * 4, np.float32), np.asarray([[0, 1, 1]] * 4, np.int32)
    swin = build_encoder("swin_t", width=8, depth=(1,), heads=(1,), patch=2, window=3, image_size=(6, 6))
    functions = {
        "augment": lambda key: photometric.augment(key, images, (view,)),
        "mix": lambda key: mixing.mix(key, pixels, np.arange(2), 2, mixed),
        "erase": lambda key: mixing.erase(key, pixels, 0.9),
        "vote": lambda key: knn.vote(jax.tree.map(jnp.asarray, cosines), classes=2, ks=(1, 3), temperature=0.07),
        "init": lambda key: swin.init(key, pixels),
    }
    key = np.asarray([0, 3], np.uint32)
    usual = jax.device_get(jax.jit(functions[what])(key))
    with jax.enable_x64(True):
        other = jax.device_get(jax.jit(functions[what])(key))
    chex.assert_trees_all_equal_shapes_and_dtypes(usual, other)
    chex.assert_trees_all_close(usual, other, rtol=1e-6 if what == "augment" else 0, atol=0)
