"""What the devices send each other in a step, read from the compiled program; benchmarks/scaling.py starts this.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m benchmarks.collectives --config configs/moco_vit_s.py
"""

import argparse
import json
import math
import re
import sys
from collections import Counter

import jax.numpy as jnp

from benchmarks import steps
from repre_jax.running import memory
from repre_jax.system import command_line

SENT = "collectives, MiB"
# The result of each: of one that runs beside other work, what its second half, '-done', gives.
CALL = re.compile(
    r" = (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-(?:permute|broadcast))(?:-done)?\("
)
ARRAY = re.compile(r"(pred|[a-z]+\d+)\[([\d,]*)\]")
DTYPES = {"pred": "bool", "f": "float", "s": "int", "u": "uint", "bf": "bfloat"}


def moved(text: str) -> Counter:
    """Bytes that each kind of collective makes on a device in compiled HLO."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if call := CALL.search(line):
            found[call[2]] += sum(_bytes(*array) for array in ARRAY.findall(call[1]))
    return found


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
