"""How fast a whole training step is on this machine: augmentation, both branches, optimiser, moving average.

  python -m benchmarks.train_step [--config configs/moco_vit_s.py] [--batch 256] [--repre off|light|paper]
                                  [--peer torch|off] [--vectors avx2|avx512] [--breakdown] [--json]
                                  [--config.KEY=VALUE ...]

Synthetic uint8 views; the median of several turns of two seconds or more, after warm-up. --peer torch takes turns with
the same step in PyTorch (benchmarks/torch_step.py; --torch-python names an interpreter that has it and timm), after
both have computed the first loss of the same weights; --peer off with the same step without RePre. MFU is model FLOPs
by formula over what the device could do in that time: by its data sheet, and by a matrix product measured here. On an
accelerator attention is what a start of a run would choose there (`encoder.attention=auto`), and the table names it.
--breakdown: the time by part (benchmarks/breakdown.py).
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks import breakdown, flops, hardware, steps, torch_peer
from repre_jax.builders import attention
from repre_jax.builders.attention_kinds import Found
from repre_jax.core.errors import UserError
from repre_jax.report import console
from repre_jax.running import memory
from repre_jax.system import command_line, environment, huge_pages

REPRE = {"off": ("baseline",), "light": ("light",), "paper": ()}
VECTORS = {"avx2": ("AVX2", "avx2"), "avx512": ("AVX512", "avx512")}  # as XLA and oneDNN, and as PyTorch call them
FIRST_LOSS = 1e-3  # that both may differ by


def measure(arguments: argparse.Namespace, overrides: list[str]) -> dict[str, Any]:
    """What --json prints."""
    if arguments.batch is not None:
        overrides = [f"--config.batch_size={arguments.batch}", *overrides]
    asked = steps.parse(steps.with_variants(arguments.config, *REPRE[arguments.repre]), overrides)
    config, (_, kinds) = steps.settled(asked), steps.chosen(asked)
    overrides = [*overrides, f"--config.encoder.attention={config.encoder.attention}"]  # of what it is compared with
    compiled, compile_seconds = steps.compile_step(config)
    step = steps.ready(config, compiled)
    found = describe(step) | {"command": environment.command(), "compile_seconds": compile_seconds}
    found["attention_compared"] = {name: dataclasses.asdict(each) for name, each in kinds.items()}
    if arguments.peer == "torch":
        found |= beside_torch(step, arguments)
    elif arguments.peer == "off":
        found |= beside_none(step, steps.parse(steps.with_variants(arguments.config, "baseline"), overrides), arguments)
    else:
        found |= steps.spread(steps.in_turns({"ours": step.take}, turns=arguments.turns)["ours"])
        found["peak_memory_bytes"] = hardware.peak_memory()  # no other step has run in this process
    seconds = found["median_ms"] / 1e3
    found["images_per_second"] = config.batch_size / seconds
    ceiling, sheet = hardware.measured_tflops(config.dtype), hardware.data_sheet_tflops(config.dtype)
    found |= {"matrix_product_tflops": ceiling, "data_sheet_tflops": sheet}
    rate = found["gflop_formula"] / 1e3 / seconds / compiled.mesh.size
    found |= {"mfu_of_matrix_product": rate / ceiling, "mfu_of_data_sheet": rate / sheet if sheet else None}
    if arguments.breakdown:
        found["breakdown_ms"] = breakdown.measure(step, turns=arguments.turns)
    return found


def beside_torch(step: steps.Step, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both first losses and times. Raises UserError when the losses differ."""
    inductor = arguments.torch_compile or jax.default_backend() != "cpu"
    pages = arguments.torch_huge_pages
    with torch_peer.started(step, arguments.torch_python, compiled=inductor, pages=pages) as peer:
        found = {"first_loss": torch_peer.first_loss(step.config, step), "first_loss_torch": peer.ask("loss")}
        if not abs(found["first_loss"] - found["first_loss_torch"]) <= FIRST_LOSS:
            raise UserError(
                f"The first losses differ: {found['first_loss']:.6f} here, {found['first_loss_torch']:.6f} in "
                f"PyTorch.\n  expected: at most {FIRST_LOSS:g}; these are not the same steps"
            )
        takers = {"ours": step.take, "torch": lambda count: peer.ask(f"step {count}")}
        times = steps.in_turns(takers, turns=arguments.turns)
        ours, theirs = steps.spread(times["ours"]), steps.spread(times["torch"])
        kernels = torch_peer.kernels(arguments.torch_python) if jax.default_backend() == "cpu" else None
        about = (
            peer.about
            | {"kernels": kernels}
            | {"compiled": inductor, "huge_pages": pages, "peak_memory_bytes": peer.ask("memory")}
        )
    theirs["images_per_second"] = 1e3 * step.config.batch_size / theirs["median_ms"]
    return found | ours | {"torch": about | theirs, "ratio_to_torch": theirs["median_ms"] / ours["median_ms"]}


def beside_none(step: steps.Step, bare: ConfigDict, arguments: argparse.Namespace) -> dict[str, Any]:
    """Times and FLOPs beside those of the same step without RePre."""
    other, _ = steps.compile_step(bare)
    times = steps.in_turns({"ours": step.take, "off": steps.ready(bare, other).take}, turns=arguments.turns)
    ours, off = steps.spread(times["ours"]), steps.spread(times["off"])
    flops_over_off = steps.gflop(step.program) / steps.gflop(other)
    return ours | {
        "off": off,
        "time_over_off": ours["median_ms"] / off["median_ms"],
        "flops_over_off": flops_over_off,
    }


