"""TPUs to compile for, on a machine that has none, and what XLA plans for them: nothing can be run.

It takes `pip install libtpu` (690 MB, the version of requirements-deviceless.txt; with `--target DIR` and
PYTHONPATH=DIR it stays out of the environment). Writing a full step's code may take XLA hours, and what is read here is
there before it: so a process of its own compiles, has XLA write down what it plans, and is ended.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.experimental import topologies

from benchmarks import task_steps
from repre_jax.core.errors import UserError
from repre_jax.models import platform


@dataclass(frozen=True)
class Chip:
    """By Google's pages on it, docs.cloud.google.com/tpu/docs/v5e, v5p and v6e: flops of bfloat16 products a second,
    bandwidth of its memory in bytes a second, how many bytes that has and how many of them XLA leaves to programs, as
    its message says where they do not suffice (None: not seen), and the sides of its slices.

    float32 operands, unless they ask for more,
    are multiplied as bfloat16.
    """

    name: str
    flops: float
    bandwidth: int
    memory: int
    usable: int | None = None
    sides: int = 2

    def seconds(self, moved: int, flops: int, float32_flops: int = 0) -> float:
        """The least that an operation takes which moves so many bytes and does so many FLOPs."""
        del float32_flops
        return max(moved / self.bandwidth, flops / self.flops)


CHIPS = {
    "v5e": Chip("TPU v5e", 197e12, 819_000_000_000, 16 << 30),
    "v5p": Chip("TPU v5p", 459e12, 2_765_000_000_000, 95 << 30, sides=3),
    "v6e": Chip("TPU v6e", 918e12, 1_640_000_000_000, 32 << 30, usable=int(31.25 * 2**30)),
}
# For libtpu, which else asks a cloud's machine what it is, and lets one process only compile.
ENVIRONMENT = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_PLATFORMS": "cpu"}
MODULE = "jit_train_step"
PLANNED = f"*{MODULE}*after_optimizations.txt"  # written for what does not fit, too
MEMORY = f"*{MODULE}*memory-usage-report.txt"
POLL = 2.0  # seconds


@dataclass(frozen=True)
class Plan:
    """text: of the compiled program. memory: bytes a chip. seconds: of compiling."""

    text: str
    memory: int
    seconds: float


def count(topology: str) -> int:
    """Chips of a slice such as 'v6e:2x4'. Raises UserError for one that is not written so."""
    name, _, sides = topology.partition(":")
    found = re.fullmatch(r"\d+(x\d+)*", sides)
    if name not in CHIPS or not found or len(sides.split("x")) != CHIPS[name].sides:
        examples = [f"{name}:{'x'.join(('2', '4', '4')[: chip.sides])}" for name, chip in CHIPS.items()]
        raise UserError(f"No slice of TPUs is called {topology!r}.\n  expected: such as {', '.join(examples)}")
    product = 1
    for side in sides.split("x"):
        product *= int(side)
    return product


def devices(topology: str) -> list[jax.Device]:
    """Of a slice, in this process, which then compiles for them. Raises UserError for one that libtpu does not know."""
    expected = count(topology)
    prepare()
    one = {"chips_per_host_bounds": (1, 1, 1)} if expected == 1 else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **one)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"XLA cannot compile for {topology}: {str(error).strip().splitlines()[0]}") from None
    return list(found.devices)


def prepare() -> str:
    """Lets this process compile for TPUs: libtpu's version. Raises UserError where it is not installed."""
    os.environ.update(ENVIRONMENT)
    platform.compiled_for = lambda: "tpu"
    try:
        return importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            "XLA cannot compile for TPUs here: libtpu is not installed.\n"
            "  change:   pip install --target DIR --no-deps libtpu, of requirements-deviceless.txt's version,\n"
            "            then PYTHONPATH=DIR before the command"
        ) from None


def plan(topology: str, path: str, overrides: list[str], *, whole: bool = False) -> Plan:
    """What XLA plans of the config's training step, sharded over the slice. whole: waits until the code is written.

    Raises UserError where it cannot.
    """
    with tempfile.TemporaryDirectory() as folder:
        flags = f"--xla_dump_to={folder} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*{MODULE}.*"
        environment = os.environ | ENVIRONMENT | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"}
        command = [sys.executable, "-m", "benchmarks.absent_tpu", topology, path, *overrides]
        begun = time.monotonic()
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None and (whole or not _written(Path(folder))):
                    time.sleep(POLL)
            finally:
                process.kill()  # which does nothing to one that has ended
                process.wait()
            log.seek(0)
            said = log.read()
        seconds = time.monotonic() - begun
        planned = sorted(Path(folder).glob(PLANNED))
        if not planned or (whole and process.returncode != 0):
            last = [line for line in said.splitlines() if line.strip()][-12:]
            raise UserError(f"XLA has not compiled the step for {topology}. The last that it said:\n" + "\n".join(last))
        report = sorted(Path(folder).glob(MEMORY))[-1].read_text()
        # The first memory space that it lists is the chip's main one, HBM.
        return Plan(planned[-1].read_text(), int(re.findall(r"^Total bytes: (\d+)", report, re.M)[0]), seconds)


def _written(folder: Path) -> bool:
    """Whether both files are there and no longer grow."""
    files = [*folder.glob(PLANNED), *folder.glob(MEMORY)]
    before = [file.stat().st_size for file in files]
    if len(files) < 2:
        return False
    time.sleep(POLL)
    return before == [file.stat().st_size for file in files]


if __name__ == "__main__":
    chips = devices(sys.argv[1])  # before the config, whose attention may be such a chip's
    task_steps.build(task_steps.parse(sys.argv[2], sys.argv[3:]), chips).compile()
