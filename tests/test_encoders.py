"""Both kinds of encoder: names and sizes, and what they have in common."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repre_jax.core.errors import UserError
from repre_jax.models import build_encoder, decoder, layers
from repre_jax.models.encoders import VITS

SMALL = {
    "vit_s": {"width": 16, "depth": 4, "heads": 2, "patch": 4, "image_size": (16, 16)},
    "swin_t": {"width": 8, "depth": (2, 2), "heads": (2, 4), "patch": 2, "window": 3},
}


def small(name, **changes):
    return build_encoder(name, **SMALL[name] | changes)


def init(encoder, shape, seed=0):
    """Parameters large enough for every part to be seen."""
    params = jax.jit(encoder.init)(jax.random.key(seed), jnp.zeros(shape))["params"]
    return jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit_ti", 5_524_416),
        ("vit_s", 21_665_664),
        ("vit_b", 85_798_656),
        ("vit_l", 303_301_632),
        ("swin_t", 27_519_354),
        ("swin_s", 48_837_258),
        ("swin_b", 86_743_224),
    ],
)
def test_parameter_counts(name, count):
    encoder = build_encoder(name)
    pixels = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(encoder.init, jax.random.key(0), pixels)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count


def test_flavours():
    assert (build_encoder("vit_s").heads, build_encoder("vit_s").variant) == (6, "deit")
    assert build_encoder("vit_s", variant="moco_v3").heads == 12
    assert build_encoder("vit_s", variant="moco_v3", heads=6).heads == 6
    heads = {name: build_encoder(name, variant="moco_v3").heads for name in VITS}
    assert heads == {"vit_ti": 3, "vit_s": 12, "vit_b": 12, "vit_l": 16}
    assert {name: build_encoder(name, variant="sincos").heads for name in VITS} == heads | {"vit_s": 6}
    encoder = build_encoder("vit_s", variant="moco_v3")
    params = jax.eval_shape(encoder.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 21_665_664 - 197 * 384, "197 positions are fixed"


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("vit_x", {}, "Unknown encoder 'vit_x'.\n  expected: vit_ti, vit_s, vit_b, vit_l, swin_t, swin_s, swin_b"),
        (
            "swin_t",
            {"pyramid_levels": 3},
            "swin_t has no setting 'pyramid_levels'.\n  expected: width, depth, heads, patch",
        ),
        ("vit_s", {"window": 7}, "vit_s has no setting 'window'"),
        ("swin_t", {"variant": "moco_v3"}, "swin_t has no setting 'variant'"),
    ],
)
def test_what_does_not_exist_is_named(name, changes, words):
    with pytest.raises(UserError, match=words):
        build_encoder(name, **changes)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("shape", "words"),
    [((2, 16, 16, 1), r"shape \(2, 16, 16, 1\).*\n.*\[N, H, W, 3\]"), ((2, 15, 16, 3), "15 x 16 pixels cannot be cut")],
)
def test_images_that_do_not_fit_are_named(name, shape, words):
    with pytest.raises(UserError, match=words):
        small(name).init(jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(("name", "channels"), [("vit_s", 5), ("swin_t", 1), ("swin_t", 2)])
def test_any_number_of_channels(name, channels):
    encoder = small(name, channels=channels)
    pixels = jax.random.normal(jax.random.key(0), (1, 16, 16, channels))
    params = init(encoder, pixels.shape)
    apply = jax.jit(encoder.apply)
    for channel in range(channels):
        other = apply({"params": params}, pixels.at[..., channel].add(1.0))
        assert jnp.abs(other.pooled - apply({"params": params}, pixels).pooled).max() > 1e-4, "it sees every channel"


@pytest.mark.parametrize("name", SMALL)
def test_images_of_a_batch_do_not_touch(name):
    encoder = small(name)
    pixels = jax.random.normal(jax.random.key(0), (2, 20, 12, 3))
    params = init(encoder, pixels.shape)
    both = jax.jit(encoder.apply)({"params": params}, pixels)
    alone = jax.jit(encoder.apply)({"params": params}, pixels[1:])
    for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[1:], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_attention_is_there_when_asked_for_and_changes_nothing(name):
    encoder = small(name)
    pixels = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    params = init(encoder, pixels.shape)
    plain = jax.jit(encoder.apply)({"params": params}, pixels)
    assert plain.attention is None
    seen = []
    for block in (1, 4):
        asked = jax.jit(functools.partial(encoder.apply, attention_of=block))({"params": params}, pixels)
        np.testing.assert_allclose(asked.pooled, plain.pooled, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(asked.attention.sum(-1), 1.0, rtol=1e-5)
        seen.append(asked.attention)
    assert [a.shape for a in seen] == ([(2, 2, 17, 17)] * 2 if name == "vit_s" else [(2, 9, 2, 9, 9), (2, 4, 4, 9, 9)])
    softmaxes = [
        sum(e.primitive.name == "exp" for e in equations(jax.make_jaxpr(apply)({"params": params}, pixels).jaxpr))
        for apply in (encoder.apply, functools.partial(encoder.apply, attention_of=1))
    ]
    assert softmaxes == [4, 5], "nothing is computed for weights that are not asked for"
    with pytest.raises(UserError, match=r"attention_of is 5.*\n.*from 1 to 4"):
        encoder.apply({"params": params}, pixels, attention_of=5)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_multiplies_and_float32_keeps(name):
    """Matrix products take bfloat16; parameters, norms and the softmax stay float32."""
    pixels = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    exact, mixed = small(name), small(name, dtype="bfloat16")
    params = init(exact, pixels.shape)
    assert {leaf.dtype for leaf in jax.tree.leaves(init(mixed, pixels.shape))} == {jnp.dtype("float32")}
    difference = jnp.abs(
        jax.jit(mixed.apply)({"params": params}, pixels).pooled
        - jax.jit(exact.apply)({"params": params}, pixels).pooled
    )
    assert 0 < difference.max() < 0.2
    seen = {"dot_general": set(), "conv_general_dilated": set(), "exp": set(), "rsqrt": set()}
    found = list(equations(jax.make_jaxpr(mixed.apply)({"params": params}, pixels).jaxpr))
    for equation in found:
        if equation.primitive.name in seen:
            seen[equation.primitive.name] |= {v.aval.dtype.name for v in equation.invars}
    assert seen["dot_general"] == seen["conv_general_dilated"] == {"bfloat16"}
    assert seen["exp"] == seen["rsqrt"] == {"float32"}
    logits = [e for e in found if e.primitive.name == "dot_general" and e.outvars[0].aval.dtype == jnp.float32]
    assert len(logits) == 4, "a block's attention logits leave the matrix unit in float32, nothing else does"
    record = jax.eval_shape(functools.partial(mixed.apply, capture_intermediates=True), {"params": params}, pixels)[1]
    stream = {name: calls["__call__"][0] for name, calls in record["intermediates"].items() if name != "__call__"}
    dtypes = {name: (out[0] if isinstance(out, tuple) else out).dtype for name, out in stream.items()}
    others = {name for name, dtype in dtypes.items() if dtype != jnp.float32}
    assert others == {"patch_embed"}, "what passes from block to block is float32"


def equations(jaxpr):
    """Every equation, those of inner functions included."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize("name", SMALL)
