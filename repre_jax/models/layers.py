"""Blocks of a pre-norm transformer, and the initialisers and position table of MoCo v3's ViT."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype, Initializer

LAYER_NORM_EPSILON = 1e-6  # in every ViT that the paper uses (moco-v3 vits.py:115-127, dino vision_transformer.py:236)


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


def sincos_positions(rows: int, columns: int, width: int) -> np.ndarray:
    """MoCo v3's fixed table (vits.py:53-64): [rows * columns, width] float32, row by row.

    Frequencies f_k = 10000^(-k / (width / 4)); the token in row i and column j gets
    [sin(i f), cos(i f), sin(j f), cos(j f)]. MAE's table puts the column first.
    """
    frequencies = 10000.0 ** -(np.arange(width // 4) / (width / 4))
    row = np.repeat(np.arange(rows), columns)[:, None] * frequencies
    column = np.tile(np.arange(columns), rows)[:, None] * frequencies
    return np.concatenate([np.sin(row), np.cos(row), np.sin(column), np.cos(column)], axis=1).astype(np.float32)


class Mlp(nn.Module):
    """[M, D] -> [M, D] through a hidden layer of 4 D with the exact (erf) GELU."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        x = nn.Dense(4 * width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="fc1")(x)
        x = nn.gelu(x, approximate=False)
        return nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="fc2")(x)


class Attention(nn.Module):
    """Multi-head self-attention over `tokens` rows each, [N * T, D] -> [N * T, D]; softmax in float32."""

    heads: int
    tokens: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        qkv = nn.Dense(3 * width, dtype=self.dtype, kernel_init=qkv_uniform, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(-1, self.tokens, 3, self.heads, width // self.heads), 2, 0)
        x = jax.nn.dot_product_attention(q, k, v).reshape(-1, width)
        return nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="proj")(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); the sum and the norms stay in float32.

    [N, T, D] -> [N, T, D]. Inside, N and T are one axis: on CPU the gradient of a Dense over two leading axes takes
    three times as long.
    """

    heads: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        y = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="norm1")(x)
        x = x + Attention(self.heads, shape[1], self.dtype, name="attn")(y)
        y = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="norm2")(x)
        return (x + Mlp(self.dtype, name="mlp")(y)).reshape(shape)
