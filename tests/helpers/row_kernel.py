"""Compiles the row kernel of attention for an H200 that is not there, forward and backward: prints for each shape of
qkv, and its heads, how many kernels of Triton's there are."""

import json

import jax
from jax.sharding import SingleDeviceSharding

from benchmarks import absent_gpu
from repre_jax.models import row_attention

SHAPES = (  # of qkv, heads, with a bias
    ((2, 1, 197, 3 * 384), 12, False),
    ((2, 1, 197, 3 * 768), 12, False),
    ((2, 1, 37, 3 * 384), 6, False),
    ((2, 4, 49, 3 * 96), 3, True),
)


def kernels(shape: tuple[int, ...], heads: int, biased: bool, where: SingleDeviceSharding) -> int:
    def placed(shape: tuple[int, ...], dtype: str) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

    tokens = shape[2]
    qkv, bias = placed(shape, "bfloat16"), placed((1, heads, tokens, tokens), "float32") if biased else None
    output = placed((*shape[:3], shape[3] // 3), "bfloat16")

    def both(qkv: jax.Array, bias: jax.Array | None, gradient: jax.Array) -> tuple[jax.Array, ...]:
        result, back = jax.vjp(lambda *given: row_attention.attend(*given, heads, device="gpu"), qkv, bias)
        return result, *back(gradient)

    compiled = jax.jit(both).lower(qkv, bias, output).compile()
    return (compiled.as_text() or "").count("__gpu$xla.gpu.triton")


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    where = SingleDeviceSharding(absent_gpu.devices()[0])
    found = {f"{s} {heads}{' biased' * biased}": kernels(s, heads, biased, where) for s, heads, biased in SHAPES}
    print(json.dumps(found))
