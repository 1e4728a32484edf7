"""What a step of Mask R-CNN computes and holds for one image, part by part: nothing is run, no data is needed.

  python -m benchmarks.detection_cost [--encoder swin_t] [--canvas 800 1344] [--dtype float32] [--no-step] [--no-memory]

GFLOP are counted in the traced program (benchmarks/products.py), two to a multiply-add and one to each other number
computed, since XLA counts a loop's body once, and the geometry is loops; XLA's own count stands beside it. 'Forward' is
one pass of training, 'step' adds the gradient. Geometry is what stands between the layers of the network. Memory is
XLA's plan for this device, of the part with its gradient; 'largest' the largest array that is written as a whole.
NMS is counted as if it took 20 rounds. Of the whole step, with its optimiser, both of a run's programs are planned: of
the canvas, and of its transpose for images that are higher than wide. A step runs one of them.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from benchmarks import detection_program as program
from benchmarks import hlo, products
from benchmarks.detection_program import Part
from repre_jax.models.detection import anchors
from repre_jax.report import console
from repre_jax.running import memory
from repre_jax.system import command_line, environment

ROUNDS = 20  # of NMS; on trained proposals about ten
GOAL_SHARE, GOAL_BYTES = 0.1, 300e6
TITLES = ("part", "GFLOP forward", "share", "GFLOP step", "share", "XLA's GFLOP", "temporary", "largest")


@dataclass(frozen=True)
class Cost:
    """forward, step: FLOPs. planned: (XLA's FLOPs, temporary bytes, the largest array); None where not compiled."""

    part: Part
    forward: int
    step: int
    planned: tuple[float, int, hlo.Array] | None


def cost(part: Part, *, compiled: bool) -> Cost:
    forward = products.flops(part.run, *part.given, rounds=ROUNDS)
    whole = part.with_gradient()
    step = products.flops(whole, *part.given, rounds=ROUNDS)
    return Cost(part, forward, step, planned(whole, *part.given) if compiled else None)


def planned(function: Any, *given: Any) -> tuple[float, int, hlo.Array]:
    made = jax.jit(function).lower(*given).compile()
    plan: Any = made.memory_analysis()
    counted: Any = made.cost_analysis() or {}
    return counted.get("flops", float("nan")), plan.temp_size_in_bytes, hlo.largest(made.as_text() or "")


def rows(found: list[Cost]) -> list[tuple[str, ...]]:
    forward, step = sum(each.forward for each in found), sum(each.step for each in found)
    listed = [_row(each, forward, step) for each in found]
    geometry = [each for each in found if each.part.geometry]
    ours = sum(each.forward for each in geometry), sum(each.step for each in geometry)
    numbers = (f"{ours[0] / 1e9:.1f}", f"{ours[0] / forward:.1%}", f"{ours[1] / 1e9:.1f}", f"{ours[1] / step:.1%}")
    together = ("**geometry together**", *numbers, "", "", "")
    return [*listed, together, ("**all**", f"{forward / 1e9:.1f}", "", f"{step / 1e9:.1f}", "", "", "", "")]


def _row(found: Cost, forward: int, step: int) -> tuple[str, ...]:
    numbers = [f"{found.forward / 1e9:.2f}", f"{found.forward / forward:.1%}"]
    numbers += [f"{found.step / 1e9:.2f}", f"{found.step / step:.1%}"]
    return (found.part.name, *numbers, *_memory(found.planned))


def _memory(planned: tuple[float, int, hlo.Array] | None) -> tuple[str, str, str]:
    if planned is None:
        return "-", "-", "-"
    flops, temporary, array = planned
    return f"{flops / 1e9:.2f}", megabytes(temporary), f"{megabytes(array.size)} {array.kind}"


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def verdict(found: list[Cost], largest: list[tuple[str, hlo.Array]], count: int) -> list[str]:
    """Whether the goals are met. count: of anchors."""
    forward = sum(each.forward for each in found)
    share = sum(each.forward for each in found if each.part.geometry) / forward
    lines = [f"Geometry: {share:.1%} of the forward pass; goal at most {GOAL_SHARE:.0%}: {_met(share <= GOAL_SHARE)}."]
    if largest:
        name, array = max(largest, key=lambda each: each[1].size)
        lines.append(
            f"Largest array: {megabytes(array.size)}, {array.kind} in {name} ({array.made_by}); goal at most "
            f"{megabytes(GOAL_BYTES)}: {_met(array.size <= GOAL_BYTES)}. A byte for each pair of the {count:,} anchors "
            f"would be {megabytes(count**2)}."
        )
    return lines


def _met(is_met: bool) -> str:
    return "met" if is_met else "not met"


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="swin_t")
    parser.add_argument("--canvas", type=int, nargs=2, default=program.CANVAS, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--step", action=argparse.BooleanOptionalAction, default=True, help="compile all of it, too")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True, help="else FLOPs alone")
    arguments = parser.parse_args()
    canvas = (arguments.canvas[0], arguments.canvas[1])
    method = program.build(arguments.encoder, arguments.dtype, image_size=canvas)
    parameters = sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda: program.init(method, canvas)).params))
    print(f"{environment.command()}\n")
    print(
        f"{time.strftime('%Y-%m-%d')}, {console.devices()} ({console.machine()}), "
        f"jax {environment.record(0)['versions']['jax']}; {arguments.encoder}, {parameters / 1e6:.1f} M parameters, "
        f"{canvas[0]} x {canvas[1]}, {arguments.dtype}\n"
    )
    for row in (TITLES, ("---",) * len(TITLES)):
        print(line(row))
    jax.config.update("jax_enable_compilation_cache", False)
    found = [cost(part, compiled=arguments.memory) for part in program.parts(method, canvas)]
    for row in rows(found):
        print(line(row))
    test = cost(program.tested(method, canvas), compiled=arguments.memory)
    print(line(_row(test, sum(each.forward for each in found), sum(each.step for each in found))), flush=True)
    largest = [(each.part.name, each.planned[2]) for each in (*found, test) if each.planned]
    if arguments.step:
        largest += [(f"the whole step of {size[0]} x {size[1]}", whole_step(method, size)) for size in both(canvas)]
    print("\n" + "\n".join(verdict(found, largest, sum(map(len, anchors.anchors(canvas))))))


