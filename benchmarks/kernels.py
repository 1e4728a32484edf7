"""What the kernels of a program that XLA compiled for a GPU or a TPU read, write and compute, read from its text.

Each instruction of the entry computation is a kernel, as is each of a loop's body, as often as it runs. Bytes are those
of its operands and results in the chip's main memory: what a fusion only slices counts as its slices, an update in
place as the update. FLOPs are those of products and convolutions. What lies in a cache is not known.

On a TPU arrays are padded to the tiles of their layout, and what XLA keeps in the core's own memory, as the layout
says, costs nothing: fetching it is a kernel, too, as is each number that the core computes by itself. Of a kernel of
Pallas neither blocks nor grid can be read: it counts its operands and results once, which are its blocks x grid where
each block is fetched once, as this project's are, and the FLOPs that its author has estimated (pl.CostEstimate).

A relayout is a kernel that only moves one array to another layout: a copy, reshape or transpose, alone or fused with
others. What a fetch moves is none.
"""

import dataclasses
import functools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.instructions import Computation, Instruction, parsed

CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
CONDITION = re.compile(r"condition=%?([\w.-]+)")
TARGET = re.compile(r'custom_call_target="([^"]*)"')
LIBRARY = re.compile(r"cublas|cudnn|triton|tpu_custom_call")  # in a target; XLA has targets of its own
ESTIMATE = re.compile(r'"cost_estimate":\{([^}]*)\}')  # of Pallas' kernels
# They move nothing: names, views, and what only calls others.
NO_KERNEL = {"parameter", "constant", "bitcast", "get-tuple-element", "tuple", "after-all", "partition-id"}
SLICES = {"slice", "dynamic-slice", "gather"}
FETCHES = {"copy-start", "slice-start", "dynamic-slice-start"}  # into a TPU core's own memory, and back
MOVES = {"copy", "reshape", "transpose"}
VIEWS = {"parameter", "bitcast", "tuple", "get-tuple-element"}


@dataclass(frozen=True)
class Kernel:
    """kind: 'fusion', a library's target, or the operation. read, written: bytes. flops: of products, of which
    float32_flops have float32 operands. library: XLA has not written it. relayout: see above.
    times: how often a step runs it."""

    name: str
    kind: str
    made_by: str
    read: int
    written: int
    flops: int
    float32_flops: int
    library: bool = False
    relayout: bool = False
    times: int = 1


class Program:
    """text: jax.stages.Compiled.as_text()."""

    def __init__(self, text: str):
        self.computations, self.entry = parsed(text)

    def kernels(self) -> list[Kernel]:
        return [
            dataclasses.replace(self._kernel(each, self.computations[name]), times=times)
            for each, name, times in self.instructions()
        ]

    def instructions(self) -> Iterator[tuple[Instruction, str, int]]:
        """Those that run, with the name of the computation that each stands in and how often a step runs it."""
        yield from self._of(self.entry, 1)

    def _of(self, name: str, times: int) -> Iterator[tuple[Instruction, str, int]]:
        for each in self.computations[name].values():
            called = CALLED.findall(each.rest)
            if each.kind in NO_KERNEL:
                continue
            if each.kind == "while":
                yield from self._of(called[-1], times * self._trips(each))
            elif each.kind in ("call", "async-start"):
                for inner in called:
                    yield from self._of(inner, times)
            elif each.kind == "conditional":  # what is not taken is counted, too
                branches = re.search(r"branch_computations=\{([^}]*)\}", each.rest)
                for inner in re.findall(r"%?([\w.-]+)", branches[1]) if branches else ():
                    yield from self._of(inner, times)
            elif not each.kind.endswith("-done"):
                yield each, name, times

    def _trips(self, loop: Instruction) -> int:
        """How often it runs: as XLA says, or, for a TPU, as JAX's scan counts from 0 to a constant; else 1."""
        if known := TRIPS.search(loop.rest):
            return int(known[1])
        named = CONDITION.search(loop.rest)
        inside = self.computations.get(named[1], {}) if named else {}
        ends = [one for one in inside.values() if one.root and one.kind == "compare" and "direction=LT" in one.rest]
        numbers = [inside[name].number for one in ends for name in one.operands if inside[name].kind == "constant"]
        return next((number for number in numbers if number is not None), 1)

    def _kernel(self, each: Instruction, around: Computation) -> Kernel:
        products = list(self._products(each, around))
        kind = TARGET.search(each.rest)
        estimate = dict(re.findall(r'"(\w+)":"?(\d+)', found[1])) if (found := ESTIMATE.search(each.rest)) else {}
        return Kernel(
            each.name,
            kind[1] if kind else each.kind,
            each.made_by,
            *self._traffic(each, around),
            int(estimate.get("flops", 0)) + sum(flops for flops, _ in products),
            sum(flops for flops, dtype in products if dtype == "f32"),
            library=bool(kind and LIBRARY.search(kind[1])),
            relayout=self._moves_only(each),
        )

    def _moves_only(self, each: Instruction) -> bool:
        if each.kind != "fusion":
            return each.kind in MOVES
        kinds = {one.kind for name in CALLED.findall(each.rest) for one in self.computations[name].values()}
        return bool(kinds & MOVES) and kinds <= MOVES | VIEWS

    def _traffic(self, each: Instruction, around: Computation) -> tuple[int, int]:
        """(Bytes read, bytes written)."""
        sizes = [around[name].size if name in around else 0 for name in each.operands]
        if each.kind in FETCHES:  # (what is written, what is read, a counter)
            return each.results[1].size, each.results[0].size
        if each.kind in SLICES:
            return each.size, each.size
        if each.kind == "dynamic-update-slice":
            return sizes[1], sizes[1]
        if each.kind == "custom-call" and len(each.results) > 1:  # room to work in is not what it writes
            return sum(sizes), sum(array.size for array in each.results if array.dtype not in ("s8", "u8"))
        if each.kind != "fusion":
            return sum(sizes), each.size
        inside = self.computations[CALLED.findall(each.rest)[0]]
        for number, read in _read(inside).items():
            sizes[number] = min(sizes[number], read)
        root = next(one for one in inside.values() if one.root)
        in_place = root.kind == "dynamic-update-slice"
        return sum(sizes), inside[root.operands[1]].size if in_place else each.size

    def _products(self, each: Instruction, around: Computation) -> Iterator[tuple[int, str]]:
        """(FLOPs, dtype of the operands) of each product and convolution in a kernel."""
        if each.kind in ("fusion", "call"):
            for name in CALLED.findall(each.rest):
                for one in self.computations[name].values():
                    yield from self._products(one, self.computations[name])
        elif each.kind == "dot":
            yield _dot(each, around, r"lhs_contracting_dims=\{([\d,]*)\}")
        elif each.kind == "convolution":
            yield _of_tpu(each, around)
        elif each.kind == "custom-call" and (target := TARGET.search(each.rest)):
            if "cublas" in target[1]:
                yield _dot(each, around, r'"lhs_contracting_dimensions":\[([^\]]*)\]')
            elif "conv" in target[1]:
                yield _convolution(each, around, target[1])


