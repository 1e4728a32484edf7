"""Which attention is fastest on this device: forward and backward, for the encoders' shapes, taken in turns.

  python -m benchmarks.attention [--images 64] [--dtype bfloat16] [--turns 5] [--json]

  attend      repre_jax/models/self_attention.py
  jax.nn      jax.nn.dot_product_attention, by XLA
  cudnn       the same by cuDNN's fused kernel, where it takes the shape: NVIDIA GPUs, not float32
  pallas      repre_jax/models/row_attention.py, on GPUs and TPUs

All from qkv [N, T, 3, heads, d], as an encoder's product leaves them. Difference is the largest of their gradient's
(and of Swin's bias's) to that of `attend` in float32, relative to its largest value. A ViT's choice is
encoder.attention; for Swin's windows of 49 tokens with a learned bias this JAX refuses cuDNN's. On an accelerator what
a start of some configs chooses among them (`encoder.attention=auto`) stands below the table.
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from benchmarks import steps
from repre_jax.builders import attention as choice
from repre_jax.models import platform, row_attention, self_attention
from repre_jax.report import console
from repre_jax.system import command_line, huge_pages

SHAPES = {  # (windows an image, tokens, heads, width of a head, bias)
    "ViT-S, MoCo v3's heads": (1, 197, 12, 32, False),
    "ViT-S": (1, 197, 6, 64, False),
    "ViT-B": (1, 197, 12, 64, False),
    "Swin-T, stage 1": (64, 49, 3, 32, True),
    "Swin-T, stage 3": (4, 49, 12, 32, True),
}
CONFIGS = ("configs/moco_vit_s.py", "configs/moco_vit_b.py", "configs/dino_vit_s.py", "configs/moby_swin_t.py")
Arrays = tuple[jax.Array, ...]


def ours(qkv: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """qkv [N, T, 3, heads, d], as an encoder's product leaves them, and a bias [heads, T, T] -> [N, T, heads, d]."""
    return self_attention.attend(*qkv.transpose(2, 0, 3, 1, 4), bias).swapaxes(1, 2)


def by_jax(qkv: jax.Array, bias: jax.Array | None = None, *, kind: Literal["xla", "cudnn"]) -> jax.Array:
    """Likewise."""
    bias = None if bias is None else bias[None].astype(qkv.dtype)
    query, key, value = jnp.moveaxis(qkv, 2, 0)
    return jax.nn.dot_product_attention(query, key, value, bias, implementation=kind)


def in_rows(qkv: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """Likewise."""
    rows = qkv.reshape(len(qkv), 1, qkv.shape[1], -1)
    bias = None if bias is None else bias[None]
    output = row_attention.attend(rows, bias, qkv.shape[3], device=platform.compiled_for())
    return output.reshape(*qkv.shape[:2], *qkv.shape[3:])


KINDS: dict[str, Callable[..., jax.Array]] = {
    "attend": ours,
    "jax.nn": functools.partial(by_jax, kind="xla"),
    "cudnn": functools.partial(by_jax, kind="cudnn"),
    "pallas": in_rows,
}


def gradients_of(attention: Callable[..., jax.Array]) -> Callable[[jax.Array, Arrays], Arrays]:
    """(cotangent, arguments) -> the gradient of each argument."""
    return jax.jit(lambda cotangent, given: jax.vjp(attention, *given)[1](cotangent))


def measure(shape: tuple[int, int, int, int, bool], images: int, dtype: str, turns: int) -> dict[str, dict]:
    """{kind: {'ms', 'difference'} or {'refused'}}."""
    windows, tokens, heads, width, biased = shape
    keys = jax.random.split(jax.random.key(0), 3)
    rows = images * windows
    qkv = jax.random.normal(keys[0], (rows, tokens, 3, heads, width)).astype(dtype)
    cotangent = jax.random.normal(keys[1], (rows, tokens, heads, width)).astype(dtype)
    given = (qkv, *((jax.random.normal(keys[2], (heads, tokens, tokens)),) if biased else ()))
    with jax.default_matmul_precision("highest"):
        exact = gradients_of(ours)(*jax.tree.map(lambda x: x.astype(jnp.float32), (cotangent, given)))
    found: dict[str, dict[str, Any]] = {}
    takers = {}
    for name, kind in KINDS.items():
        gradients = gradients_of(kind)
        try:
            theirs = gradients(cotangent, given)
        except Exception as error:  # JAX has an exception of another kind for each thing that cuDNN does not take
            found[name] = {"refused": str(error).strip().splitlines()[0][:100]}
            continue
        found[name] = {"difference": max(_relative(a, b) for a, b in zip(theirs, exact, strict=True))}
        takers[name] = steps.taker(gradients, cotangent, given)
    for name, seconds in steps.in_turns(takers, turns=turns).items():
        found[name]["ms"] = steps.spread(seconds)["median_ms"]
    return found


def _relative(found: jax.Array, exact: jax.Array) -> float:
    return float(jnp.abs(found.astype(jnp.float32) - exact).max() / jnp.abs(exact).max())


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--dtype", default="float32" if jax.default_backend() == "cpu" else "bfloat16")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {name: measure(shape, arguments.images, arguments.dtype, arguments.turns) for name, shape in SHAPES.items()}
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{arguments.images} images, {arguments.dtype}, {console.devices()}, jax {jax.__version__}: ms, difference\n")
    print(f"| shape | {' | '.join(KINDS)} |")
    print("|---" * (1 + len(KINDS)) + "|")
    for name, kinds in found.items():
        cells = (f"{x['ms']:.2f}, {x['difference']:.0e}" if "ms" in x else "refused" for x in kinds.values())
        print(f"| {name} | {' | '.join(cells)} |")
    for path in CONFIGS if platform.compiled_for() in choice.KINDS else ():
        config = steps.parse(path, [f"--config.dtype={arguments.dtype}"])
        print(f"\n{path}: {choice.describe(*steps.chosen(config))}")


if __name__ == "__main__":
    huge_pages.restart()  # as main.py
    sys.exit(command_line.exit_status(run, "Interrupted."))
