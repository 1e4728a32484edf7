"""One mesh over all devices: the batch is split along it, and the state copied to each, or its large arrays split too.

Nothing else in the package places anything on devices. Inside jit the batch axis is global, so a mean over it is a
mean over all devices, and the compiler puts in the communication.
"""

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from repre_jax.core.errors import UserError
from repre_jax.core.types import TrainState

CHUNK = 256  # images that a device encodes at once where no gradient asks for all of them
SPLIT_FROM = 4096  # elements; below, a copy costs less than the communication of its parts


def make_mesh(batch_size: int, accumulate: int = 1) -> Mesh:
    """A one-dimensional mesh with the axis 'data' over every device.

    Raises UserError when the devices do not divide `batch_size` (records a step, over all devices), or each of the
    `accumulate` microbatches that it is computed in.
    """
    try:
        count = jax.device_count()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that the platform asked for is there
        raise UserError(
            f"JAX cannot start{f': {error}' if str(error) else '.'}\n"
            f"  given:    JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}\n"
            "  change:   JAX_PLATFORMS=cpu, or install JAX for the accelerator, jax[cuda12] or jax[tpu]"
        ) from None
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}.\n  change:   --config.batch_size=...")
    if batch_size % (count * accumulate):
        raise _uneven(batch_size, count, accumulate)
    # By process, so that the rows of each are neighbours in the batch.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    shares = Counter(device.process_index for device in devices)
    if len(set(shares.values())) > 1:
        raise UserError(
            f"The processes have different numbers of devices: {', '.join(map(str, shares.values()))}.\n"
            "  expected: the same number each, since each reads the same share of a batch"
        )
    return mesh_of(devices)


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """The same over these devices, which need not be here: a program can be compiled for them."""
    return Mesh(np.asarray(devices), ("data",))


def _uneven(batch_size: int, devices: int, accumulate: int) -> UserError:
    """Says what each device would get, and what divides evenly."""
    shares = devices * accumulate
    nearest = max(1, round(batch_size / shares)) * shares
    where, parts = f"{devices} device" + "s" * (devices > 1), f" in {accumulate} microbatches" * (accumulate > 1)
    at_once = "a device and microbatch" if accumulate > 1 else "a device"
    changes = [f"--config.batch_size={nearest} (images {at_once}: {nearest // shares})"]
    fewer = [n for n in range(1, accumulate) if batch_size % (devices * n) == 0]
    if fewer:
        changes.append(f"--config.accumulate={fewer[-1]}")
    usable = [n for n in range(1, devices) if batch_size % (n * accumulate) == 0]
    if usable:
        changes.append(f"{usable[-1]} of the devices (CUDA_VISIBLE_DEVICES chooses among NVIDIA's)")
    return UserError(
        f"batch_size {batch_size} cannot be split evenly over {where}{parts}: {batch_size / shares:.4g} images each.\n"
        f"  expected: a multiple of {shares}\n"
        f"  change:   {', or '.join(changes)}"
    )


def along_batch(mesh: Mesh) -> NamedSharding:
    """First axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def split_large(tree: Any, mesh: Mesh) -> Any:
    """For each array (or its shape) of `tree`: its largest axis that the devices divide split over them, the last of
    equals; small arrays copied to each device."""

    def of(array: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        fitting = [axis for axis in range(array.ndim) if array.shape[axis] % mesh.size == 0]
        if array.size < SPLIT_FROM or not fitting:
            return replicated(mesh)
        largest = max(fitting, key=lambda axis: (array.shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*(None,) * largest, "data"))

    return jax.tree.map(of, tree)


def of_state(shapes: TrainState, mesh: Mesh, *, split: bool) -> TrainState:
    """A sharding for each array of a state: a copy on each device, or with `split` parameters, target and optimiser
    state by `split_large` (ZeRO). Queues and centres are copied, since every image is compared with all of them."""
    everywhere = jax.tree.map(lambda _: replicated(mesh), shapes)
    if not split:
        return everywhere
    parts = {name: split_large(getattr(shapes, name), mesh) for name in ("params", "target", "opt_state")}
    return dataclasses.replace(everywhere, **parts)


def jit_step(train_step: Callable, state_sharding: TrainState, mesh: Mesh) -> jax.stages.Wrapped:
    """(state, batch) -> (state, metrics), compiled when it is first called: the state is donated, and laid out as
    before; the metrics are on each device."""
    return jax.jit(train_step, donate_argnums=0, out_shardings=(state_sharding, replicated(mesh)))


def describe_split(shapes: TrainState, mesh: Mesh) -> str:
    """For example 'split over the devices: 120.3 MB each, 954.2 MB if copied to each'."""
    split, copied = (bytes_per_device(shapes, of_state(shapes, mesh, split=split)) / 1e6 for split in (True, False))
    return f"split over the devices: {split:,.1f} MB each, {copied:,.1f} MB if copied to each"


def bytes_per_device(shapes: Any, shardings: Any) -> int:
    """What one device holds of arrays of these shapes."""
    return sum(
        math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True)
    )


def gather(tree: Any, mesh: Mesh) -> Any:
    """Inside jit: every array whole on each device. Without it the compiler might rather move activations."""
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def shard_batch(tree: Any, mesh: Mesh) -> Any:
    """Host arrays, this process's rows of the global batch -> global arrays split along their first axis."""
    sharding = along_batch(mesh)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), tree)


