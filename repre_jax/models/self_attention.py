"""Attention of every token to every other of its image, or of its window, in three kinds.

xla      attend: products and softmax by XLA, with a gradient of its own; any device
cudnn    fused_attend: cuDNN's kernel, on NVIDIA GPUs, in bfloat16 or float16, without a bias
pallas   row_attention.attend: one kernel of this project, on TPUs and NVIDIA GPUs, each of its own images
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax.typing import Dtype

from repre_jax.core.errors import UserError
from repre_jax.models import platform, row_attention

KINDS = ("xla", "cudnn", "pallas")
AUTO = "auto"  # one of them, which a run chooses when it starts (builders/attention.py); else 'xla'
LARGE = 2**28  # bytes of an image's weights in float32: from more on heads attend one after another


def check(kind: str, dtype: Dtype, head: int, *, biased: bool = False) -> None:
    """Raises UserError for an unknown kind, or one that cannot be had. head: its width. biased: in Swin's windows."""
    if kind not in (*KINDS, AUTO):
        raise UserError(f"Unknown encoder.attention {kind!r}.\n  expected: {', '.join(KINDS)} or {AUTO}")
    if settled(kind) == "xla":  # which asks no device, so that a module can be built before there is one
        return
    device, change = platform.compiled_for(), "  change:   --config.encoder.attention=xla"
    if kind == "pallas" and device not in ("tpu", "gpu"):
        raise UserError(f"encoder.attention pallas: on {device}.\n  expected: a TPU or an NVIDIA GPU\n{change}")
    if kind == "cudnn" and biased:
        raise UserError(
            f"encoder.attention cudnn: its kernel takes no windows with a learned bias, which Swin has.\n{change}"
        )
    narrow = jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
    if kind == "cudnn" and not (device == "gpu" and narrow and head % 8 == 0 and head <= 128):
        raise UserError(
            f"encoder.attention cudnn: {jnp.dtype(dtype)}, heads {head} wide, on {device}.\n"
            f"  expected: bfloat16, heads of a multiple of 8 up to 128, on an NVIDIA GPU\n{change}"
        )


def settled(kind: str) -> str:
    """`kind` itself; for 'auto', which nothing has chosen for, the one that any device has."""
    return "xla" if kind == AUTO else kind


def attend_qkv(kind: str, qkv: jax.Array, heads: int, bias: jax.Array | None = None) -> jax.Array:
    """By 'xla' or 'pallas': [N, T, 3 D] -> [N, T, D], or [N, windows, T, 3 D] -> [N, windows, T, D].

    qkv: the last axis holds q, k, v, each of them by heads. bias: float32 [heads, T, T] or [windows, heads, T, T].
    """
    if kind == "pallas":
        shape = (*qkv.shape[:-1], qkv.shape[-1] // 3)
        windows = qkv.reshape(len(qkv), -1, *qkv.shape[-2:])
        bias = bias[None] if bias is not None and bias.ndim == 3 else bias
        return row_attention.attend(windows, bias, heads, device=platform.compiled_for()).reshape(shape)
    if kind != "xla":
        raise ValueError(f"attend_qkv has no kind {kind!r}.")
    q, k, v = split(qkv, heads)
    large = bias is None and 4 * heads * q.shape[-2] ** 2 > LARGE
    output = (attend_head_by_head(q, k, v) if large else attend(q, k, v, bias)).swapaxes(-2, -3)
    return output.reshape(*output.shape[:-2], -1)


def weights_of(qkv: jax.Array, heads: int, bias: jax.Array | None = None) -> jax.Array:
    """The weights of attend_qkv: float32 [N, heads, T, T] or [N, windows, heads, T, T]."""
    q, k, _ = split(qkv, heads)
    return attention_weights(q, k, bias)


def split(qkv: jax.Array, heads: int) -> Any:
    """[..., T, 3 D] -> q, k, v, one after another: [3, ..., heads, T, D / heads]."""
    parts = qkv.reshape(*qkv.shape[:-1], 3, heads, -1)
    leading = range(parts.ndim - 4)
    tokens, part, head, width = range(parts.ndim - 4, parts.ndim)
    return parts.transpose(part, *leading, head, tokens, width)


def spare(kind: str, tokens: int) -> int:
    """How many tokens an encoder adds behind its own, that nobody attends to: one for cuDNN where `tokens` is odd.

    JAX refuses cuDNN's gradient of an odd number (0.10.2 jax/_src/cudnn/fused_attention_stablehlo.py:390), and a class
    token makes every number odd. Added to q, k and v in each block it would cost a copy of them.
    """
    return tokens % 2 if kind == "cudnn" else 0


def fused_attend(
    q: jax.Array, k: jax.Array, v: jax.Array, spare: int = 0, implementation: Literal["cudnn", "xla"] = "cudnn"
) -> jax.Array:
    """jax.nn.dot_product_attention of q, k, v [N, T, heads, d] by cuDNN, which keeps no weights for the gradient.

    spare: how many of the last tokens nobody attends to; what comes out for them is finite, and their gradients are 0.
    implementation: 'xla', which any device has, is for tests.
    """
    attention = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
    if not spare:
        return attention(q, k, v)
    images, tokens = q.shape[:2]
    k, v = _without_gradient_of_last(k, spare), _without_gradient_of_last(v, spare)
    queries, keys = (jnp.full(images, count, jnp.int32) for count in (tokens, tokens - spare))
    return attention(q, k, v, query_seq_lengths=queries, key_value_seq_lengths=keys)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _without_gradient_of_last(x: jax.Array, count: int) -> jax.Array:
    """x [N, T, ...] itself; cuDNN need not write the gradients of keys and values that nobody attends to."""
    return x


_without_gradient_of_last.defvjp(
    lambda x, count: (x, None), lambda count, _, gradient: (gradient.at[:, -count:].set(0),)
)


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


def attend_head_by_head(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """attend without a bias, with the weights of one head at a time, [..., T, T]; computed again for the gradient.

    For the thousands of tokens of a whole photograph, of which a detector's ViT would keep gigabytes of weights.
    """
    of_head = jax.checkpoint(lambda parts: attend(*parts))
    parts = tuple(jnp.moveaxis(part, -3, 0) for part in (q, k, v))
    return jnp.moveaxis(jax.lax.map(of_head, parts), 0, -3)


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
