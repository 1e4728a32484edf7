"""config.batch_size=0: the largest batch whose training step fits into the devices' memory."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from repre_jax.builders import compiled_step, methods
from repre_jax.core import run_files
from repre_jax.core.errors import UserError
from repre_jax.data import sources
from repre_jax.running import memory
from repre_jax.system import runtime, terminal

LARGEST = 4096  # no recipe here has more; a larger batch would want rates of its own
REFUSED = (2**31 - 1) << 10  # bytes, of a step of which the compiler says only that it is too large, as a TPU's does
SHARE = 0.9  # of a device's memory that a step may take; evaluations, figures and the next batch want some, too


def settle(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The config itself, or where its batch_size is 0 a copy with the one that the run in the workdir has, else with
    the one that `find` finds. Raises UserError when not even the smallest fits."""
    if config.batch_size != 0:
        return config
    before = (run_files.read_config(workdir, ("batch_size",)) or {}).get("batch_size", 0)
    return _with_batch(config, runtime.largest(before) or find(config))


def find(config: ConfigDict) -> int:
    """The largest batch of devices x accumulate x a power of two, up to LARGEST and the number of training records,
    that the framework takes and that fits into SHARE of each device's memory.

    Nothing is run: XLA plans a program's memory when it compiles it. Two small batches are compiled, then the one that
    they let expect to be the largest, and if that needs more, the next smaller ones.
    """
    data = config.data
    records = len(sources.open_dataset(data.name, data.dir, data.train_split, data.test_split).train)
    unit = jax.device_count() * config.accumulate
    powers = (unit * 2**power for power in range(LARGEST.bit_length()))
    sizes = [size for size in powers if 2 * config.accumulate <= size <= min(LARGEST, records)]
    sizes = [size for size in sizes if _fits_framework(config, size)]
    if not sizes:
        raise UserError(
            f"batch_size 0: no batch of {unit} images (devices x accumulate) times a power of two, up to "
            f"{min(LARGEST, records):,}, goes with this config.\n  change:   --config.batch_size to a number"
        )
    limit = -runtime.largest(-(memory.per_device() >> 10)) << 10  # the same in every process
    needed = {size: _memory(config, size) for size in sizes[:2]}
    first, last = min(needed), max(needed)
    an_image = (needed[last] - needed[first]) / max(1, last - first)
    for size in reversed(sizes):
        if needed[first] + an_image * (size - first) > SHARE * limit:
            continue
        if size not in needed:
            needed[size] = _memory(config, size)
        if needed[size] <= SHARE * limit:
            terminal.say(
                f"Batch size {size:,}: a step takes {memory.gib(needed[size])} of {memory.gib(limit)} a device."
            )
            return size
    takes = "more than" if needed[first] >= REFUSED else f"{memory.gib(needed[first])} of"
    raise UserError(
        f"batch_size 0: not even {first} images fit: a step takes {takes} {memory.gib(limit)} a device.\n"
        "  change:   --config.encoder.remat_mlp=True, --config.encoder.remat=True, a smaller encoder,\n"
        "            or a smaller --config.data.image_size"
    )


def _with_batch(config: ConfigDict, batch_size: int) -> ConfigDict:
    sized = config.copy_and_resolve_references()
    sized.batch_size = batch_size
    return sized


def _memory(config: ConfigDict, batch_size: int) -> int:
    """That the process needs whose compiler wants most: all are to come to the same batch. REFUSED where one of them
    does not compile what has no room."""
    try:
        needed = memory.of_program(compiled_step.compile_step(_with_batch(config, batch_size)).compiled)
    except jax.errors.JaxRuntimeError as error:
        if memory.FULL not in str(error):
            raise
        needed = REFUSED
    return runtime.largest(-(-needed >> 10)) << 10


def _fits_framework(config: ConfigDict, batch_size: int) -> bool:
    """A queue, for example, must be a multiple of the batch."""
    sized = _with_batch(config, batch_size)
    try:
        methods.build_framework(sized, methods.build_plan(sized, records=compiled_step.STEPS * batch_size))
    except UserError:
        return False
    return True
