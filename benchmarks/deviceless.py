"""What XLA makes of a training step for GPUs or TPUs that are not there: memory, kernels, bytes, FLOPs, what the chips
send each other, a bound of its time.

  python -m benchmarks.deviceless [--chip h200|h100|v5e:2x4|v5p:2x2x1|v6e:2x4|...] [--config configs/moco_vit_s.py]
                                  [--batch 256] [--top 12] [--whole] [--json] [--config.KEY=VALUE ...]

bfloat16 unless told otherwise. All figures are those of one chip: h200:8 has eight, v6e:2x4, too, over which the step
is sharded as in a run. benchmarks/absent_gpu.py and absent_tpu.py say what it takes, benchmarks/kernels.py how bytes,
relayouts and FLOPs are counted, benchmarks/collectives.py how what is sent is. The bound is the sum over kernels of
what each takes at least, by the chip's data sheet: the bytes that it moves or the products that it computes,
whichever is slower; what is sent costs it nothing. MFU is FLOPs by formula (benchmarks/flops.py) over what the chip
could do in that time; it would be reached if each kernel ran at its bound and started at once. What cannot be known
without the chip: time, which kernels autotuning would choose, what its caches hold; of a TPU also whether its code,
of which nothing is written here but for small steps, is what the plan wants.
"""

import argparse
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import absent_gpu, absent_tpu, collectives, flops, kernels, steps
from benchmarks.kernels import Kernel
from repre_jax.builders import methods
from repre_jax.builders.compiled_step import STEPS
from repre_jax.models import self_attention
from repre_jax.report import console
from repre_jax.running import memory
from repre_jax.system import command_line, environment

BATCH = {"gpu": 256, "tpu": 512}  # records a step, of each chip
Chip = absent_gpu.Chip | absent_tpu.Chip
# By what stands in the name of a kernel's operation, the first that does; a gradient has the scope 'transpose'.
PARTS = {"augmentation": "augmentation", "target": "target", "update": "update", "Decoder": "decoder"}
SENT = ("sent", "dtype", "arrays", "MiB", "largest", "of")
TITLES = ("part", "kernels", "GB", "TFLOP", "bound, ms", "share")


@dataclass(frozen=True)
class Planned:
    """text: of the compiled program. memory: bytes a chip. seconds: of compiling. versions: beside a run's."""

    text: str
    memory: int
    seconds: float
    versions: dict[str, str]


def measure(arguments: argparse.Namespace, overrides: list[str]) -> dict[str, Any]:
    """What --json prints. Bytes, FLOPs and counts are those of a step, on one of the chips."""
    kind = arguments.chip.partition(":")[0]
    on_tpu = kind in absent_tpu.CHIPS
    count = absent_tpu.count(arguments.chip) if on_tpu else absent_gpu.count(arguments.chip)
    batch = count * (arguments.batch or BATCH["tpu" if on_tpu else "gpu"])
    given = [f"--config.batch_size={batch}", "--config.dtype=bfloat16", *overrides]
    chip: Chip = absent_tpu.CHIPS[kind] if on_tpu else absent_gpu.CHIPS[kind]
    plan = (_on_tpus if on_tpu else _on_gpus)(arguments, given)
    config = steps.parse(arguments.config, given)
    method = methods.build_method(config, methods.build_plan(config, records=STEPS * config.batch_size))
    by_formula = flops.of_step(method, config) / count
    program = kernels.Program(plan.text)
    found = program.kernels()
    kernel_count, moved, products = kernels.totals(found)
    relayouts = [each for each in found if each.relayout]
    bound = sum(least(chip, each) for each in found)
    return {
        "command": environment.command(),
        "chip": chip.name,
        "chips": count,
        "config": f"{config.framework.name}, {config.encoder.name}, {config.dtype}",
        "attention": self_attention.settled(config.encoder.attention),
        "batch": config.batch_size,
        "date": time.strftime("%Y-%m-%d"),
        "versions": environment.record(config.seed)["versions"] | plan.versions,
        "compile_seconds": plan.seconds,
        "planned_memory_bytes": plan.memory,
        "fits": plan.memory <= (chip.usable or chip.memory),
        "kernels": kernel_count,
        "bytes_moved": moved,
        "relayouts": kernels.totals(relayouts)[0],
        "relayout_bytes": kernels.totals(relayouts)[1],
        "flops_of_products": products,
        "flops_of_float32": sum(each.float32_flops * each.times for each in found),
        "flops_by_formula": by_formula,
        "bytes_seconds": moved / chip.bandwidth,
        "products_seconds": sum(chip.seconds(0, each.flops, each.float32_flops) * each.times for each in found),
        "bound_seconds": bound,
        "bound_mfu": by_formula / chip.flops / bound,
        "parts": parts(chip, found),
        "largest": largest(chip, found, arguments.top),
        "largest_relayouts": largest(chip, relayouts, arguments.top),
        "libraries": libraries(found),
        "collectives": collectives.listed(program),
    }


