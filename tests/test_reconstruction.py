"""The reconstruction branch within the step, and the paths that its encoder drops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.data import photometric
from repre_jax.losses import reconstruction
from tests.helpers.pretraining import SIZE, batch, build, init, learning, pixels_of


@pytest.fixture(scope="module")
def tiny():
    return learning()


def test_only_the_first_view_is_reconstructed(tiny):
    _, method, state, _ = tiny
    pixels = pixels_of(method, state, batch()).views
    images = photometric.normalize(pixels, method.mean, method.std).reshape(-1, *SIZE, 3)
    output = method.encode(state.params["encoder"], images)
    ours = method.reconstruction.loss(state.params, output.pyramid, pixels)
    first = method.encode(state.params["encoder"], images.reshape(16, 2, *SIZE, 3)[:, 0])
    by_hand = reconstruction.l1(method.reconstruction.reconstruct(state.params, first.pyramid), pixels[:, 0])
    np.testing.assert_allclose(ours, by_hand, rtol=1e-5)


def test_log_variances_learn_and_stay_in_range(tiny):
    """Far from ln L they move towards it; beyond the range they are brought back."""
    _, _, state, step = tiny
    params = state.params | {"balance": {"contrastive": jnp.float32(-6.0), "reconstruction": jnp.float32(6.0)}}
    new, _ = step(dataclasses.replace(state, params=params), batch())
    assert float(new.params["balance"]["contrastive"]) > -6.0
    assert float(new.params["balance"]["reconstruction"]) < 6.0
    params["balance"] = {"contrastive": jnp.float32(8.0), "reconstruction": jnp.float32(-8.0)}
    new, _ = step(dataclasses.replace(state, params=params), batch())
    assert float(new.params["balance"]["contrastive"]) == 6.0
    assert float(new.params["balance"]["reconstruction"]) == -6.0


def test_both_views_can_be_reconstructed():
    _, method = build(**{"repre.views": 2})
    state = init(method)
    pixels = pixels_of(method, state, batch()).views
    images = photometric.normalize(pixels, method.mean, method.std).reshape(-1, *SIZE, 3)
    output = method.encode(state.params["encoder"], images)
    rebuilt = method.reconstruction.reconstruct(state.params, output.pyramid).reshape(pixels.shape)
    each = [reconstruction.l1(rebuilt[:, view], pixels[:, view]) for view in (0, 1)]
    assert abs(each[0] - each[1]) > 1e-4
    ours = method.reconstruction.loss(state.params, output.pyramid, pixels)
    np.testing.assert_allclose(ours, (each[0] + each[1]) / 2, rtol=1e-5)


def test_only_the_online_encoder_drops_paths():
    """With drop path the online side draws anew each step; the target's projections stay those of the whole network."""
    _, plain = build()
    _, dropping = build(**{"encoder.drop_path": 0.9})
    state = init(plain)
    views = batch()
    seen, keys = [], []

    class Spy(type(dropping)):
        def encode(self, encoder_params, images, key=None):
            if key is not None:
                jax.debug.callback(keys.append, key)
            return super().encode(encoder_params, images, key)

    def spied_step(method):
        """The step, with a framework that remembers what it was given."""

        def remember(online, target, framework_state, step):
            jax.debug.callback(lambda *both: seen.append([np.asarray(x) for x in both]), online, target)
            return method.framework.loss(online, target, framework_state, step)

        parts = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
        spying = Spy(**parts | {"framework": dataclasses.replace(method.framework, loss=remember)})
        return jax.jit(spying.train_step)

    def projections(step):
        jax.block_until_ready(step(state, views))
        jax.effects_barrier()
        return seen[-1]

    online, target = projections(spied_step(plain))
    step = spied_step(dropping)
    dropped, same_target = projections(step)
    np.testing.assert_allclose(same_target, target, rtol=1e-5, atol=1e-6)
    assert np.abs(dropped - online).max() > 1e-2
    again, _ = projections(step)
    np.testing.assert_array_equal(again, dropped)
    augmentation = jax.random.fold_in(jax.random.fold_in(state.rng, 0), 0)
    assert (keys[-1] != augmentation).any(), "augmentation draws from another key"


def test_evaluation_drops_no_paths():
    _, plain = build()
    _, dropping = build(**{"encoder.drop_path": 0.9})
    state = init(plain)
    images = jax.random.normal(jax.random.key(0), (4, *SIZE, 3))
    a, b = (m.encode(state.params["encoder"], images).pooled for m in (plain, dropping))
    np.testing.assert_array_equal(a, b)
