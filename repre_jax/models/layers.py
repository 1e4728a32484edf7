"""Blocks of a pre-norm transformer and their initialisers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype, Initializer

from repre_jax.models import layer_norm, platform, self_attention

# Truncated at -2 and 2 in the sources, a hundred standard deviations away (dino utils.py:548).
normal_02 = nn.initializers.normal(0.02)
# torch.nn.Linear's and Conv2d's default: U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)).
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias(fan_in: int) -> Initializer:
    """PyTorch's default for biases: U(-1 / sqrt(fan_in), 1 / sqrt(fan_in))."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def patch_uniform(fan_out: int) -> Initializer:
    """U(-v, v), v = sqrt(6 / (fan_in + fan_out)), fan_in = patch * patch * channels (moco-v3 vits.py:43-47)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
        bound = np.sqrt(6 / (np.prod(shape[:-1]) + fan_out))
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def qkv_uniform(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
    """Xavier for q, k and v as three D x D matrices, though they are stored as one D x 3D (moco-v3 vits.py:34-37)."""
    bound = np.sqrt(6 / (shape[0] + shape[1] // 3))
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def patch_embedding(width: int, patch: int, dtype: Dtype, kernel_init: Initializer, bias_init: Initializer) -> nn.Conv:
    """Images [N, H, W, C] -> patches [N, H/patch, W/patch, width]; a submodule named 'patch_embed' of its caller."""
    return nn.Conv(
        width,
        (patch, patch),
        strides=patch,
        padding="VALID",
        dtype=dtype,
        kernel_init=kernel_init,
        bias_init=bias_init,
        name="patch_embed",
    )


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """One rate a block, rising in a straight line from 0 to `rate` (dino vision_transformer.py:150)."""
    return np.linspace(0, rate, depth).tolist()


class DropPath(nn.Module):
    """Stochastic depth: leaves out a whole image's branch with probability `rate`, and scales the others up.

    [N, ...] -> [N, ...]; draws from the rng 'drop_path', of which a rate of 0 needs none.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dropout = nn.Dropout(self.rate, broadcast_dims=range(1, x.ndim), rng_collection="drop_path")
        return dropout(x, deterministic=False)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, x times the normal distribution's cumulative function; float32 inside, returned as x's dtype.

    jax.nn.gelu has it by erfc, which on CPU takes three times as long forward, and half as long again backward.
    """
    wide = x.astype(jnp.float32)
    return (wide * _cumulative(wide)).astype(x.dtype)


def _cumulative(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + jax.lax.erf(x * np.float32(0.5**0.5)))


def _gelu_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    wide = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * wide * wide) * np.float32((2 * np.pi) ** -0.5)
    return ((gradient * (_cumulative(wide) + wide * density)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


def as_rows(x: jax.Array) -> jax.Array:
    """[..., D] -> [M, D], what Dense and LayerNorm work on; on a TPU x as it is.

    On a CPU the gradient of a Dense over two leading axes takes three times as long as over one. A TPU keeps arrays in
    tiles, into which 197 tokens do not fit: each change between [N, T, D] and [N * T, D] writes the array anew.
    """
    return x if platform.compiled_for() == "tpu" else x.reshape(-1, x.shape[-1])


class Mlp(nn.Module):
    """[..., D] -> [..., D] through a hidden layer of 4 D with the exact (erf) GELU.

    remat: of the hidden layer keep what GELU is given, not what it gives, which the gradient computes again.
    """

    kernel_init: Initializer
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        x = nn.Dense(4 * width, dtype=self.dtype, kernel_init=self.kernel_init, name="fc1")(x)

        def rest(self: Mlp, x: jax.Array) -> jax.Array:
            return nn.Dense(width, dtype=self.dtype, kernel_init=self.kernel_init, name="fc2")(gelu(x))

        return nn.remat(rest)(self, x) if self.remat else rest(self, x)


class Attention(nn.Module):
    """Multi-head self-attention over `tokens` rows each; softmax in float32.

    [N * T, D] or [N, T, D] -> the same and, if asked for, the attention weights float32 [N, heads, T, T], else None.
    kind: one of self_attention.KINDS. spare: how many of the last tokens nobody attends to, see self_attention.spare.
    """

    heads: int
    tokens: int
    kernel_init: Initializer
    qkv_init: Initializer
    dtype: Dtype = jnp.float32
    kind: str = "xla"
    spare: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, return_weights: bool = False) -> tuple[jax.Array, jax.Array | None]:
        shape, width = x.shape, x.shape[-1]
        weights = None
        if self.kind == "cudnn":
            parts = SplitDense(3, self.dtype, self.qkv_init, name="qkv")(x)
            q, k, v = (part.reshape(-1, self.tokens, self.heads, width // self.heads) for part in parts)
            if return_weights:
                own = self.tokens - self.spare
                weights = self_attention.attention_weights(*(part[:, :own].swapaxes(1, 2) for part in (q, k)))
            x = self_attention.fused_attend(q, k, v, self.spare).reshape(shape)
        else:
            qkv = nn.Dense(3 * width, dtype=self.dtype, kernel_init=self.qkv_init, name="qkv")(x)
            qkv = qkv.reshape(-1, self.tokens, 3 * width)
            if return_weights:
                weights = self_attention.weights_of(qkv, self.heads)
            x = self_attention.attend_qkv(self.kind, qkv, self.heads).reshape(shape)
        return nn.Dense(width, dtype=self.dtype, kernel_init=self.kernel_init, name="proj")(x), weights


class SplitDense(nn.Module):
    """nn.Dense of `parts` times as many features, with its parameters, as products of their own: [..., D] each.

    A kernel that is not XLA's reads its operands from arrays of their own: of one product's result they are copies.
    """

    parts: int
    dtype: Dtype
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        width = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (width, self.parts * width), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.parts * width,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        pairs = zip(jnp.split(kernel, self.parts, axis=1), jnp.split(bias, self.parts), strict=True)
        return [x @ one + other for one, other in pairs]


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); the sum and the norms stay in float32.

    [N, T, D] -> [N, T, D] and, if asked for, the attention weights [N, heads, T, T]. drop_path: probability, 0 off.
    attention: one of self_attention.KINDS. spare: see self_attention.spare. remat_mlp: see Mlp.
    """

    heads: int
    epsilon: float
    kernel_init: Initializer = normal_02
    qkv_init: Initializer = normal_02
    drop_path: float = 0.0
    return_weights: bool = False
    dtype: Dtype = jnp.float32
    attention: str = "xla"
    spare: int = 0
    remat_mlp: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        shape = x.shape
        y = layer_norm.build(self.epsilon, "norm1")(as_rows(x))
        attend = Attention(
            self.heads, shape[1], self.kernel_init, self.qkv_init, self.dtype, self.attention, self.spare, name="attn"
        )
        y, weights = attend(y, return_weights=self.return_weights)
        x = x + DropPath(self.drop_path)(y.reshape(shape))
        y = layer_norm.build(self.epsilon, "norm2")(as_rows(x))
        y = Mlp(self.kernel_init, self.dtype, self.remat_mlp, name="mlp")(y)
        return x + DropPath(self.drop_path)(y.reshape(shape)), weights