def _on_gpus(arguments: argparse.Namespace, given: list[str]) -> Planned:
    devices = absent_gpu.devices(arguments.chip)  # before the config, whose attention may be such a chip's
    program, seconds = steps.compile_step(steps.parse(arguments.config, given), devices)
    return Planned(program.compiled.as_text() or "", memory.of_program(program.compiled), seconds, {})


def _on_tpus(arguments: argparse.Namespace, given: list[str]) -> Planned:
    version = absent_tpu.prepare()
    absent_tpu.devices(arguments.chip)  # what is wrong with it, or with the config, is said here
    steps.parse(arguments.config, given)
    plan = absent_tpu.plan(arguments.chip, arguments.config, given, whole=arguments.whole)
    return Planned(plan.text, plan.memory, plan.seconds, {"libtpu": version})


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


def libraries(found: Sequence[Kernel]) -> dict[str, int]:
    """How often a step runs kernels that XLA has not written: cuBLAS, cuDNN, Pallas ('tpu_custom_call')."""
    counted: Counter[str] = Counter()
    for each in found:
        if each.library:
            counted[each.kind] += each.times
    return dict(counted)


def _summed(name: str, chip: Chip, some: Sequence[Kernel]) -> dict[str, Any]:
    count, moved, products = kernels.totals(some)
    bound = sum(least(chip, each) for each in some)
    return {"name": name, "kernels": count, "bytes_moved": moved, "flops": products, "bound_seconds": bound}


def lines(found: dict[str, Any]) -> list[str]:
    """For people."""
    side = "bytes" if found["bytes_seconds"] > found["products_seconds"] else "products"
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in ("jax", "libtpu") if name in found["versions"])
    room = "" if found["fits"] else ", which the chip does not have"
    several = f"{found['chips']} x " if found["chips"] > 1 else ""
    shown = console.table(
        [
            ("step", f"{found['config']}, attention {found['attention']}, batch {found['batch']}"),
            ("chip", f"{several}{found['chip']}, not there; {found['date']}, {versions}"),
            ("memory", f"{found['planned_memory_bytes'] / 2**30:.1f} GiB planned{room}"),
            ("kernels", f"{found['kernels']:,}"),
            ("moved", f"{found['bytes_moved'] / 1e9:.1f} GB, {1e3 * found['bytes_seconds']:.1f} ms at memory's rate"),
            ("relayouts", f"{found['relayout_bytes'] / 1e9:.1f} GB of it, in {found['relayouts']:,} kernels"),
            ("products", f"{found['flops_of_products'] / 1e12:.2f} TFLOP, {1e3 * found['products_seconds']:.1f} ms; "
                         f"{found['flops_by_formula'] / 1e12:.2f} TFLOP by formula"),
            ("libraries", ", ".join(f"{name} {count}" for name, count in found["libraries"].items()) or "none"),
            ("bound", f"{1e3 * found['bound_seconds']:.1f} ms, mostly of {side}; MFU {found['bound_mfu']:.1%} at most"),
            ("not known", "time, autotuning's choices, what caches hold"),
        ]
    ).splitlines()  # fmt: skip
    for title, rows in (
        ("part", found["parts"]),
        ("largest", found["largest"]),
        ("relayout", found["largest_relayouts"]),
    ):
        shown += _table((title, *TITLES[1:]), [_cells(row, found["bound_seconds"]) for row in rows])
    sent = [
        (row["kind"], row["dtype"], f"{row['arrays']:,}", f"{row['bytes'] / 2**20:.2f}", row["largest"], row["made_by"])
        for row in found["collectives"]
    ]
    return shown + (_table(SENT, sent) if sent else [])


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["", _line(titles), _line(("---",) * len(titles)), *map(_line, rows)]


def _cells(row: dict[str, Any], whole: float) -> tuple[str, ...]:
    numbers = f"{row['bytes_moved'] / 1e9:.2f}", f"{row['flops'] / 1e12:.3f}", f"{1e3 * row['bound_seconds']:.2f}"
    return row["name"], f"{row['kernels']:,}", *numbers, f"{row['bound_seconds'] / whole:.1%}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chip", default="h200", help="h200, h100, either with :COUNT, or a slice of v5e, v5p or v6e")
    parser.add_argument("--config", default="configs/moco_vit_s.py")
    parser.add_argument("--batch", type=int, help="records a step of each chip; else 256 on a GPU, 512 on a TPU")
    parser.add_argument("--top", type=int, default=12, help="how many of the largest operations are listed")
    parser.add_argument("--whole", action="store_true", help="of a TPU: wait for its code, which a small step has soon")
    parser.add_argument("--json", action="store_true")
    arguments, overrides = parser.parse_known_args()
    found = measure(arguments, overrides)
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(lines(found)))


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted."))
