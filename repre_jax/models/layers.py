"""Blocks of a pre-norm transformer and their initialisers."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype, Initializer

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


class Mlp(nn.Module):
    """[M, D] -> [M, D] through a hidden layer of 4 D with the exact (erf) GELU."""

    kernel_init: Initializer
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        x = nn.Dense(4 * width, dtype=self.dtype, kernel_init=self.kernel_init, name="fc1")(x)
        return nn.Dense(width, dtype=self.dtype, kernel_init=self.kernel_init, name="fc2")(gelu(x))


class Attention(nn.Module):
    """Multi-head self-attention over `tokens` rows each; softmax in float32.

    [N * T, D] -> [N * T, D] and, if asked for, the attention weights float32 [N, heads, T, T], else None.
    cudnn: by cuDNN's fused kernel instead of `attend`; on NVIDIA GPUs, bfloat16 or float16.
    """

    heads: int
    tokens: int
    kernel_init: Initializer
    qkv_init: Initializer
    dtype: Dtype = jnp.float32
    cudnn: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, return_weights: bool = False) -> tuple[jax.Array, jax.Array | None]:
        width = x.shape[-1]
        qkv = nn.Dense(3 * width, dtype=self.dtype, kernel_init=self.qkv_init, name="qkv")(x)
        qkv = qkv.reshape(-1, self.tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        weights = attention_weights(q, k) if return_weights else None
        if self.cudnn:
            x = fused_attend(*jnp.moveaxis(qkv, 2, 0)).reshape(-1, width)
        else:
            x = attend(q, k, v).swapaxes(-2, -3).reshape(-1, width)
        return nn.Dense(width, dtype=self.dtype, kernel_init=self.kernel_init, name="proj")(x), weights


def fused_attend(
    q: jax.Array, k: jax.Array, v: jax.Array, implementation: Literal["cudnn", "xla"] = "cudnn"
) -> jax.Array:
    """jax.nn.dot_product_attention of q, k, v [N, T, heads, d] by cuDNN, which keeps no weights for the gradient.

    Where T is odd a token that nobody attends to is added before, and taken off after: JAX refuses cuDNN's gradient
    of an odd T (0.10.2 jax/_src/cudnn/fused_attention_stablehlo.py:390), and a class token makes every T odd.
    implementation: 'xla', which any device has, is for tests.
    """
    attention = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
    images, tokens = q.shape[:2]
    if tokens % 2 == 0:
        return attention(q, k, v)
    q, k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (q, k, v))
    lengths = jnp.full(images, tokens, jnp.int32)
    return attention(q, k, v, query_seq_lengths=lengths, key_value_seq_lengths=lengths)[:, :tokens]


def attention_weights(q: jax.Array, k: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """softmax(q k / sqrt(d) + bias), float32 [..., heads, T, T], of q and k [..., heads, T, d]; bias broadcasts."""
    logits = jnp.einsum("...qd,...kd->...qk", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    return jax.nn.softmax(logits if bias is None else logits + bias)


@jax.custom_vjp
def attend(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """attention_weights(q, k, bias) v: [..., heads, T, d] of q, k, v of this shape; softmax in float32.

    bias: float32, broadcasts against [..., heads, T, T] from the right.

    Its gradient, of which there is no forward mode, is the textbook's but for one sum: what softmax subtracts is taken
    over d, as FlashAttention does (Dao et al. 2022, appendix B.2), not over T. With heads before tokens this takes less
    time than jax.nn.dot_product_attention on CPU (benchmarks/log.md).
    """
    return _attend(q, k, v, bias)[0]


def _attend(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None) -> tuple[jax.Array, tuple]:
    weights = attention_weights(q, k, bias).astype(v.dtype)
    output = jnp.einsum("...qk,...kd->...qd", weights, v)
    return output, (q, k, v, weights, output, None if bias is None else bias.shape)


def _attend_backward(kept: tuple, gradient: jax.Array) -> tuple[jax.Array | None, ...]:
    q, k, v, weights, output, bias_shape = kept
    of_v = jnp.einsum("...qk,...qd->...kd", weights, gradient)
    of_weights = jnp.einsum("...qd,...kd->...qk", gradient, v, preferred_element_type=jnp.float32)
    subtracted = jnp.sum(gradient.astype(jnp.float32) * output, axis=-1, keepdims=True)
    of_logits = weights * (of_weights - subtracted)
    of_bias = None if bias_shape is None else _summed_to(bias_shape, of_logits)
    scaled = (of_logits * q.shape[-1] ** -0.5).astype(q.dtype)
    of_q, of_k = jnp.einsum("...qk,...kd->...qd", scaled, k), jnp.einsum("...qk,...qd->...kd", scaled, q)
    return of_q, of_k, of_v, of_bias


def _summed_to(shape: tuple[int, ...], x: jax.Array) -> jax.Array:
    """The gradient of what was broadcast from `shape` to that of x."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(axis for axis, side in enumerate(shape) if side == 1), keepdims=True)


attend.defvjp(_attend, _attend_backward)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); the sum and the norms stay in float32.

    [N, T, D] -> [N, T, D] and, if asked for, the attention weights [N, heads, T, T]. Inside, N and T are one axis: on
    CPU the gradient of a Dense over two leading axes takes three times as long. drop_path: probability, 0 off.
    """

    heads: int
    epsilon: float
    kernel_init: Initializer = normal_02
    qkv_init: Initializer = normal_02
    drop_path: float = 0.0
    return_weights: bool = False
    dtype: Dtype = jnp.float32
    cudnn: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        shape = x.shape
        flat = (-1, shape[-1])
        y = nn.LayerNorm(epsilon=self.epsilon, name="norm1")(x.reshape(flat))
        attention = Attention(
            self.heads, shape[1], self.kernel_init, self.qkv_init, self.dtype, self.cudnn, name="attn"
        )
        y, weights = attention(y, return_weights=self.return_weights)
        x = x + DropPath(self.drop_path)(y.reshape(shape))
        y = nn.LayerNorm(epsilon=self.epsilon, name="norm2")(x.reshape(flat))
        y = Mlp(self.kernel_init, self.dtype, name="mlp")(y)
        return x + DropPath(self.drop_path)(y.reshape(shape)), weights
