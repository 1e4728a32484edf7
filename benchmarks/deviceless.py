"""What XLA makes of a training step for GPUs or TPUs that are not there: memory, kernels, bytes, FLOPs, what the chips
send each other, a bound of its time.

  python -m benchmarks.deviceless [--chip h200|h100|v5e:2x4|v5p:2x2x1|v6e:2x4|...] [--config configs/moco_vit_s.py]
                                  [--batch 256] [--attention pallas|xla|cudnn] [--top 12] [--whole] [--json]
                                  [--config.KEY=VALUE ...]

Of a pre-training, or of configs/linear.py, finetune.py, segment.py or detect.py, then without weights: what they would
train is described by `encoder.name` (benchmarks/task_steps.py). bfloat16 unless told otherwise. Nothing can be timed:
attention is the first of pallas, xla and cudnn that takes the step's shapes, unless --attention names another.

All figures are those of one chip: h200:8 has eight, v6e:2x4, too, over which the step is sharded as in a run.
benchmarks/absent_gpu.py and absent_tpu.py say what it takes, benchmarks/kernels.py how bytes, relayouts and FLOPs are
counted, benchmarks/collectives.py how what is sent is. A loop whose end depends on values, as in a detector's NMS,
counts once. The bound is the sum over kernels of what each takes at least, by the chip's data sheet: the bytes that it
moves or the products that it computes, whichever is slower; what is sent costs it nothing. MFU is FLOPs by formula
(benchmarks/flops.py) over what the chip could do in that time; it would be reached if each kernel ran at its bound and
started at once. What cannot be known without the chip: time, which kernels autotuning would choose, what its caches
hold; of a TPU also whether its code, of which nothing is written here but for small steps, is what the plan wants.
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

from ml_collections import ConfigDict

from benchmarks import absent_gpu, absent_tpu, collectives, deviceless_lines, flops, kernels, task_steps
from benchmarks.kernels import Kernel
from repre_jax.builders import attention
from repre_jax.models import platform, self_attention
from repre_jax.running import memory
from repre_jax.system import command_line, environment

BATCH = {"gpu": 256, "tpu": 512}  # records a step, of each chip
DENSE = ("segment", "detect")  # tasks whose recipe's batch, of all chips, is taken
Chip = absent_gpu.Chip | absent_tpu.Chip
# By what stands in the name of a kernel's operation, the first that does; a gradient has the scope 'transpose'.
PARTS = {
    "augmentation": "augmentation",
    "target": "target",
    r"\bupdate\b": "update",
    "Decoder": "decoder",
    "online": "online",
}
# Of another task than pre-training the module, as 'transpose(jvp(ViT))/block_1' and 'vmap(BoxHead)/' name it.
MODULE = re.compile(r"[(/]([A-Z][A-Za-z]+)[)/]")
ENCODERS = {"ViT": "encoder", "Swin": "encoder"}


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
    chip: Chip = absent_tpu.CHIPS[kind] if on_tpu else absent_gpu.CHIPS[kind]
    # Before the config, whose attention may be such a chip's; what is wrong with the chip is said here.
    versions = {"libtpu": absent_tpu.prepare()} if on_tpu else {}
    devices = absent_tpu.devices(arguments.chip) if on_tpu else absent_gpu.devices(arguments.chip)
    config, given = settled(arguments, overrides, count)
    step = task_steps.build(config, devices)
    if on_tpu:
        plan = absent_tpu.plan(arguments.chip, arguments.config, given, whole=arguments.whole)
        planned = Planned(plan.text, plan.memory, plan.seconds, versions)
    else:
        planned = _on_gpus(step)
    by_formula, shares = step.flops / count, step.shares_of_remat()
    program = kernels.Program(planned.text)
    found = program.kernels()
    kernel_count, moved, products = kernels.totals(found)
    relayouts = [each for each in found if each.relayout]
    bound = sum(least(chip, each) for each in found)
    return {
        "command": environment.command(),
        "chip": chip.name,
        "chips": count,
        "config": f"{task_steps.called(config)}, {config.encoder.name}, {config.dtype}",
        "attention": config.encoder.attention,
        "batch": config.batch_size,
        "date": time.strftime("%Y-%m-%d"),
        "versions": environment.record(config.seed)["versions"] | planned.versions,
        "compile_seconds": planned.seconds,
        "planned_memory_bytes": planned.memory,
        "fits": planned.memory <= (chip.usable or chip.memory),
        "kernels": kernel_count,
        "bytes_moved": moved,
        "relayouts": kernels.totals(relayouts)[0],
        "relayout_bytes": kernels.totals(relayouts)[1],
        "flops_of_products": products,
        "flops_of_float32": sum(each.float32_flops * each.times for each in found),
        "flops_by_formula": by_formula,
        "remat": flops.in_words(config, shares),
        "remat_shares": shares,
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


def settled(arguments: argparse.Namespace, overrides: list[str], chips: int) -> tuple[ConfigDict, list[str]]:
    """The config, and the command line that gives it. Raises UserError."""
    given = ["--config.dtype=bfloat16", *overrides]
    config = task_steps.parse(arguments.config, given)
    batch = arguments.batch or (None if config.task in DENSE else BATCH[platform.compiled_for()])
    if batch and not any(flag.startswith("--config.batch_size") for flag in overrides):
        given.append(f"--config.batch_size={chips * batch}")
    if arguments.attention:
        given.append(f"--config.encoder.attention={arguments.attention}")
    config = task_steps.parse(arguments.config, given)
    if config.encoder.attention == attention.AUTO:
        given.append(f"--config.encoder.attention={attention.preferred(task_steps.attentions(config))}")
    return task_steps.parse(arguments.config, given), given


def _on_gpus(step: task_steps.Step) -> Planned:
    begun = time.perf_counter()
    compiled = step.compile()
    return Planned(compiled.as_text() or "", memory.of_program(compiled), time.perf_counter() - begun, {})


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
        if re.search(scope, made_by):
            return name + gradient
    if module := MODULE.search(made_by):
        return ENCODERS.get(module[1], module[1]) + gradient
    return "unnamed"


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


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chip", default="h200", help="h200, h100, either with :COUNT, or a slice of v5e, v5p or v6e")
    parser.add_argument("--config", default="configs/moco_vit_s.py")
    parser.add_argument(
        "--batch",
        type=int,
        help="records a step of each chip; else 256 on a GPU, 512 on a TPU, of dense tasks theirs",
    )
    parser.add_argument("--attention", choices=self_attention.KINDS, help="else the first in the order of preference")
    parser.add_argument("--top", type=int, default=12, help="how many of the largest operations are listed")
    parser.add_argument("--whole", action="store_true", help="of a TPU: wait for its code, which a small step has soon")
    parser.add_argument("--json", action="store_true")
    arguments, overrides = parser.parse_known_args()
    found = measure(arguments, overrides)
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(deviceless_lines.lines(found)))


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted."))
