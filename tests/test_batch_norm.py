"""BatchNorm with running statistics, and bilinear resizing, against PyTorch's (tests/golden/segmentation.py)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.core import sharding
from repre_jax.models import resize
from repre_jax.models.batch_norm import BatchNorm
from tests.golden.named_values import value

GOLDEN = Path(__file__).parent / "golden" / "segmentation.npz"
SIZES = ((5, 7), (3, 3), (9, 8), (12, 28), (1, 5), (5, 1))


def test_three_steps_and_a_test_batch_are_pytorchs():
    """Also the running variance, which is the unbiased one, after three steps of six rows."""
    wanted, norm = np.load(GOLDEN), BatchNorm(epsilon=1e-6, use_scale=False, use_bias=False)
    fresh = norm.init(jax.random.key(0), np.zeros((1, 4)), train=True)
    assert jax.tree.map(lambda leaf: leaf.tolist(), fresh) == {"batch_stats": {"mean": [0] * 4, "var": [1] * 4}}

    @jax.jit
    def run(variables, batches):
        outputs = []
        for batch in batches[:3]:
            output, variables = norm.apply(variables, batch, train=True, mutable=["batch_stats"])
            outputs.append(output)
        tested, same = norm.apply(variables, batches[3], train=False, mutable=["batch_stats"])
        return [*outputs, tested], variables["batch_stats"], same["batch_stats"]

    steps = ("1", "2", "3", "test")
    outputs, running, same = run(fresh, [20 + value(f"batch_norm/{step}", (6, 4)) for step in steps])
    for step, output in zip(steps, outputs, strict=True):
        np.testing.assert_allclose(output, wanted[f"batch_norm/{step}"], atol=2e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(running[name], wanted[f"batch_norm/{name}"], rtol=1e-5)
        np.testing.assert_array_equal(same[name], running[name])


def test_statistics_of_a_sharded_batch_are_those_of_the_whole(two_devices):
    """Rows of one device lie around 0, those of the other around 10."""
    batch = value("sharded", (8, 3)) + np.repeat([0, 10], 4)[:, None].astype(np.float32)
    norm, fresh = BatchNorm(), {"params": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}}
    fresh["batch_stats"] = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    apply = jax.jit(lambda batch: norm.apply(fresh, batch, train=True, mutable=["batch_stats"]))
    output, changed = apply(sharding.shard_batch(batch, sharding.make_mesh(8)))
    np.testing.assert_allclose(output, (batch - batch.mean(0)) / np.sqrt(batch.var(0) + 1e-5), atol=1e-5)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.1 * batch.mean(0), rtol=1e-5)
    np.testing.assert_allclose(changed["batch_stats"]["var"], 0.9 + 0.1 * batch.var(0, ddof=1), rtol=1e-5)


def test_its_gradient_is_that_of_the_formula():
    """By the maps, the scale and the bias; also where nothing but the running statistics is asked for: none."""
    x, weights = value("gradient", (2, 3, 4, 5)) + 3, value("cotangent", (2, 3, 4, 5))
    params = {"scale": value("gradient/weight", (5,)), "bias": value("gradient/bias", (5,))}
    statistics = {"mean": jnp.zeros(5), "var": jnp.ones(5)}

    def by_the_module(x, params):
        variables = {"params": params, "batch_stats": statistics}
        output, changed = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
        return (output * weights).sum() + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(changed))

    def by_the_formula(x, params):
        normalised = (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-5)
        return ((normalised * params["scale"] + params["bias"]) * weights).sum()

    found, wanted = (jax.jit(jax.grad(by, (0, 1)))(x, params) for by in (by_the_module, by_the_formula))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5), found, wanted)


def test_it_keeps_one_array_of_its_inputs_size_and_dtype():
    """For the gradient, of a half precision input."""
    x = jax.ShapeDtypeStruct((2, 8, 8, 5), jnp.bfloat16)
    norm = BatchNorm(dtype=jnp.bfloat16)
    variables = jax.eval_shape(lambda: norm.init(jax.random.key(0), jnp.zeros(x.shape), train=True))

    def pull(variables, x):
        return jax.vjp(lambda x: norm.apply(variables, x, train=True, mutable=["batch_stats"])[0], x)[1]

    kept = [leaf for leaf in jax.tree.leaves(jax.eval_shape(pull, variables, x)) if leaf.shape == x.shape]
    assert [leaf.dtype for leaf in kept] == [jnp.bfloat16]


@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_resizing_is_pytorchs_and_its_gradient_the_transposed(align_corners):
    """Enlarged, made smaller, and one side kept."""
    wanted, x = np.load(GOLDEN), value("resize", (1, 2, 6, 7)).transpose(0, 2, 3, 1)

    @jax.jit
    def run(x):
        found = []
        for size in SIZES:
            output, pull = jax.vjp(lambda x, size=size: resize.bilinear(x, size, align_corners), x)
            weights = value("cotangent", output.shape)
            found.append((output, (output * weights).sum(), (pull(weights)[0] * x).sum()))
        return found

    for size, (output, forward, backward) in zip(SIZES, run(x), strict=True):
        np.testing.assert_allclose(output, wanted[f"resize/{size[0]}x{size[1]}/{align_corners}"], atol=2e-6)
        np.testing.assert_allclose(forward, backward, rtol=1e-4, atol=1e-4)  # <A x, w> = <x, A^T w>


def test_a_map_of_this_size_is_left_alone_and_the_dtype_stays():
    x = jnp.asarray(value("resize", (1, 6, 7, 2)))
    np.testing.assert_array_equal(resize.bilinear(x, (6, 7)), x)
    half = x.astype(jnp.bfloat16)
    assert resize.bilinear(half, (12, 7)).dtype == jnp.bfloat16
    pulled = jax.vjp(lambda x: resize.bilinear(x, (12, 7)), half)[1](jnp.ones((1, 12, 7, 2), jnp.bfloat16))[0]
    assert pulled.dtype == jnp.bfloat16
    np.testing.assert_allclose(pulled.astype(jnp.float32), 2.0, rtol=0.02)  # each row went into two


@pytest.mark.parametrize("size", [(4, 6), (3, 5), (1, 2)])
def test_nearest_doubling_takes_the_sample_at_half_the_place(size):
    x = value("nearest", (1, -(-size[0] // 2), -(-size[1] // 2), 2))
    rows, columns = (np.arange(side) // 2 for side in size)
    np.testing.assert_array_equal(resize.nearest_double(jnp.asarray(x), size), x[:, rows][:, :, columns])
