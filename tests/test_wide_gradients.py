"""Weight gradients as float32 sums, beside those in the layers' dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from repre_jax.core.errors import UserError
from repre_jax.models.layers import SplitDense
from repre_jax.train import wide_gradients
from tests.helpers.pretraining import build


class Layers(nn.Module):
    """One of each kind, on maps [N, 6, 6, 3]."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), dtype=self.dtype, name="conv")(x)
        x = nn.relu(nn.Dense(16, use_bias=False, dtype=self.dtype, name="dense")(x))
        first, second = SplitDense(2, self.dtype, nn.initializers.lecun_normal(), name="split")(x)
        return nn.Dense(4, dtype=self.dtype, name="last")(first * second)


def gradients(dtype, wide):
    """(loss, gradients of parameters and images) of images and parameters that bfloat16 has exactly."""
    module = Layers(dtype)
    x = jax.random.normal(jax.random.key(0), (16, 6, 6, 3)).astype(jnp.bfloat16).astype(jnp.float32)
    params = module.init(jax.random.key(1), x)["params"]
    params = jax.tree.map(lambda array: array.astype(jnp.bfloat16).astype(jnp.float32), params)

    def loss(params, x):
        return jnp.sum(module.apply({"params": params}, x).astype(jnp.float32) ** 2)

    def both(*given):
        if not wide:
            return jax.value_and_grad(loss, (0, 1))(*given)
        with wide_gradients.float32_sums():
            return jax.value_and_grad(loss, (0, 1))(*given)

    # Else XLA leaves out the rounding where nothing but a cast follows it, as on one device.
    exactly = {"xla_allow_excess_precision": False}
    return jax.jit(both).lower(params, x).compile(compiler_options=exactly)(params, x)


def test_sums_are_in_float32_and_nothing_else_changes():
    (loss, (ours, of_x)), (usual_loss, (usual, usual_of_x)) = (gradients(jnp.bfloat16, wide) for wide in (True, False))
    assert loss == usual_loss
    np.testing.assert_array_equal(of_x, usual_of_x)
    assert jax.tree.structure(ours) == jax.tree.structure(usual)
    for wide, narrow in zip(jax.tree.leaves(ours), jax.tree.leaves(usual), strict=True):
        assert wide.dtype == narrow.dtype == jnp.float32
        assert (narrow == narrow.astype(jnp.bfloat16)).all()
        assert (wide != wide.astype(jnp.bfloat16)).any()
        np.testing.assert_allclose(wide, narrow, atol=0.06 * float(np.abs(narrow).max()))  # sums of 576 in bfloat16


def test_in_float32_it_is_the_same():
    for one, other in zip(*(jax.tree.leaves(gradients(jnp.float32, wide)) for wide in (True, False)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_key_chooses_it():
    assert build()[1].wide_gradients is False
    assert build(gradient_reduction="float32")[1].wide_gradients is True
    with pytest.raises(UserError, match=r"Unknown gradient_reduction 'float16'.\n  expected: float32"):
        build(gradient_reduction="float16")
