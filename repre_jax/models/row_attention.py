"""Attention for short rows as one Pallas kernel a layer: from qkv to the output without an array [T, T] in memory.

The T of a ViT-S at 224 pixels is 197 and of Swin's windows 49, so that all keys of an image, or of a window, lie on the
chip at once: what FlashAttention (Dao et al. 2022) does block by block needs no blocks here. XLA writes logits and
weights out, copies q, k and v to heads-first and, on a TPU, pads each head to 128 lanes; JAX's own kernels want T in
multiples of 128. Written for TPUs, and compiled for them without one; never run on a chip. `interpret` runs it
anywhere, slowly. What NVIDIA's GPUs need stands in models/row_attention_gpu.py.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from repre_jax.core import sharding
from repre_jax.core.errors import UserError
from repre_jax.models import row_attention_gpu

LONGEST = 512  # tokens of a row; beyond, its weights do not fit on a chip
BLOCK_BYTES = 2**20  # of qkv that are on the chip at once, unless one image has more; results and the next block beside
Kept = tuple[jax.Array, jax.Array | None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def attend(
    qkv: jax.Array, bias: jax.Array | None, heads: int, interpret: bool = False, device: str = "tpu"
) -> jax.Array:
    """What self_attention.attend gives: [N, W, T, 3 D] -> [N, W, T, D]; softmax in float32.

    qkv: of N images with W windows each, 1 where there are none; the last axis holds q, k, v, each of them by heads.
    bias: float32 [W, heads, T, T] or, for all windows, [1, heads, T, T]; added to the logits.
    device: whose kernel, 'tpu' or 'gpu' (models/row_attention_gpu.py).
    Of the forward pass qkv alone is kept: its gradient computes the weights again. Raises UserError for a longer row.
    """
    longest = row_attention_gpu.LONGEST_BIASED if device == "gpu" and bias is not None else LONGEST
    if qkv.shape[2] > longest:
        raise UserError(
            f"encoder.attention pallas: {qkv.shape[2]:,} tokens{' with a bias' * (bias is not None)}.\n"
            f"  expected: at most {longest}, since its kernel holds all of a row\n"
            "  change:   --config.encoder.attention=xla"
        )
    return _forward(qkv, bias, heads, interpret, device)[0]


def _forward(
    qkv: jax.Array, bias: jax.Array | None, heads: int, interpret: bool, device: str
) -> tuple[jax.Array, Kept]:
    tables = [] if bias is None else [bias]
    if device == "gpu":
        kernel = functools.partial(row_attention_gpu.forward, heads=heads, interpret=interpret)
        output, _ = sharding.by_rows(kernel, [qkv], tables)
        return output, (qkv, bias)
    result = jax.ShapeDtypeStruct((*qkv.shape[:3], qkv.shape[3] // 3), qkv.dtype)
    output, _ = _call(functools.partial(_forward_block, heads), [qkv], tables, result, None, heads, interpret)
    return output, (qkv, bias)


def _backward(
    heads: int, interpret: bool, device: str, kept: Kept, gradient: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    qkv, bias = kept
    rows, tables = [qkv, gradient.astype(qkv.dtype)], [] if bias is None else [bias]
    if device == "gpu":
        kernel = functools.partial(row_attention_gpu.backward, heads=heads, interpret=interpret)
        return sharding.by_rows(kernel, rows, tables)
    result = jax.ShapeDtypeStruct(qkv.shape, qkv.dtype)
    summed = None if bias is None else jax.ShapeDtypeStruct((qkv.shape[1], *bias.shape[1:]), jnp.float32)
    return _call(functools.partial(_backward_block, heads), rows, tables, result, summed, heads, interpret)


attend.defvjp(_forward, _backward)


def _call(
    kernel: Callable[..., None],
    rows: list[jax.Array],
    tables: list[jax.Array],
    result: jax.ShapeDtypeStruct,
    summed: jax.ShapeDtypeStruct | None,
    heads: int,
    interpret: bool,
) -> tuple[jax.Array, jax.Array | None]:
    """The kernel on a block of images of one window after another: what is summed over images stays on the chip.

    rows: [N, W, T, ...], as the result is. tables: the bias [W or 1, heads, T, T], if there is one. summed: [W, heads,
    T, T]; where the bias is the same for all windows, it is summed over them, too. Several devices have their images
    each.
    """

    def on_one_device(rows: list[jax.Array], tables: list[jax.Array]) -> tuple[jax.Array, jax.Array | None]:
        images, windows = rows[0].shape[:2]
        block = _largest_divisor(images, BLOCK_BYTES // (rows[0][0, 0].size * rows[0].dtype.itemsize))
        results = [jax.ShapeDtypeStruct((images, *result.shape[1:]), result.dtype)]
        results += [] if summed is None else [summed]

        def some_rows(array: Any) -> pl.BlockSpec:
            return pl.BlockSpec((block, None, *array.shape[2:]), lambda window, number: (number, window, 0, 0))

        def a_table(array: Any) -> pl.BlockSpec:
            own = array.shape[0] > 1
            return pl.BlockSpec((None, *array.shape[1:]), lambda window, _: (window if own else 0, 0, 0, 0))

        outputs = pl.pallas_call(
            kernel,
            grid=(windows, images // block),
            in_specs=[*map(some_rows, rows), *map(a_table, tables)],
            out_specs=[some_rows(results[0]), *map(a_table, results[1:])],
            out_shape=results,
            interpret=interpret,
            cost_estimate=_cost(heads, [*rows, *tables], results),
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("parallel", "parallel" if summed is None else "arbitrary")
            ),
        )(*rows, *tables)
        if summed is None:
            return outputs[0], None
        return outputs[0], outputs[1] if len(tables[0]) > 1 else outputs[1].sum(axis=0, keepdims=True)

    return sharding.by_rows(on_one_device, rows, tables)


def _cost(heads: int, operands: Sequence[Any], results: Sequence[Any]) -> pl.CostEstimate:
    """For XLA, which cannot look into a kernel: two products forward, five for the gradient, and the softmax."""
    images, windows, tokens, width = results[0].shape
    backward = width == operands[0].shape[3]  # of qkv itself
    products, width = (5, width // 3) if backward else (2, width)
    pairs = images * windows * tokens**2
    moved = sum(array.size * array.dtype.itemsize for array in [*operands, *results])
    return pl.CostEstimate(flops=2 * products * pairs * width, transcendentals=pairs * heads, bytes_accessed=moved)


def _largest_divisor(of: int, at_most: int) -> int:
    return max(each for each in range(1, of + 1) if of % each == 0 and each <= max(1, at_most))


def _forward_block(heads: int, qkv_ref: Any, *refs: Any) -> None:
    """qkv_ref: [images, T, 3 D]; refs: the bias [heads, T, T], if there is one, and the output [images, T, D]."""
    *bias_ref, out_ref = refs
    head = out_ref.shape[-1] // heads

    def of_image(image: jax.Array, _: None) -> None:
        for number in range(heads):
            q, k, v = (qkv_ref[image, :, place] for place in _places(number, heads, head))
            weights = _weights(q, k, bias_ref[0][number] if bias_ref else None)
            output = jnp.dot(weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
            out_ref[image, :, number * head : (number + 1) * head] = output.astype(out_ref.dtype)

    jax.lax.fori_loop(0, len(qkv_ref), of_image, None)


def _backward_block(heads: int, qkv_ref: Any, gradient_ref: Any, *refs: Any) -> None:
    """gradient_ref: [images, T, D]; refs: the bias, if there is one, the gradient of qkv and, if so, of the bias."""
    bias_ref, of_qkv_ref, of_bias_ref = refs if len(refs) == 3 else (None, refs[0], None)
    head = gradient_ref.shape[-1] // heads
    if of_bias_ref is not None:

        @pl.when(pl.program_id(1) == 0)
        def _() -> None:
            of_bias_ref[...] = jnp.zeros_like(of_bias_ref)

    def of_image(image: jax.Array, _: None) -> None:
        for number in range(heads):
            places = _places(number, heads, head)
            q, k, v = (qkv_ref[image, :, place] for place in places)
            gradient = gradient_ref[image, :, number * head : (number + 1) * head]
            weights = _weights(q, k, None if bias_ref is None else bias_ref[number])
            of_weights = _product(gradient, v, (1, 1))
            of_logits = weights * (of_weights - jnp.sum(weights * of_weights, axis=-1, keepdims=True))
            if of_bias_ref is not None:
                of_bias_ref[number] += of_logits
            scaled = (of_logits * head**-0.5).astype(q.dtype)
            weights = weights.astype(v.dtype)
            found = _product(scaled, k, (1, 0)), _product(scaled, q, (0, 0)), _product(weights, gradient, (0, 0))
            for place, each in zip(places, found, strict=True):
                of_qkv_ref[image, :, place] = each.astype(of_qkv_ref.dtype)

    jax.lax.fori_loop(0, len(qkv_ref), of_image, None)


def _places(number: int, heads: int, head: int) -> list[slice]:
    """Of a head's q, k and v in the last axis of qkv."""
    return [slice(start, start + head) for start in ((part * heads + number) * head for part in range(3))]


def _weights(q: jax.Array, k: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Of one head: float32 [T, T]."""
    logits = _product(q, k, (1, 1)) * q.shape[-1] ** -0.5
    logits = logits if bias is None else logits + bias
    raised = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _product(one: jax.Array, other: jax.Array, over: tuple[int, int]) -> jax.Array:
    """Of matrices, summed over an axis of each, in float32."""
    axes = ((over[:1], over[1:]), ((), ()))
    return jax.lax.dot_general(one, other, axes, preferred_element_type=jnp.float32)
