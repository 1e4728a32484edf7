"""The instructions of a program that XLA has compiled, read from its text."""

import functools
import re
from dataclasses import dataclass

from benchmarks import hlo

ARRAY = re.compile(r"\b(pred|token|bf16|[sufc]\d+\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
TILE = re.compile(r"T\(([\d,]*)\)")
ELSEWHERE = re.compile(r"S\([1-9]\d*\)")  # in a TPU's layout: not in main memory
HEADER = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.-]+) = (.*)")


@dataclass(frozen=True)
class Array:
    """layout: as XLA writes it, '1,0' or with a TPU's tiles and memory '1,0:T(8,128)(2,1)S(1)'."""

    dtype: str
    sides: tuple[int, ...]
    layout: str = ""

    @property
    def bytes(self) -> int:
        """Wherever it lies, without padding."""
        return hlo.size_of(self.dtype, ",".join(map(str, self.sides)))

    @property
    def size(self) -> int:
        """Bytes in main memory, with the padding of tiles."""
        if ELSEWHERE.search(self.layout):
            return 0
        return hlo.size_of(self.dtype, ",".join(map(str, self._padded())))

    def _padded(self) -> list[int]:
        order, _, rest = self.layout.partition(":")
        tile = TILE.search(rest)
        if not tile or not order:
            return list(self.sides)
        sides = [self.sides[int(place)] for place in order.split(",")]  # the fastest first
        for place, side in enumerate(reversed(tile[1].split(","))):
            if place < len(sides):
                sides[place] = -(-sides[place] // int(side)) * int(side)
        return sides


@dataclass(frozen=True)
class Instruction:
    """results: one array, or those of a tuple. operands: names of other instructions of the same computation. rest:
    what stands behind them. number: of a parameter; of a constant its value, if that is one."""

    name: str
    results: tuple[Array, ...]
    kind: str
    operands: tuple[str, ...]
    rest: str
    root: bool
    number: int | None

    @property
    def size(self) -> int:
        return sum(array.size for array in self.results)

    @property
    def made_by(self) -> str:
        """The operation as JAX calls it, 'jit(train_step)/jvp(ViT)/...'."""
        found = hlo.MADE_OF.search(self.rest)
        return found[1] if found else ""


Computation = dict[str, Instruction]


def parsed(text: str) -> tuple[dict[str, Computation], str]:
    """(Computations by name, the entry's name)."""
    computations: dict[str, Computation] = {}
    entry, inside = "", None
    for line in text.splitlines():
        if header := HEADER.match(line):
            inside = header[2]
            computations[inside] = {}
            entry = inside if header[1] else entry
        elif line.startswith("}"):
            inside = None
        elif inside is not None and (found := INSTRUCTION.match(line)):
            one = _instruction(found[2], found[3], root=bool(found[1]))
            computations[inside][one.name] = one
    return computations, entry


def _instruction(name: str, text: str, *, root: bool) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    results, text = text[:end], text[end:].lstrip()
    begin = text.index("(")
    end = _closing(text, begin)
    kind, given, rest = text[:begin], text[begin + 1 : end], text[end + 1 :]
    operands = () if kind in ("constant", "parameter") else tuple(re.findall(r"%([\w.-]+)", given))
    number = int(given) if kind in ("constant", "parameter") and given.isdecimal() else None
    return Instruction(name, _arrays(results), kind, operands, rest, root, number)


def _closing(text: str, begin: int) -> int:
    """Where the bracket at `begin` is closed."""
    depth = 0
    for place in range(begin, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return len(text)


@functools.lru_cache(4096)
def _arrays(text: str) -> tuple[Array, ...]:
    return tuple(
        Array(dtype, tuple(int(side) for side in sides.split(",") if side), layout)
        for dtype, sides, layout in ARRAY.findall(text)
    )