def describe(step: steps.Step) -> dict[str, Any]:
    """What is known before it runs."""
    record, method = environment.record(step.config.seed), step.program.method
    work = flops.of_step(method, step.config)
    views = flops.learnt_views(method, step.config)
    shares = flops.shares_of_remat(method.encoder, views, step.config.batch_size, work)
    return {
        "config": f"{step.config.framework.name}, {step.config.encoder.name}, {step.config.dtype}",
        "repre": step.config.repre.preset if step.config.repre.enabled else "off",
        "attention": step.config.encoder.attention,
        "batch": step.config.batch_size,
        "image_size": list(step.config.data.image_size),
        "device": console.devices(),
        "machine": console.machine(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": record["versions"],
        "commit": record["commit"],
        "variables": record["variables"],
        "gflop_formula": work / 1e9,
        "gflop_xla": steps.gflop(step.program),
        "remat": flops.in_words(step.config, shares),
        "remat_shares": shares,
        "program_memory_bytes": memory.of_program(step.program.compiled),
    }


def table(found: dict[str, Any]) -> str:
    """For people."""

    def times(of: dict[str, Any]) -> str:
        return f"{of['median_ms']:,.1f} ms (p10 {of['p10_ms']:,.1f}, p90 {of['p90_ms']:,.1f})"

    def size(count: int | None) -> str:
        return "not told" if count is None else f"{count / 2**20:,.0f} MiB"

    def share(value: float | None, of: float | None) -> str:
        return "unknown" if value is None else f"{value:.1%} of {of:.3g} TFLOP/s"

    compared = {name: Found(**each) for name, each in found["attention_compared"].items()}
    rows = [
        ("step", f"{found['config']}, RePre {found['repre']}, batch {found['batch']}, {found['image_size']} pixels"),
        ("attention", attention.describe(found["attention"], compared)),
        ("device", f"{found['device']}; {found['machine']}; {found['date']}; jax {found['versions']['jax']}"),
        ("load", f"{found['load_average']:.1f}, the average of the last minute before"),
        ("compile", f"{found['compile_seconds']:.1f} s"),
        ("time", f"{times(found)}, {found['images_per_second']:,.1f} images/s"),
        ("work", f"{found['gflop_formula']:,.2f} GFLOP by formula, {found['gflop_xla']:,.2f} by XLA"),
        ("forgotten", found["remat"]),
        ("MFU", f"{share(found['mfu_of_matrix_product'], found['matrix_product_tflops'])}, a matrix product here"),
        ("", f"{share(found['mfu_of_data_sheet'], found['data_sheet_tflops'])}, the data sheet"),
        ("memory", f"{size(found['program_memory_bytes'])} by XLA's plan; peak {size(found.get('peak_memory_bytes'))}"),
    ]
    if "ratio_to_torch" in found:
        other = found["torch"]
        rows += [
            ("PyTorch", f"{times(other)}, {other['images_per_second']:,.1f} images/s"),
            ("", f"torch {other['torch']}, timm {other['timm']}, {other['device']}, "
                 f"{'compiled' if other['compiled'] else 'eager'}{', huge pages' if other['huge_pages'] else ''}; "
                 f"peak {size(other['peak_memory_bytes'])}"),
            *([("", other["kernels"])] if other["kernels"] else []),
            ("first loss", f"{found['first_loss']:.6f} here, {found['first_loss_torch']:.6f} there"),
            ("ratio", f"{found['ratio_to_torch']:.2f} x PyTorch's speed"),
        ]  # fmt: skip
    if "off" in found:
        rows += [
            ("without RePre", times(found["off"])),
            ("RePre adds", f"{found['time_over_off'] - 1:.1%} of time and {found['flops_over_off'] - 1:.1%} of FLOPs"),
        ]
    whole = found["median_ms"]
    for name, value in found.get("breakdown_ms", {}).items():
        rows.append((name, f"{value:10,.1f} ms  {value / whole:6.1%}"))
    return console.table(rows)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/moco_vit_s.py")
    parser.add_argument("--batch", type=int, help="records a step; the config's unless given")
    parser.add_argument("--repre", choices=REPRE, default="paper")
    parser.add_argument("--peer", choices=("torch", "off"))
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter with torch and timm")
    parser.add_argument("--torch-compile", action="store_true", help="on CPU, too; elsewhere always")
    parser.add_argument("--torch-huge-pages", action="store_true", help="system/huge_pages.py's, which ours asks for")
    parser.add_argument("--vectors", choices=VECTORS, help="on an x86 CPU: the widest that either side may take")
    parser.add_argument("--turns", type=int, default=7, help="each of two seconds and three steps, or more")
    parser.add_argument("--breakdown", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments, overrides = parser.parse_known_args()
    if arguments.vectors:  # read when XLA and PyTorch start
        flags, capability = VECTORS[arguments.vectors]
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa={flags}".strip()
        os.environ |= {"ATEN_CPU_CAPABILITY": capability, "DNNL_MAX_CPU_ISA": flags, "MKL_ENABLE_INSTRUCTIONS": flags}
    if arguments.peer == "torch":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two processes share the device's memory
    load = os.getloadavg()[0]  # what else the machine had to do
    found = measure(arguments, overrides) | {"load_average": load}
    print(json.dumps(found, indent=1) if arguments.json else table(found))


if __name__ == "__main__":
    huge_pages.restart()  # as main.py
    sys.exit(command_line.exit_status(run, "Interrupted."))
