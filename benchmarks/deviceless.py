"""What XLA makes of a training step for a GPU that is not there: memory, kernels, bytes, FLOPs, a bound of its time.

  python -m benchmarks.deviceless [--chip h200|h100] [--config configs/moco_vit_s.py] [--batch 256] [--top 12] [--json]
                                  [--config.KEY=VALUE ...]

bfloat16 unless told otherwise. benchmarks/absent_gpu.py says what it takes, benchmarks/kernels.py how bytes and FLOPs
are counted. The bound is the sum over kernels of what each takes at least, by the chip's data sheet: the bytes that it
moves or the products that it computes, whichever is slower. MFU is FLOPs by formula (benchmarks/flops.py) over what the
chip could do in that time; it would be reached if each kernel ran at its bound and started at once. What cannot be
known without the chip: time, which kernels autotuning would choose, what its caches hold.
"""

import argparse
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from benchmarks import absent_gpu, flops, kernels, steps
from benchmarks.absent_gpu import CHIPS, Chip
from benchmarks.kernels import Kernel
from repre_jax.report import console
from repre_jax.running import memory
from repre_jax.system import command_line, environment

BATCH = 256
# By what stands in the name of a kernel's operation, the first that does; a gradient has the scope 'transpose'.
PARTS = {"augmentation": "augmentation", "target": "target", "update": "update", "Decoder": "decoder"}
TITLES = ("part", "kernels", "GB", "TFLOP", "bound, ms", "share")


def measure(arguments: argparse.Namespace, overrides: list[str]) -> dict[str, Any]:
    """What --json prints. Bytes, FLOPs and counts are those of a step."""
    chip = CHIPS[arguments.chip]
    given = [f"--config.batch_size={arguments.batch}", "--config.dtype=bfloat16", *overrides]
    devices = absent_gpu.devices(chip)  # before the config, whose attention may be such a chip's
    config = steps.parse(arguments.config, given)
    program, seconds = steps.compile_step(config, devices)
    found = kernels.Program(program.compiled.as_text() or "").kernels()
    count, moved, products = kernels.totals(found)
    bound = sum(least(chip, each) for each in found)
    by_formula = flops.of_step(program.method, config)
    return {
        "command": environment.command(),
        "chip": chip.name,
        "config": f"{config.framework.name}, {config.encoder.name}, {config.dtype}",
        "attention": config.encoder.attention,
        "batch": config.batch_size,
        "date": time.strftime("%Y-%m-%d"),
        "versions": environment.record(config.seed)["versions"],
        "compile_seconds": seconds,
        "planned_memory_bytes": memory.of_program(program.compiled),
        "kernels": count,
        "bytes_moved": moved,
        "flops_of_products": products,
        "flops_by_formula": by_formula,
        "bytes_seconds": moved / chip.bandwidth,
        "products_seconds": sum(chip.seconds(0, each.flops, each.float32_flops) * each.times for each in found),
        "bound_seconds": bound,
        "bound_mfu": by_formula / chip.flops / bound,
        "parts": parts(chip, found),
        "largest": largest(chip, found, arguments.top),
    }


def least(chip: Chip, each: Kernel) -> float:
    """Seconds a step."""
    return chip.seconds(each.read + each.written, each.flops, each.float32_flops) * each.times


def parts(chip: Chip, found: Sequence[Kernel]) -> list[dict[str, Any]]:
    """Of the step, those with the largest bound first."""
    by_part = defaultdict(list)
    for each in found:
        by_part[part_of(each.made_by)].append(each)
    listed = [_summed(name, chip, some) for name, some in by_part.items()]
    return sorted(listed, key=lambda row: -row["bound_seconds"])


def part_of(made_by: str) -> str:
    """Of the operation's name, as JAX calls it."""
    gradient = " gradient" if "transpose(" in made_by else ""
    for scope, name in PARTS.items():
        if scope in made_by:
            return name + gradient
    return f"online{gradient}" if "online" in made_by else "unnamed"


def largest(chip: Chip, found: Sequence[Kernel], count: int) -> list[dict[str, Any]]:
    """Kernels of one operation, all blocks together, that move most bytes."""
    groups = defaultdict(list)
    for each in found:
        groups[re.sub(r"\d+", "N", each.made_by) or each.kind].append(each)
    listed = [_summed(name, chip, some) for name, some in groups.items()]
    return sorted(listed, key=lambda row: -row["bytes_moved"])[:count]


def _summed(name: str, chip: Chip, some: Sequence[Kernel]) -> dict[str, Any]:
    count, moved, products = kernels.totals(some)
    bound = sum(least(chip, each) for each in some)
    return {"name": name, "kernels": count, "bytes_moved": moved, "flops": products, "bound_seconds": bound}


def lines(found: dict[str, Any]) -> list[str]:
    """For people."""
    side = "bytes" if found["bytes_seconds"] > found["products_seconds"] else "products"
    shown = console.table(
        [
            ("step", f"{found['config']}, attention {found['attention']}, batch {found['batch']}"),
            ("chip", f"{found['chip']}, which is not there; {found['date']}, jax {found['versions']['jax']}"),
            ("memory", f"{found['planned_memory_bytes'] / 2**30:.1f} GiB planned"),
            ("kernels", f"{found['kernels']:,}"),
            ("moved", f"{found['bytes_moved'] / 1e9:.1f} GB, {1e3 * found['bytes_seconds']:.1f} ms at memory's rate"),
            ("products", f"{found['flops_of_products'] / 1e12:.2f} TFLOP, {1e3 * found['products_seconds']:.1f} ms; "
                         f"{found['flops_by_formula'] / 1e12:.2f} TFLOP by formula"),
            ("bound", f"{1e3 * found['bound_seconds']:.1f} ms, mostly of {side}; MFU {found['bound_mfu']:.1%} at most"),
            ("not known", "time, autotuning's choices, what caches hold"),
        ]
    ).splitlines()  # fmt: skip
    for title, rows in (("part", found["parts"]), ("largest", found["largest"])):
        shown += ["", _line((title, *TITLES[1:])), _line(("---",) * len(TITLES))]
        shown += [_line(_cells(row, found["bound_seconds"])) for row in rows]
    return shown


def _cells(row: dict[str, Any], whole: float) -> tuple[str, ...]:
    numbers = f"{row['bytes_moved'] / 1e9:.2f}", f"{row['flops'] / 1e12:.3f}", f"{1e3 * row['bound_seconds']:.2f}"
    return row["name"], f"{row['kernels']:,}", *numbers, f"{row['bound_seconds'] / whole:.1%}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chip", choices=CHIPS, default="h200")
    parser.add_argument("--config", default="configs/moco_vit_s.py")
    parser.add_argument("--batch", type=int, default=BATCH, help="records a step")
    parser.add_argument("--top", type=int, default=12, help="how many of the largest operations are listed")
    parser.add_argument("--json", action="store_true")
    arguments, overrides = parser.parse_known_args()
    found = measure(arguments, overrides)
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(lines(found)))


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted."))
