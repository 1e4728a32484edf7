"""What a compiled program holds at the same time, read from its text."""

import math
import re
from typing import NamedTuple

BITS = {"pred": 8, "token": 0}  # of others the number in their name: f32, bf16, u8
RESULT = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\w+)\[([\d,]*)\]\S* ([\w-]+)\(")
VIEWS = {"parameter", "constant", "bitcast", "get-tuple-element", "iota", "copy-done", "while", "conditional"}
FUSED = re.compile(r"calls=%?([\w.-]+)")
HEADER = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$")
MADE_OF = re.compile(r'op_name="([^"]*)"')


class Array(NamedTuple):
    """One result: bytes, its type as 'f32[5,2000,2000]', and the operation that JAX calls it."""

    size: int
    kind: str
    made_by: str


def largest(text: str) -> Array:
    """The largest array that an operation of a compiled program writes, which is none inside of a fused one.

    text: jax.stages.Compiled.as_text().
    """
    lines = text.splitlines()
    fused = {name for line in lines if " fusion(" in line for name in FUSED.findall(line)}
    found, inside = Array(0, "", ""), ""
    for line in lines:
        if header := HEADER.match(line):
            inside = header[1]
        elif inside not in fused and (match := RESULT.match(line)) and match[4] not in VIEWS:
            size = size_of(match[2], match[3])
            if size > found.size:
                by = MADE_OF.search(line)
                found = Array(size, f"{match[2]}[{match[3]}]", by[1] if by else match[4])
    return found


def size_of(kind: str, dimensions: str) -> int:
    """Bytes of an array of this type, such as bf16, whose sides are written as '256,197'."""
    sides = [int(side) for side in dimensions.split(",") if side]
    digits = re.sub(r"^\D*(\d+).*$", r"\1", kind)
    bits = BITS.get(kind) if kind in BITS else int(digits) if digits.isdigit() else 32
    return math.prod(sides) * (bits or 0) // 8
