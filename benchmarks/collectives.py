"""What the devices send each other in a step, read from the compiled program; benchmarks/scaling.py starts this, and
benchmarks/deviceless.py has it of chips that are not there.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m benchmarks.collectives --config configs/moco_vit_s.py
"""

import argparse
import json
import math
import re
import sys
from collections import Counter
from typing import Any

import jax.numpy as jnp

from benchmarks import steps
from benchmarks.instructions import Array, Computation, Instruction
from benchmarks.kernels import Program
from repre_jax.running import memory
from repre_jax.system import command_line

SENT = "collectives, MiB"
# The result of each: of one that runs beside other work, what its second half, '-done', gives.
CALL = re.compile(
    r" = (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-(?:permute|broadcast))(?:-done)?\("
)
KIND = re.compile(r"all-reduce|all-gather|reduce-scatter|all-to-all|collective-\w+|ragged-all-to-all")
ARRAY = re.compile(r"(pred|[a-z]+\d+)\[([\d,]*)\]")
DTYPES = {"pred": "bool", "f": "float", "s": "int", "u": "uint", "bf": "bfloat"}


def moved(text: str) -> Counter:
    """Bytes that each kind of collective makes on a device in compiled HLO."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if call := CALL.search(line):
            found[call[2]] += sum(_bytes(*array) for array in ARRAY.findall(call[1]))
    return found


def listed(program: Program) -> list[dict[str, Any]]:
    """What one device makes of the others' in a step, by kind, dtype and the operation it is of, the most bytes first:
    how many arrays, their bytes, the largest of them as 'f32[384,1536]'. One call may reduce many arrays; then the
    operation is that of its first."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for each, inside, times in program.instructions():
        kind = each.kind.removesuffix("-start")
        if not KIND.fullmatch(kind):
            continue
        results = each.results if kind == each.kind else _made(each, program.computations[inside])
        for array in results:
            key = kind, array.dtype, re.sub(r"\d+", "N", each.made_by)
            row = found.setdefault(key, {"kind": kind, "dtype": array.dtype, "arrays": 0, "bytes": 0, "most": 0})
            row["arrays"] += times
            row["bytes"] += times * array.bytes
            if array.bytes >= row["most"]:
                row |= {"most": array.bytes, "largest": f"{array.dtype}{list(array.sides)}", "made_by": key[2]}
    rows = sorted(found.values(), key=lambda row: -row["bytes"])
    return [{name: value for name, value in row.items() if name != "most"} for row in rows]


def _made(start: Instruction, around: Computation) -> tuple[Array, ...]:
    """What the second half, '-done', gives of a collective that runs beside other work."""
    done = (one for one in around.values() if one.kind.endswith("-done") and start.name in one.operands)
    return next((one.results for one in done), start.results)


def _bytes(dtype: str, shape: str) -> int:
    letters = dtype.rstrip("0123456789")
    width = jnp.dtype(dtype.replace(letters, DTYPES[letters], 1)).itemsize
    return width * math.prod(int(side) for side in shape.split(",") if side)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/moco_vit_s.py")
    arguments, overrides = parser.parse_known_args()
    program, _ = steps.compile_step(steps.parse(arguments.config, overrides))
    found = moved(program.compiled.as_text() or "")
    kinds = {f"{kind}, MiB": round(found[kind] / 2**20, 2) for kind in ("all-reduce", "all-gather")}
    others = sum(found.values()) - found["all-reduce"] - found["all-gather"]
    total = {SENT: round(sum(found.values()) / 2**20, 2), "memory, MiB": memory.of_program(program.compiled) >> 20}
    print(json.dumps(total | kinds | {"others, MiB": round(others / 2**20, 2)}))


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted."))