def both(canvas: tuple[int, int]) -> list[tuple[int, int]]:
    """A run's canvases."""
    return list(dict.fromkeys((canvas, canvas[::-1])))


def whole_step(method: Any, canvas: tuple[int, int]) -> hlo.Array:
    """Of one image, compiled with its optimiser; prints what it takes. The state is in both programs'
    plans, and is there once. Returns the largest array."""
    state, batch = jax.eval_shape(lambda: program.init(method, canvas)), program.batch(1, canvas)
    begun = time.perf_counter()
    made = jax.jit(method.train_step, donate_argnums=0).lower(state, batch).compile()
    seconds = time.perf_counter() - begun
    plan: Any = made.memory_analysis()
    array = hlo.largest(made.as_text() or "")
    print(
        f"\nThe whole step of one image, {canvas[0]} x {canvas[1]}: {megabytes(memory.of_program(made))}, of which the "
        f"state takes {megabytes(plan.argument_size_in_bytes - _bytes(batch))} and what it holds meanwhile "
        f"{megabytes(plan.temp_size_in_bytes)}; compiled in {seconds:.0f} s."
    )
    return array


def _bytes(shapes: Any) -> int:
    return sum(x.size * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(shapes))


def line(row: tuple[str, ...]) -> str:
    return f"| {' | '.join(row)} |"


if __name__ == "__main__":
    sys.exit(command_line.exit_status(run, "Interrupted."))
