"""What a step of segmentation holds in memory and computes, for each head, by XLA's plan: nothing is run.

  python -m benchmarks.segment_memory [--heads naive,pup,...] [--no-at-once] [--absent-h200] [--config.KEY=VALUE ...]

ViT-S (`fpn`: Swin-T), crops of 768, batch 8, float32, unless told otherwise. 'at once' is the same step with the logits
of the whole batch at full size, as a loss is usually written; ours resizes bands of rows. Arguments are the
state and the batch, results the state, which is written over the old one; both are left out of 'temporary'. GFLOP are
counted by the products of encoder and head (benchmarks/products.py), not by XLA, which counts a loop's body once.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks import absent_gpu, segment_program
from repre_jax.report import console
from repre_jax.running import memory
from repre_jax.system import command_line, environment

HEADS = ("naive", "pup", "mla", "linear", "linear_pyramid", "fpn")
GIB = 2**30
TITLES = ("head", "GFLOP", "arguments", "results", "temporary", "all", "at once", "logits at full size", "compiled in")


def row(config: ConfigDict, *, at_once: bool, devices: Sequence[jax.Device] = ()) -> tuple[str, ...]:
    program = segment_program.build(config, devices=devices)
    begun = time.perf_counter()
    compiled = program.compile()
    seconds = time.perf_counter() - begun
    plan: Any = compiled.memory_analysis()
    other = "-"
    if at_once:
        other = gib(memory.of_program(segment_program.build(config, at_once=True, devices=devices).compile()))
    return (
        f"{config.segment.head}, {config.encoder.name}",
        f"{program.gflop():,.0f}",
        gib(plan.argument_size_in_bytes),
        gib(plan.output_size_in_bytes),
        gib(plan.temp_size_in_bytes),
        gib(memory.of_program(compiled)),
        other,
        gib(program.full_size_bytes()),
        f"{seconds:.0f} s",
    )


def gib(count: int) -> str:
    return f"{count / GIB:.2f} GiB"


def line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", default=",".join(HEADS))
    parser.add_argument("--at-once", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--absent-h200", action="store_true", help=f"planned for an {absent_gpu.H200.name} in place of these devices"
    )
    arguments, overrides = parser.parse_known_args()
    configs = [segment_program.parse(head, overrides) for head in arguments.heads.split(",")]
    first, record = configs[0], environment.record(0)
    devices = absent_gpu.devices() if arguments.absent_h200 else []
    where = f"for an {absent_gpu.H200.name}, which is not there" if devices else console.devices()
    print(environment.command())
    print()
    print(
        f"{time.strftime('%Y-%m-%d')}, {where} ({console.machine()}), jax {record['versions']['jax']}; "
        f"batch {first.batch_size}, crops of {' x '.join(map(str, first.data.image_size))}, {first.dtype}"
    )
    print()
    print(line(TITLES))
    print(line(("---",) * len(TITLES)))
    for config in configs:
        print(line(row(config, at_once=arguments.at_once, devices=devices)), flush=True)


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted."))