def _read(inside: Computation) -> dict[int, int]:
    """Bytes that a fusion reads of each parameter: of what only slices of its results need, those slices."""
    needed: dict[str, float] = defaultdict(float)  # the share of each instruction's result
    for one in reversed(inside.values()):
        share = 1.0 if one.root else min(1.0, needed[one.name])
        for place, name in enumerate(dict.fromkeys(one.operands)):
            if one.kind == "broadcast" and share:
                needed[name] += 1
            elif one.kind in SLICES and place == 0:
                needed[name] += share * one.size / max(1, inside[name].size)
            elif one.kind == "dynamic-update-slice" and place == 0:
                continue  # what is updated in place is not read
            else:
                needed[name] += share
    parameters = ((one, one.number) for one in inside.values() if one.kind == "parameter")
    return {number: round(one.size * min(1.0, needed[one.name])) for one, number in parameters if number is not None}


def _dot(each: Instruction, around: Computation, contracting: str) -> tuple[int, str]:
    left = around[each.operands[0]].results[0]
    found = re.search(contracting, each.rest)
    sides = [left.sides[int(place)] for place in re.findall(r"\d+", found[1])] if found else []
    return 2 * math.prod(each.results[0].sides) * math.prod(sides), left.dtype


def _of_tpu(each: Instruction, around: Computation) -> tuple[int, str]:
    """Of a convolution as XLA writes it for a TPU, where a product is one, too, and its batch a window that meets one
    image at a time: two FLOPs for each weight of a window that meets no padding and no hole."""
    array, kernel = (around[name].results[0] for name in each.operands[:2])
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", each.rest)
    of_array, of_kernel, of_result = labels.groups() if labels else ("bf", "io", "bf")
    window = {name: sides.split("x") for name, sides in re.findall(r"(\w+)=([\dx_-]+)", _braces(each.rest, "window"))}
    met = 1
    for place in range(len(of_array) - 2):
        sides = (
            one.sides[names.index(str(place))]
            for one, names in ((array, of_array), (kernel, of_kernel), (each.results[0], of_result))
        )
        low = int(window["pad"][place].split("_")[0]) if "pad" in window else 0
        steps = (int(window[name][place]) if name in window else 1 for name in ("stride", "lhs_dilate", "rhs_dilate"))
        met *= _met(*sides, low, *steps)
    features = kernel.sides[of_kernel.index("i")] * kernel.sides[of_kernel.index("o")]
    groups = re.search(r"batch_group_count=(\d+)", each.rest)
    images = array.sides[of_array.index("b")] // (int(groups[1]) if groups else 1)
    return 2 * images * features * met, array.dtype


@functools.lru_cache(1024)
def _met(length: int, window: int, results: int, low: int, stride: int, holes: int, gaps: int) -> int:
    """Along one axis: how many pairs of a result and a place of its window there are that meet something of the array,
    which has holes - 1 holes behind each element, as the window has gaps."""
    place = np.arange(results)[:, None] * stride - low + np.arange(window) * gaps
    return int(((place >= 0) & (place <= (length - 1) * holes) & (place % holes == 0)).sum())


def _braces(rest: str, name: str) -> str:
    found = re.search(name + r"=\{([^}]*)\}", rest)
    return found[1] if found else ""


def _convolution(each: Instruction, around: Computation, target: str) -> tuple[int, str]:
    """Of cuDNN's: two FLOPs for each weight that a place of the output, or of what takes its place, reads."""
    first, second = (around[name].results[0] for name in each.operands[:2])
    kernel, places = second, each.results[0]
    if "BackwardInput" in target:
        places = first
    elif "BackwardFilter" in target:
        kernel, places = each.results[0], second
    layout = re.search(r"dim_labels=\w+_(\w+)->", each.rest)
    outputs = kernel.sides[layout[1].index("o")] if layout else 1
    return 2 * math.prod(places.sides) * math.prod(kernel.sides) // outputs, first.dtype


def totals(found: Sequence[Kernel]) -> tuple[int, int, int]:
    """(Kernels, bytes read and written, FLOPs) of a step."""
    return (
        sum(each.times for each in found),
        sum((each.read + each.written) * each.times for each in found),
        sum(each.flops * each.times for each in found),
    )