def copy_to_each(tree: Any, mesh: Mesh) -> Any:
    """Host arrays, the same in every process -> global arrays, a full copy on each device."""
    sharding = replicated(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def in_chunks(function: Callable[[Any, Any], jax.Array], mesh: Mesh) -> Callable[[Any, Any], jax.Array]:
    """Inside jit: `function` of (arrays that each device has whole, arrays of one row an image) -> one row an image, of
    at most CHUNK rows a device at once. They stay on their device. A row must not depend on the others."""

    def on_one_device(whole: Any, rows: Any) -> jax.Array:
        count = len(jax.tree.leaves(rows)[0])
        full = count - count % CHUNK
        parts = jax.tree.map(lambda x: x[:full].reshape(-1, CHUNK, *x.shape[1:]), rows)
        found = jax.lax.map(lambda part: function(whole, part), parts)
        found = found.reshape(full, *found.shape[2:])
        if full == count:
            return found
        return jnp.concatenate([found, function(whole, jax.tree.map(lambda x: x[full:], rows))])

    def chunked(whole: Any, rows: Any) -> jax.Array:
        if len(jax.tree.leaves(rows)[0]) <= CHUNK * mesh.size:
            return function(whole, rows)
        split, everywhere = PartitionSpec("data"), PartitionSpec()
        specs: dict[str, Any] = {"in_specs": (everywhere, split), "out_specs": split}
        # Unchecked, since Pallas' kernels say nothing of it.
        return jax.shard_map(on_one_device, mesh=mesh, **specs, check_vma=False)(whole, rows)

    return chunked


def of_each(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """Inside jit: `function` of one image's arrays, for a batch [B, ...] as jax.vmap has it, on each device its own.

    For what the compiler does not know to split: it gathers the batch for a top_k, and lets all devices agree on each
    round of a loop whose end depends on values. No gradient is to pass. mesh: None where one device runs it.
    """
    of_batch = jax.vmap(function)
    if mesh is None or mesh.size == 1:
        return of_batch
    split = PartitionSpec("data")
    return jax.shard_map(of_batch, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)


def by_rows(function: Callable[[Any, Any], tuple[Any, Any]], rows: Any, whole: Any) -> tuple[Any, Any]:
    """Inside jit: `function` of (arrays of one row an image, arrays that each device has whole), on each device of its
    own images: (arrays of one row an image, arrays that are summed over the devices).

    For a kernel that the compiler cannot split. The devices are those of the program's arguments. Where they do not
    divide the images, each computes all.
    """
    first = jax.tree.leaves(rows)[0]
    mesh = jax.typeof(first).sharding.mesh
    if mesh.empty or mesh.size == 1 or mesh.manual_axes:  # the last inside of shard_map, where `rows` are one device's
        return function(rows, whole)
    everywhere = PartitionSpec()
    split = everywhere if len(first) % mesh.size else PartitionSpec(mesh.axis_names)

    def on_one_device(rows: Any, whole: Any) -> tuple[Any, Any]:
        found, summed = function(rows, whole)
        return found, summed if split == everywhere else jax.lax.psum(summed, mesh.axis_names)

    specs: dict[str, Any] = {"in_specs": (split, everywhere), "out_specs": (split, everywhere)}
    return jax.shard_map(on_one_device, mesh=mesh, **specs, check_vma=False)(rows, whole)