def test_rematerialisation_changes_memory_only(name):
    pixels = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    params = init(small(name), pixels.shape)
    results, counts = [], []
    for change in ({}, {"remat": True}, {"remat_mlp": True}):
        encoder = small(name, **change, drop_path=0.5)

        def loss(p, encoder=encoder):
            output = encoder.apply({"params": p}, pixels, train=True, rngs={"drop_path": jax.random.key(1)})
            return (output.pooled**3).sum() + sum((level**2).mean() for level in output.pyramid)

        results.append(jax.jit(jax.value_and_grad(loss))(params))
        names = [e.primitive.name for e in equations(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)]
        assert bool({"remat", "remat2", "checkpoint"} & set(names)) == bool(change)
        counts.append((names.count("dot_general"), names.count("erf")))
    for other in results[1:]:
        chex.assert_trees_all_close(results[0], other, rtol=1e-4, atol=1e-4)
    (products, erfs), (of_remat, _), (of_mlp, erfs_of_mlp) = counts
    assert products == of_mlp < of_remat  # GELU alone is computed twice, and in each block
    assert erfs_of_mlp > erfs


@pytest.mark.parametrize("name", SMALL)
def test_drop_path(name):
    """Off without train; with it, whole images lose a branch, in the same way for the same key."""
    encoder = small(name, drop_path=0.6)
    pixels = jnp.tile(jax.random.normal(jax.random.key(0), (1, 16, 16, 3)), (64, 1, 1, 1))
    params = init(encoder, pixels.shape)
    plain = jax.jit(encoder.apply)({"params": params}, pixels).pooled
    np.testing.assert_allclose(plain, jax.jit(small(name).apply)({"params": params}, pixels).pooled, rtol=1e-6)

    def train(seed):
        apply = jax.jit(functools.partial(encoder.apply, train=True))
        return np.asarray(apply({"params": params}, pixels, rngs={"drop_path": jax.random.key(seed)}).pooled)

    np.testing.assert_array_equal(train(0), train(0))
    assert (train(0) != train(1)).any()
    ways = {tuple(row.round(3)) for row in train(0)}
    assert 2**3 < len(ways) <= 2**6, "equal images differ by which of two branches in three blocks were dropped"


def test_drop_path_keeps_the_expectation():
    """An image keeps its branch, divided by the probability to keep it, or loses all of it."""
    x = jnp.ones((4000, 2, 3))
    y = np.asarray(layers.DropPath(0.2).apply({}, x, rngs={"drop_path": jax.random.key(0)}))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.8)}
    assert (y == y[:, :1, :1]).all()
    assert 0.95 < y.mean() < 1.05
    assert layers.drop_path_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(("preset", "operator"), [("paper", "conv"), ("light", "transformer")])
@pytest.mark.parametrize("name", SMALL)
def test_encoder_and_decoder_lower_for_every_vendor(name, preset, operator):
    """jax.export for cpu, cuda and tpu from here, in bfloat16, for any batch: nothing is tied to one of them."""
    encoder = small(name, dtype="bfloat16")
    rebuild = decoder.build(encoder, preset=preset, operator=operator)
    pixels = jnp.zeros((2, 16, 16, 3))
    params = init(encoder, pixels.shape)
    pyramid = jax.eval_shape(encoder.apply, {"params": params}, pixels).pyramid
    decoder_params = jax.jit(rebuild.init)(jax.random.key(0), jax.tree.map(lambda x: jnp.zeros(x.shape), pyramid))

    def reconstruct(params, decoder_params, pixels):
        return rebuild.apply(decoder_params, encoder.apply({"params": params}, pixels).pyramid)

    batch = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 16, 16, 3"), jnp.float32)
    exported = jax.export.export(jax.jit(reconstruct), platforms=("cpu", "cuda", "tpu"))(params, decoder_params, batch)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported.out_avals[0].shape == batch.shape
