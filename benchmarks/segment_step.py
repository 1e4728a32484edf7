"""How fast a whole step of segmentation is on this machine: augmentation, encoder, heads, loss, SGD.

  python -m benchmarks.segment_step [--heads naive,pup,mla] [--turns 7] [--json] [--config.KEY=VALUE ...]

ViT-S (`fpn`: Swin-T), crops of 768, batch 8, in bfloat16 on accelerators and float32 on CPUs, unless told otherwise;
synthetic crops and label maps. A row for each head: the median of several turns of two seconds or more, after warm-up;
images/s; MFU, which is the products' FLOPs over what the device could do in that time by its data sheet, and by a
matrix product measured here; memory by XLA's plan, and the most that was held so far where the device tells; the
attention, which on an accelerator is what a start of a run would choose there.
"""

import argparse
import json
import sys
import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import hardware, segment_program, steps
from repre_jax.core import sharding
from repre_jax.core.types import LabelMaps
from repre_jax.report import console
from repre_jax.running import memory
from repre_jax.system import command_line, environment, huge_pages

TITLES = (
    "head",
    "ms",
    "p10 to p90",
    "images/s",
    "GFLOP",
    "MFU, product",
    "MFU, data sheet",
    "memory",
    "held",
    "attention",
)


def measure(config: ConfigDict, turns: int) -> dict[str, Any]:
    """What --json prints of a head."""
    program = segment_program.build(config)
    compiled = program.compile()
    layout = jax.tree.map(lambda x: x.sharding, (program.state, program.frozen))
    state, frozen = jax.jit(program.init, out_shardings=layout)()
    batch = sharding.shard_batch(synthetic(program), program.mesh)

    def take(count: int) -> float:
        nonlocal state
        begun = time.perf_counter()
        for _ in range(count):
            state, metrics = compiled(state, batch, *frozen)
        jax.block_until_ready((state, metrics))
        return (time.perf_counter() - begun) / count

    times = steps.spread(steps.in_turns({"step": take}, turns=turns)["step"])
    seconds = times["median_ms"] / 1e3
    rate = program.gflop() / 1e3 / seconds / program.mesh.size
    ceiling, sheet = hardware.measured_tflops(config.dtype), hardware.data_sheet_tflops(config.dtype)
    return times | {
        "head": config.segment.head,
        "encoder": config.encoder.name,
        "attention": program.method.encoder.attention,
        "images_per_second": config.batch_size / seconds,
        "gflop": program.gflop(),
        "mfu_of_matrix_product": rate / ceiling,
        "mfu_of_data_sheet": rate / sheet if sheet else None,
        "program_memory_bytes": memory.of_program(compiled),
        "peak_memory_bytes": hardware.peak_memory(),
    }


def synthetic(program: segment_program.Program) -> LabelMaps:
    """A batch of random crops without padding."""
    rng, shapes = np.random.default_rng(0), program.batch
    arrays: list[Any] = [
        rng.integers(0, 256, shapes.images.shape, np.uint8),
        rng.integers(0, segment_program.CLASSES, shapes.label_maps.shape, np.uint8),
        np.full(shapes.extents.shape, shapes.label_maps.shape[1:], np.int32),
    ]
    return LabelMaps(*arrays)


def cells(found: dict[str, Any]) -> tuple[str, ...]:
    def share(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.1%}"

    def size(count: int | None) -> str:
        return "not told" if count is None else f"{count / 2**30:.2f} GiB"

    return (
        f"{found['head']}, {found['encoder']}",
        f"{found['median_ms']:,.1f}",
        f"{found['p10_ms']:,.1f} to {found['p90_ms']:,.1f}",
        f"{found['images_per_second']:{',.1f' if found['images_per_second'] >= 10 else '.2g'}}",
        f"{found['gflop']:,.0f}",
        share(found["mfu_of_matrix_product"]),
        share(found["mfu_of_data_sheet"]),
        size(found["program_memory_bytes"]),
        size(found["peak_memory_bytes"]),
        found["attention"],
    )


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", default="naive,pup,mla")
    parser.add_argument("--turns", type=int, default=7, help="each of two seconds and three steps, or more")
    parser.add_argument("--json", action="store_true")
    arguments, overrides = parser.parse_known_args()
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    overrides = [f"--config.dtype={dtype}", *overrides]
    configs = [segment_program.parse(head, overrides) for head in arguments.heads.split(",")]
    first = configs[0]
    about = {
        "command": environment.command(),
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{console.devices()} ({console.machine()})",
        "versions": environment.record(first.seed)["versions"],
        "batch": first.batch_size,
        "image_size": list(first.data.image_size),
        "dtype": first.dtype,
    }
    if arguments.json:
        print(json.dumps(about | {"rows": [measure(config, arguments.turns) for config in configs]}, indent=1))
        return
    size = " x ".join(map(str, first.data.image_size))
    print(f"{about['command']}\n\n{about['date']}, {about['device']}, jax {about['versions']['jax']}; ", end="")
    print(f"batch {first.batch_size}, crops of {size}, {first.dtype}\n")
    for row in (TITLES, ("---",) * len(TITLES)):
        print(line(row))
    for config in configs:
        print(line(cells(measure(config, arguments.turns))), flush=True)


def line(row: tuple[str, ...]) -> str:
    return f"| {' | '.join(row)} |"


if __name__ == "__main__":
    huge_pages.restart()  # as main.py
    sys.exit(command_line.exit_status(run, "Interrupted."))
