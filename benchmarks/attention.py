"""Which attention is fastest on this device: forward and backward, for the encoders' shapes, taken in turns.

  python -m benchmarks.attention [--images 64] [--dtype bfloat16] [--steps 20] [--json]

  attend      repre_jax/models/layers.py
  jax.nn      jax.nn.dot_product_attention, by XLA
  cudnn       the same by cuDNN's fused kernel, where it takes the shape: NVIDIA GPUs, not float32

Difference is the largest of the gradients of q, k, v (and of Swin's bias) to those in float32, relative to their
largest value. A ViT's choice is encoder.attention; of a Swin's windows cuDNN's bias gradient has to be looked at first.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks import steps
from repre_jax.core import command_line
from repre_jax.models import layers
from repre_jax.report import console

SHAPES = {  # (images a window count, tokens, heads, width of a head, bias)
    "ViT-S, MoCo v3's heads": (1, 197, 12, 32, False),
    "ViT-S": (1, 197, 6, 64, False),
    "ViT-B": (1, 197, 12, 64, False),
    "Swin-T, stage 1": (64, 49, 3, 32, True),
    "Swin-T, stage 3": (4, 49, 12, 32, True),
}
Arrays = tuple[jax.Array, ...]


def by_jax(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None = None, *, kind: str) -> jax.Array:
    """As layers.attend, which has heads before tokens."""
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    bias = None if bias is None else bias[None].astype(q.dtype)
    return jax.nn.dot_product_attention(q, k, v, bias, implementation=kind).swapaxes(1, 2)


KINDS: dict[str, Callable[..., jax.Array]] = {
    "attend": layers.attend,
    "jax.nn": functools.partial(by_jax, kind="xla"),
    "cudnn": functools.partial(by_jax, kind="cudnn"),
}


def gradients_of(attention: Callable[..., jax.Array]) -> Callable[[jax.Array, Arrays], Arrays]:
    """(cotangent, arguments) -> the gradient of each argument."""
    return jax.jit(lambda cotangent, given: jax.vjp(attention, *given)[1](cotangent))


def measure(shape: tuple[int, int, int, int, bool], images: int, dtype: str, count: int) -> dict[str, dict]:
    """{kind: {'ms', 'difference'} or {'refused'}}."""
    windows, tokens, heads, width, biased = shape
    keys = jax.random.split(jax.random.key(0), 5)
    size = (images * windows, heads, tokens, width)
    *given, cotangent = (jax.random.normal(key, size).astype(dtype) for key in keys[:4])
    given += [jax.random.normal(keys[4], (heads, tokens, tokens))] if biased else []
    wide = tuple(x.astype(jnp.float32) for x in given)
    exact = gradients_of(layers.attend)(cotangent.astype(jnp.float32), wide)
    found, takers = {}, {}
    for name, kind in KINDS.items():
        gradients = gradients_of(kind)
        try:
            ours = gradients(cotangent, tuple(given))
        except Exception as error:  # JAX has an exception of another kind for each thing that cuDNN does not take
            found[name] = {"refused": str(error).strip().splitlines()[0][:100]}
            continue
        found[name] = {"difference": max(_relative(a, b) for a, b in zip(ours, exact, strict=True))}
        takers[name] = functools.partial(_timed, gradients, cotangent, tuple(given))
    for name, seconds in steps.in_turns(takers, steps=count).items():
        found[name]["ms"] = steps.spread(seconds)["median_ms"]
    return found


def _relative(ours: jax.Array, exact: jax.Array) -> float:
    return float(jnp.abs(ours.astype(jnp.float32) - exact).max() / jnp.abs(exact).max())


def _timed(function: Callable, *given: object) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(function(*given))
    return time.perf_counter() - begun


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--dtype", default="float32" if jax.default_backend() == "cpu" else "bfloat16")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {name: measure(shape, arguments.images, arguments.dtype, arguments.steps) for name, shape in SHAPES.items()}
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{arguments.images} images, {arguments.dtype}, {console.devices()}, jax {jax.__version__}: ms, difference\n")
    print(f"| shape | {' | '.join(KINDS)} |")
    print("|---" * (1 + len(KINDS)) + "|")
    for name, kinds in found.items():
        cells = (f"{x['ms']:.2f}, {x['difference']:.0e}" if "ms" in x else "refused" for x in kinds.values())
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted."))
