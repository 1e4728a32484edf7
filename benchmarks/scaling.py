"""What a training step costs as the work grows: batch, image size, depth, fusion layers, devices. Tables and one plot.

  python -m benchmarks.scaling [--config configs/moco_vit_s.py] [--batch N] [--longest 30] [--out benchmarks/results]
                               [--only batch,image,depth,fusion,devices] [--config.KEY=VALUE ...]

Memory is what XLA's program of the step takes on a device, FLOPs are by formula. Steps that would take longer than
--longest seconds, or more memory than there is, are compiled and not timed, others may not compile: the last column
says why. Devices are fake ones of the CPU, which share its cores, so that they are not timed: memory, and the bytes
that collectives make on a device in a step, read from the compiled program.
On an accelerator attention is what a start of a run would choose there for that size, and each row names it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
from ml_collections import ConfigDict

from benchmarks import collectives, flops, hardware, steps
from repre_jax.models.encoders import VITS
from repre_jax.report import console
from repre_jax.running import memory
from repre_jax.system import command_line, environment, huge_pages, terminal

BATCHES = (64, 128, 256, 512, 1024, 2048)
SIDES = (96, 160, 224, 320, 448)
VIT_DEPTHS, SWIN_DEPTHS = (4, 8, 12, 24), (2, 6, 12, 18)  # of a Swin its third stage
FUSIONS = (1, 2, 4)
DEVICES = (1, 2, 4, 8)
TIMED = 4  # steps, after one of warm-up
MEMORY, NOT_TIMED = "memory, MiB", "not timed, since it"
Row = dict[str, Any]


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/moco_vit_s.py")
    parser.add_argument("--batch", type=int, help="of all tables but the first; 256 unless given, on a CPU 8")
    parser.add_argument("--longest", type=float, default=30, help="seconds of a step that is still timed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--only", default=",".join(TABLES), help="tables, joined by commas")
    arguments, overrides = parser.parse_known_args()
    if unknown := set(arguments.only.split(",")) - set(TABLES):
        parser.error(f"unknown table {', '.join(sorted(unknown))}; known: {', '.join(TABLES)}")
    batch = arguments.batch or (8 if jax.default_backend() == "cpu" else 256)
    config = steps.parse(arguments.config, [f"--config.batch_size={batch}", *overrides])
    lines = [
        environment.command(),
        f"{config.framework.name}, {config.encoder.name}, {config.dtype}; {console.devices()}; {console.machine()}; "
        f"{time.strftime('%Y-%m-%d')}; jax {jax.__version__}",
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = arguments.out / f"scaling-{jax.default_backend()}"
    print("\n".join(lines), flush=True)
    tables: dict[str, list[Row]] = {}
    for name in arguments.only.split(","):
        tables[name] = []
        for found in TABLES[name](config, arguments, overrides):
            tables[name].append(found)
            written = [*lines, *(line for rows in tables.values() for line in ("", *markdown(rows)))]
            stem.with_suffix(".md").write_text("\n".join(written) + "\n")  # it stays, whatever comes next
        print("\n".join(["", *markdown(tables[name])]), flush=True)
        draw(tables, lines[1]).savefig(stem.with_suffix(".png"), dpi=110)
    print(f"\n{stem}.md, {stem}.png")


def of_batch(config: ConfigDict, arguments: argparse.Namespace, _: list[str]) -> Iterator[Row]:
    def change(sized: ConfigDict, value: int) -> None:
        sized.batch_size = value

    yield from (row(config, "batch", value, change, arguments.longest) for value in BATCHES)


def of_image(config: ConfigDict, arguments: argparse.Namespace, _: list[str]) -> Iterator[Row]:
    def change(sized: ConfigDict, value: int) -> None:
        sized.data.image_size = (value, value)

    yield from (row(config, "image side", value, change, arguments.longest) for value in SIDES)


def of_depth(config: ConfigDict, arguments: argparse.Namespace, _: list[str]) -> Iterator[Row]:
    vit = config.encoder.name in VITS

    def change(sized: ConfigDict, value: int) -> None:
        sized.encoder.depth = (value,) if vit else (2, 2, value, 2)

    yield from (
        row(config, "depth", value, change, arguments.longest) for value in (VIT_DEPTHS if vit else SWIN_DEPTHS)
    )


def of_fusion(config: ConfigDict, arguments: argparse.Namespace, _: list[str]) -> Iterator[Row]:
    def change(sized: ConfigDict, value: int) -> None:
        sized.repre.enabled, sized.repre.fusion_layers = value > 0, max(1, value)

    yield from (row(config, "fusion layers", value, change, arguments.longest) for value in (0, *FUSIONS))


def of_devices(config: ConfigDict, arguments: argparse.Namespace, overrides: list[str]) -> Iterator[Row]:
    """Each in a process of its own: JAX learns of the number when it starts."""
    for count in DEVICES:
        flag = f"--xla_force_host_platform_device_count={count}"
        variables = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}"}
        sizes = [f"--config.batch_size={max(config.batch_size, 2 * DEVICES[-1])}", *overrides]
        command = [sys.executable, "-m", "benchmarks.collectives", "--config", arguments.config, *sizes]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip() or "no word").splitlines()[-1][:120]
            yield {"devices": count, "fails": why}
        else:
            yield {"devices": count, **json.loads(done.stdout)}


TABLES: dict[str, Callable[[ConfigDict, argparse.Namespace, list[str]], Iterator[Row]]] = {
    "batch": of_batch,
    "image": of_image,
    "depth": of_depth,
    "fusion": of_fusion,
    "devices": of_devices,
}


def row(config: ConfigDict, name: str, value: int, change: Callable[[ConfigDict, int], None], longest: float) -> Row:
    """One size. Timed is the mean of TIMED steps; one that does not compile, or finds no memory, leaves no more than
    the reason, so that the next one is measured."""
    sized = config.copy_and_resolve_references()
    change(sized, value)
    terminal.say(f"{name} {value} ...")
    columns = ("images/s", "ms a step", MEMORY, "GFLOP", "compile, s", "attention", NOT_TIMED)
    found = {name: value} | dict.fromkeys(columns)
    try:
        sized = steps.settled(sized)
        found["attention"] = sized.encoder.attention
        for more in _measured(sized, longest):
            found |= more
    except jax.errors.JaxRuntimeError as error:
        found[NOT_TIMED] = f"fails: {str(error).strip().splitlines()[0][:120]}"
    return found


def _measured(sized: ConfigDict, longest: float) -> Iterator[Row]:
    """The columns as they come to be known."""
    program, compile_seconds = steps.compile_step(sized)
    work, needed = flops.of_step(program.method, sized), memory.of_program(program.compiled)
    yield {MEMORY: round(needed / 2**20), "GFLOP": round(work / 1e9, 1), "compile, s": round(compile_seconds, 1)}
    expected = work / 1e12 / hardware.measured_tflops(sized.dtype, repeats=3) * 2  # at half of the ceiling
    if expected > longest:
        yield {NOT_TIMED: f"would take {expected:.0f} s"}
    elif needed >= 0.8 * memory.per_device():
        yield {NOT_TIMED: "is too large for the device"}
    else:
        step = steps.ready(sized, program)
        step.take(1)  # of warm-up
        seconds = step.take(TIMED)
        yield {"images/s": round(sized.batch_size / seconds, 2), "ms a step": round(1e3 * seconds, 1)}


def markdown(rows: list[Row]) -> list[str]:
    def text(value: Any) -> str:
        return "-" if value is None else value if isinstance(value, str) else f"{value:,}"

    names = list(dict.fromkeys(name for one in rows for name in one))
    return [
        f"| {' | '.join(names)} |",
        "|" + "---|" * len(names),
        *(f"| {' | '.join(text(one.get(name)) for name in names)} |" for one in rows),
    ]


def draw(tables: dict[str, list[Row]], title: str) -> plt.Figure:
    """A column a table: images/s where there are any, and memory, both over its first column."""
    figure, axes = plt.subplots(2, len(tables), figsize=(3.2 * len(tables), 5.6), squeeze=False, layout="constrained")
    for column, rows in enumerate(tables.values()):
        name, places = next(iter(rows[0])), range(len(rows))
        speeds = "images/s" if "images/s" in rows[0] else collectives.SENT
        for axis, what in zip(axes[:, column], (speeds, MEMORY), strict=True):
            known = [(place, one[what]) for place, one in enumerate(rows) if one.get(what) is not None]
            axis.plot(*zip(*known, strict=True), "o-", color="#2563a6") if known else axis.text(0.3, 0.5, "not timed")
            highest = max((value for _, value in known), default=0) or 1
            axis.set(xlabel=name, ylabel=what, xlim=(-0.3, len(rows) - 0.7), ylim=(0, 1.08 * highest))
            axis.set_xticks(places, [one[name] for one in rows])
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=9)
    return figure


if __name__ == "__main__":
    huge_pages.restart()  # as main.py
    sys.exit(command_line.exit_status(run, "Interrupted."))
