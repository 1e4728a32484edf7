"""How fast a whole step of Mask R-CNN is on this machine, and the parts of it that are not layers by themselves.

  python -m benchmarks.detection_step [--canvas 800 1344] [--batch 2] [--torch-python PYTHON] [--turns 5] [--json]

Swin-T, COCO's 80 classes, random images with 8 objects; 800 x 1344 in bfloat16 on accelerators, 256 x 416 in float32 on
CPUs, unless told otherwise. Images/s: the median of turns of two seconds or more, after warm-up; MFU: the FLOPs of the
step's products over what the device could do by its data sheet, and by a matrix product measured here; memory by XLA's
plan, and the most that was held, on a CPU by the whole process. Of the parts: how long one image takes by itself, with
its gradient if it has one, as a share of the step, beside its share of the FLOPs. What stands in the rest is layers.

--torch-python: an interpreter that has torch and torchvision, whose Mask R-CNN trains on the same batch with Swin-T in
another process, in turns with ours (benchmarks/torch_detection.py says what differs).
"""

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import detection_inputs, hardware, products, steps
from benchmarks import detection_program as program
from benchmarks.torch_peer import Peer
from repre_jax.builders import attention, attention_kinds
from repre_jax.core import sharding
from repre_jax.core.errors import UserError
from repre_jax.core.types import ObjectImages
from repre_jax.report import console
from repre_jax.running import memory
from repre_jax.system import command_line, environment, huge_pages, terminal
from repre_jax.train.detection import Detection

ON_CPU = (256, 416)
PEER = "torchvision"


def measure(method: Detection, batch: ObjectImages, turns: int, peer: Peer | None) -> dict[str, Any]:
    """What --json prints. Times in milliseconds. The step is by the attention that a start would choose here."""
    count, canvas = len(batch.images), (batch.images.shape[1], batch.images.shape[2])
    mesh = sharding.make_mesh(count)
    layout = jax.tree.map(lambda _: sharding.replicated(mesh), jax.eval_shape(lambda: program.init(method, canvas)))
    state = jax.jit(lambda: program.init(method, canvas), out_shardings=layout)()
    on_devices = sharding.shard_batch(batch, mesh)
    with terminal.quiet(True):
        kind, compared = attention.choose(attention_kinds.of_encoder(method.model.encoder, canvas))
    step = dataclasses.replace(program.by_attention(method, kind), mesh=mesh).train_step
    compiled = sharding.jit_step(step, layout, mesh).lower(state, on_devices).compile()

    def take(number: int) -> float:
        nonlocal state
        begun = time.perf_counter()
        for _ in range(number):
            state, metrics = compiled(state, on_devices)
        jax.block_until_ready((state, metrics))
        return (time.perf_counter() - begun) / number

    takers: dict[str, Callable[[int], float]] = {"step": take}
    if peer is not None:
        takers[PEER] = lambda number: peer.ask(f"step {number}")
    hardware.forget_resident()  # compiling took more
    times = {name: steps.spread(found) for name, found in steps.in_turns(takers, turns=turns).items()}
    ours = {**times["step"], **performance(method, canvas, count, times["step"]["median_ms"] / 1e3, mesh.size)}
    found: dict[str, Any] = {"step": ours, "program_memory_bytes": memory.of_program(compiled)}
    found["attention"] = attention.describe(kind, compared)
    held = hardware.peak_memory() or hardware.resident_peak()
    found |= {"peak_memory_bytes": held, "parts": parts(method, batch, times["step"]["median_ms"])}
    if peer is not None:
        found[PEER] = times[PEER] | {"images_per_second": 1e3 * count / times[PEER]["median_ms"], "about": peer.about}
        found[PEER]["peak_memory_bytes"] = peer.ask("memory")
    return found


def performance(
    method: Detection, canvas: tuple[int, int], images: int, seconds: float, devices: int
) -> dict[str, Any]:
    dtype = jnp.dtype(method.model.encoder.dtype).name
    listed = program.parts(method, canvas)
    gflop = 2 * images * sum(products.macs(part.with_gradient(), *part.given) for part in listed) / 1e9
    rate = gflop / 1e3 / seconds / devices
    sheet = hardware.data_sheet_tflops(dtype)
    return {
        "images_per_second": images / seconds,
        "gflop": gflop,
        "mfu_of_matrix_product": rate / hardware.measured_tflops(dtype),
        "mfu_of_data_sheet": rate / sheet if sheet else None,
    }


def parts(method: Detection, batch: ObjectImages, step_ms: float) -> list[dict[str, Any]]:
    """The geometry of one image. share_of_time: as if a batch took so many times as long as an image."""
    canvas = (batch.images.shape[1], batch.images.shape[2])
    listed, test = program.parts(method, canvas), program.tested(method, canvas)
    inputs = detection_inputs.of_parts(method, canvas, batch)
    whole = sum(products.flops(part.with_gradient(), *part.given, rounds=20) for part in listed)
    found = []
    for part in [each for each in (*listed, test) if each.geometry]:
        given = jax.device_put(inputs[part.name])
        taker = steps.taker(jax.jit(part.with_gradient()), *given)
        ms = steps.spread(steps.in_turns({part.name: taker}, turns=3)[part.name])["median_ms"]
        flops = products.flops(part.with_gradient(), *part.given, rounds=20)
        times = {"name": part.name, "ms": ms, "share_of_flops": flops / whole}
        found.append(times | {"share_of_time": ms * len(batch.images) / step_ms, "in_step": part is not test})
    return found


