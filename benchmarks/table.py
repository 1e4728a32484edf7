"""The rows that this project's speed is judged by, on this machine: each measured by benchmarks/train_step.py.

  python -m benchmarks.table [--torch-python PYTHON] [--turns 7] [--out benchmarks/results] [--only N]

On a CPU the two CPU rows, on an accelerator all others, by the attention that a start of a run would choose there and
that the table names; a row that fails says so, the next one goes on, and the exit status is 1. PYTHON is an interpreter
with torch and timm, this one unless told. Writes table-DEVICE.md and, with all that was measured, table-DEVICE.json.
--only N: the Nth row alone; the others stay as they are there, if the same code measured them on the same device.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import sources
from repre_jax.report import console
from repre_jax.system import command_line, environment


@dataclass(frozen=True)
class Row:
    """measure: the key of train_step's JSON that `goal` is for, a number or another key of it. at_most: the goal is the
    largest that will do."""

    name: str
    arguments: tuple[str, ...]
    measure: str
    goal: float | str
    at_most: bool = False


TORCH, OFF = ("--peer", "torch"), ("--peer", "off")
FLOAT32 = "--config.dtype=float32"


def step(config: str, batch: int, *more: str) -> tuple[str, ...]:
    return ("--config", f"configs/{config}.py", "--batch", str(batch), *more)


ON_CPU = (
    Row(
        "ViT-S, batch 8, against PyTorch",
        step("moco_vit_s", 8, *TORCH, FLOAT32, "--breakdown"),
        "ratio_to_torch",
        0.9,
    ),
    Row(
        "the demo's step, against PyTorch",
        ("--config", "configs/moco_vit_s.py:digits", *TORCH, "--torch-huge-pages"),  # by which it gains
        "ratio_to_torch",
        1,
    ),
)
S, B, MOBY, SWIN = step("moco_vit_s", 256), step("moco_vit_b", 128), step("moby_swin_t", 128), step("moco_swin_t", 128)
FLOPS = "flops_over_off"
CUDNN = "--config.encoder.attention=cudnn"
ELSEWHERE = (
    Row("MoCo v3, ViT-S, MFU", (*S, "--breakdown"), "mfu_of_data_sheet", 0.4),
    Row("the same with cuDNN's attention", (*S, CUDNN), "mfu_of_data_sheet", 0.4),
    Row("MoCo v3, ViT-S, against PyTorch", (*S, *TORCH), "ratio_to_torch", 1.3),
    Row("MoCo v3, ViT-B, MFU", (*B, *TORCH), "mfu_of_data_sheet", 0.55),
    Row("MoBY, Swin-T, against PyTorch", (*MOBY, *TORCH), "ratio_to_torch", 1.5),
    Row("light decoder over none, ViT-S", (*S, *OFF, "--repre", "light"), "time_over_off", 1.04, True),
    Row("paper decoder over none, ViT-S", (*S, *OFF), "time_over_off", FLOPS, True),
    Row("paper decoder over none, ViT-B", (*B, *OFF), "time_over_off", FLOPS, True),
    Row("paper decoder over none, Swin-T", (*SWIN, *OFF), "time_over_off", FLOPS, True),
)


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--turns", default="7")
    parser.add_argument("--only", type=int, help="the number of one row, from 1")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    (backend, device), commit = asked_of_jax(), environment.commit()
    by = {"by": [device, console.machine(), sources.digest()]}
    lines = [
        environment.command(),
        f"{console.machine()}; {device}; {time.strftime('%Y-%m-%d')}; commit {commit}",
        "",
        "| row | measured | goal | step, ms | images/s | attention | first losses, ours and PyTorch's |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = arguments.out / f"table-{backend}"
    rows = ON_CPU if backend == "cpu" else ELSEWHERE
    known = stem.with_suffix(".json")
    before = json.loads(known.read_text()) if arguments.only and known.exists() else {}
    everything = {name: found for name, found in before.items() if found.get("by") == by["by"]}
    asked = rows[arguments.only - 1 : arguments.only] if arguments.only else rows
    for row in asked:
        everything[row.name] = measured(row, arguments) | by
        print(cells(row, everything[row.name]), flush=True)
        known.write_text(json.dumps(everything, indent=1) + "\n")
        listed = [cells(row, everything[row.name]) for row in rows if row.name in everything]
        stem.with_suffix(".md").write_text("\n".join([*lines, *listed]) + "\n")
    return int(any("failed" in everything[row.name] for row in asked))


def asked_of_jax() -> tuple[str, str]:
    """Its backend, and '1 x NVIDIA H200'. Another process asks: this one leaves the device to those that measure."""
    what = "import jax; d = jax.devices(); print(jax.default_backend(), f'{len(d)} x {d[0].device_kind}', sep='|')"
    done = subprocess.run([sys.executable, "-c", what], stdout=subprocess.PIPE, text=True, check=True)
    backend, device = done.stdout.strip().splitlines()[-1].split("|")
    return backend, device


def measured(row: Row, arguments: argparse.Namespace) -> dict[str, Any]:
    """train_step's JSON, or {'failed': its last line}."""
    more = ("--turns", arguments.turns, "--torch-python", arguments.torch_python, "--json")
    command = [sys.executable, "-m", "benchmarks.train_step", *row.arguments, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip() or "no word").splitlines()[-1]}
    return json.loads(done.stdout)


def cells(row: Row, found: dict[str, Any]) -> str:
    """A line of the table."""
    goal = found.get(row.goal) if isinstance(row.goal, str) else row.goal
    wanted = f"{'at most' if row.at_most else 'at least'} {row.goal if goal is None else round(goal, 3)}"
    value = found.get(row.measure)
    if value is None:
        return f"| {row.name} | not measured: {found.get('failed', 'no data sheet')} | {wanted} | - | - | - | - |"
    reached = value <= goal if row.at_most else value >= goal
    losses = f"{found['first_loss']:.5f}, {found['first_loss_torch']:.5f}" if "first_loss" in found else "-"
    return (
        f"| {row.name} | {value:.3f}{'' if reached else ', not reached'} | {wanted} | {found['median_ms']:,.1f} "
        f"| {found['images_per_second']:,.1f} | {found.get('attention', '-')} | {losses} |"
    )


if __name__ == "__main__":
    with command_line.ending("Interrupted; the rows that were printed are written.") as this:
        this.status = run()
    sys.exit(this.status)
