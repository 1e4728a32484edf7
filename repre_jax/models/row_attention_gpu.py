"""The same kernel for NVIDIA's GPUs, by Pallas' Triton: one program for each head of an image, or of a window.

A program holds the keys and values of a row and goes over its queries in blocks: what is read is read once. Sides that
are no powers of two, which Triton wants, are padded on the chip and masked. Compiled for an H200 that was not there;
never run on a chip.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

LONGEST_BIASED = 64  # tokens of a row with a bias, whose gradient a program sums over its images on the chip
QUERIES = 32  # in a block; with a bias all of the row
MANY = 256 * 64  # numbers in the keys of a row, from which on a program takes 8 warps instead of 4
SMALLEST = 16  # side of a product
PARTS = 8  # the images of a window are split over so many programs where a bias's gradient is summed over them


def forward(rows: list[jax.Array], tables: list[jax.Array], heads: int, interpret: bool) -> tuple[jax.Array, None]:
    """row_attention.attend's output. rows: qkv. tables: the bias, if there is one."""
    images, windows, tokens, width = rows[0].shape
    result = jax.ShapeDtypeStruct((images, windows, tokens, width // 3), rows[0].dtype)
    kernel = functools.partial(_forward, heads)
    return _call(kernel, (images, windows, heads), rows + tables, [result], interpret)[0], None


def backward(
    rows: list[jax.Array], tables: list[jax.Array], heads: int, interpret: bool
) -> tuple[jax.Array, jax.Array | None]:
    """Gradients of qkv and of the bias. rows: qkv and the gradient of the output."""
    images, windows, tokens, _ = rows[0].shape
    of_qkv = jax.ShapeDtypeStruct(rows[0].shape, rows[0].dtype)
    if not tables:
        kernel = functools.partial(_backward, heads, 1)
        return _call(kernel, (images, windows, heads), rows, [of_qkv], interpret)[0], None
    parts = math.gcd(images, PARTS)
    of_bias = jax.ShapeDtypeStruct((parts, windows, heads, tokens, tokens), jnp.float32)
    kernel = functools.partial(_backward, heads, images // parts)
    found, summed = _call(kernel, (parts, windows, heads), rows + tables, [of_qkv, of_bias], interpret)
    summed = summed.sum(axis=0)
    return found, summed if len(tables[0]) > 1 else summed.sum(axis=0, keepdims=True)


def _call(
    kernel: Callable[..., None], grid: tuple[int, ...], given: list[jax.Array], results: list[Any], interpret: bool
) -> list[jax.Array]:
    tokens, width = given[0].shape[2:]
    keys = _power_of_two(tokens) * _power_of_two(width // 3 // grid[2])
    parameters = triton.CompilerParams(num_warps=8 if keys >= MANY else 4, num_stages=1)
    call = pl.pallas_call(kernel, grid=grid, out_shape=results, interpret=interpret, compiler_params=parameters)
    return call(*given)


class _Row:
    """What a program knows of its row: how to read and write parts of it."""

    def __init__(self, heads: int, qkv_ref: Any, bias_ref: Any):
        tokens, width = qkv_ref.shape[2], qkv_ref.shape[3] // 3
        self.window, self.head, self.heads = pl.program_id(1), pl.program_id(2), heads
        self.tokens, self.width = tokens, width // heads
        self.keys = jnp.arange(_power_of_two(tokens))
        self.lanes = jnp.arange(_power_of_two(self.width))
        self.bias_ref = bias_ref
        self.block = len(self.keys) if bias_ref is not None else min(QUERIES, len(self.keys))
        self.blocks = pl.cdiv(tokens, self.block)

    def read(self, ref: Any, image: Any, rows: jax.Array, part: int = 0) -> jax.Array:
        """[rows, lanes] of the head; part: 0 to 2 of q, k and v. Zeros beyond the row."""
        return triton.load(self._place(ref, image, rows, part), mask=self._inside(rows), other=0.0)

    def write(self, ref: Any, image: Any, rows: jax.Array, array: jax.Array, part: int = 0) -> None:
        triton.store(self._place(ref, image, rows, part), array.astype(ref.dtype), mask=self._inside(rows))

    def queries(self, number: Any) -> jax.Array:
        """Where those of a block stand."""
        return number * self.block + jnp.arange(self.block)

    def weights(self, q: jax.Array, k: jax.Array, rows: jax.Array) -> jax.Array:
        """float32 [queries, keys], 0 beyond the row."""
        logits = _product(q, k.T) * self.width**-0.5
        if self.bias_ref is not None:
            window = self.window if self.bias_ref.shape[0] > 1 else 0
            place = self.bias_ref.at[window, self.head, rows[:, None], self.keys[None, :]]
            logits += triton.load(place, mask=self.pairs(rows), other=0.0)
        logits = jnp.where(self.keys[None, :] < self.tokens, logits, -jnp.inf)
        raised = jnp.exp(logits - logits.max(axis=1)[:, None])
        return raised / raised.sum(axis=1)[:, None]

    def pairs(self, rows: jax.Array) -> jax.Array:
        """Which of [queries, keys] are of the row."""
        return (rows[:, None] < self.tokens) & (self.keys[None, :] < self.tokens)

    def _place(self, ref: Any, image: Any, rows: jax.Array, part: int) -> Any:
        lanes = (part * self.heads + self.head) * self.width + self.lanes
        return ref.at[image, self.window, rows[:, None], lanes[None, :]]

    def _inside(self, rows: jax.Array) -> jax.Array:
        return (rows[:, None] < self.tokens) & (self.lanes[None, :] < self.width)


def _forward(heads: int, qkv_ref: Any, *refs: Any) -> None:
    """refs: the bias, if there is one, and the output."""
    bias_ref, out_ref = refs if len(refs) == 2 else (None, refs[0])
    image, row = pl.program_id(0), _Row(heads, qkv_ref, bias_ref)
    k, v = (row.read(qkv_ref, image, row.keys, part) for part in (1, 2))

    def of_block(number: jax.Array, _: None) -> None:
        rows = row.queries(number)
        weights = row.weights(row.read(qkv_ref, image, rows), k, rows)
        row.write(out_ref, image, rows, _product(weights.astype(v.dtype), v))

    jax.lax.fori_loop(0, row.blocks, of_block, None)


def _backward(heads: int, images: int, qkv_ref: Any, gradient_ref: Any, *refs: Any) -> None:
    """images: of a program. refs: the bias, if there is one, the gradient of qkv and, if so, of the bias."""
    bias_ref, of_qkv_ref, of_bias_ref = refs if len(refs) == 3 else (None, refs[0], None)
    part, row = pl.program_id(0), _Row(heads, qkv_ref, bias_ref)

    def of_block(image: Any, k: jax.Array, v: jax.Array, number: Any, sums: Any) -> Any:
        of_k, of_v, of_bias = sums
        rows = row.queries(number)
        q, gradient = row.read(qkv_ref, image, rows), row.read(gradient_ref, image, rows)
        weights = row.weights(q, k, rows)
        of_weights = _product(gradient, v.T)
        of_logits = weights * (of_weights - jnp.sum(weights * of_weights, axis=1)[:, None])
        scaled = (of_logits * row.width**-0.5).astype(q.dtype)
        row.write(of_qkv_ref, image, rows, _product(scaled, k))
        of_k, of_v = of_k + _product(scaled.T, q), of_v + _product(weights.astype(v.dtype).T, gradient)
        return of_k, of_v, None if of_bias is None else of_bias + of_logits

    def of_image(image: jax.Array, of_bias: jax.Array | None) -> jax.Array | None:
        k, v = (row.read(qkv_ref, image, row.keys, part) for part in (1, 2))
        zeros = jnp.zeros((len(row.keys), len(row.lanes)), jnp.float32)
        step = functools.partial(of_block, image, k, v)
        of_k, of_v, of_bias = jax.lax.fori_loop(0, row.blocks, step, (zeros, zeros, of_bias))
        for place, summed in ((1, of_k), (2, of_v)):
            row.write(of_qkv_ref, image, row.keys, summed, place)
        return of_bias

    before = None if of_bias_ref is None else jnp.zeros((row.block, len(row.keys)), jnp.float32)
    of_bias = jax.lax.fori_loop(part * images, (part + 1) * images, of_image, before)
    if of_bias_ref is not None:
        place = of_bias_ref.at[part, row.window, row.head, row.keys[:, None], row.keys[None, :]]
        triton.store(place, of_bias, mask=row.pairs(row.keys))


def _power_of_two(side: int) -> int:
    return max(SMALLEST, 1 << (side - 1).bit_length())


def _product(one: jax.Array, other: jax.Array) -> jax.Array:
    """In float32, of float32 without TF32."""
    precision = jax.lax.Precision.HIGHEST if one.dtype == jnp.float32 else None
    return jnp.dot(one, other, precision=precision, preferred_element_type=jnp.float32)