@contextlib.contextmanager
def started(python: str | None, batch: ObjectImages) -> Iterator[Peer | None]:
    """torchvision's process with this batch; None without an interpreter. Raises UserError when it cannot start."""
    if python is None:
        yield None
        return
    objects = int(np.asarray(batch.valid[0]).sum())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batch.npz"
        given = {key: getattr(batch, key)[:, :objects] for key in ("boxes", "classes", "masks")}
        np.savez(path, images=batch.images, **given)
        command = [python, str(Path(__file__).with_name("torch_detection.py")), str(path)]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise UserError(f"{python} cannot be started: {error.strerror}.\n  change:   --torch-python") from None
        try:
            peer = Peer(process)
            yield peer
            peer.close()
        finally:
            process.kill()
            process.wait()


def lines(found: dict[str, Any]) -> list[str]:
    step, sheet, held = found["step"], found["step"]["mfu_of_data_sheet"], found["peak_memory_bytes"]
    table: list[tuple[str, ...]] = [("", "ms", "p10 to p90", "images/s"), ("---",) * 4, _times("repre_jax", step)]
    if PEER in found:
        about = found[PEER]["about"]
        table.append(_times(f"torchvision {about['torchvision']}, torch {about['torch']}", found[PEER]))
    known = "unknown" if sheet is None else f"{sheet:.1%}"
    others = f" (torchvision {_gib(found[PEER]['peak_memory_bytes'])})" if PEER in found else ""
    listed = [line(row) for row in table] + [
        "",
        f"{step['gflop']:,.0f} GFLOP of products a step. MFU: {step['mfu_of_matrix_product']:.1%} of a matrix product "
        f"measured here, {known} of the data sheet. Memory: {found['program_memory_bytes'] / 2**30:.2f} GiB planned, "
        f"held at most {_gib(held)}{others}. Attention: {found['attention']}.",
        "",
        *(
            line(row)
            for row in (("geometry, one image", "ms", "share of the step", "share of its FLOPs"), ("---",) * 4)
        ),
    ]
    for part in found["parts"]:
        share = f"{part['share_of_time']:.1%}" if part["in_step"] else "not in it"
        flops = f"{part['share_of_flops']:.2%}" if part["in_step"] else "-"
        listed.append(line((part["name"], f"{part['ms']:.1f}", share, flops)))
    together = sum(part["share_of_time"] for part in found["parts"] if part["in_step"])
    flops = sum(part["share_of_flops"] for part in found["parts"] if part["in_step"])
    return [*listed, line(("**together**", "", f"{together:.1%}", f"{flops:.2%}"))]


def _gib(count: int | None) -> str:
    return "not told" if count is None else f"{count / 2**30:.2f} GiB"


def _times(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    spread = f"{found['p10_ms']:,.0f} to {found['p90_ms']:,.0f}"
    return name, f"{found['median_ms']:,.0f}", spread, f"{found['images_per_second']:.3g}"


def line(row: tuple[str, ...]) -> str:
    return f"| {' | '.join(row)} |"


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_cpu = jax.default_backend() == "cpu"
    parser.add_argument("--encoder", default="swin_t")
    parser.add_argument("--canvas", type=int, nargs=2, default=ON_CPU if on_cpu else program.CANVAS)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dtype", default="float32" if on_cpu else "bfloat16")
    parser.add_argument("--turns", type=int, default=5, help="each of two seconds and three steps, or more")
    parser.add_argument("--torch-python", help="an interpreter with torchvision, to be compared with")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    canvas = (arguments.canvas[0], arguments.canvas[1])
    if any(side % 32 or side < 32 for side in canvas):
        raise UserError(f"--canvas is {canvas[0]} {canvas[1]}.\n  expected: multiples of 32")
    method = program.build(arguments.encoder, arguments.dtype, image_size=canvas)
    batch = detection_inputs.batch(arguments.batch, canvas)
    with started(arguments.torch_python, batch) as peer:
        found = measure(method, batch, arguments.turns, peer)
    about = f"{time.strftime('%Y-%m-%d')}, {console.devices()} ({console.machine()})"
    versions = environment.record(0)["versions"]
    if arguments.json:
        print(json.dumps({"command": environment.command(), "about": about, "versions": versions, **found}, indent=1))
        return
    size = f"batch {arguments.batch}, {canvas[0]} x {canvas[1]}, {arguments.dtype}"
    print(f"{environment.command()}\n\n{about}, jax {versions['jax']}; {arguments.encoder}, {size}\n")
    print("\n".join(lines(found)))


if __name__ == "__main__":
    huge_pages.restart()  # as main.py
    sys.exit(command_line.exit_status(run, "Interrupted."))
