"""One mesh over all devices: the batch is split along it, the state is copied to each device.

Nothing else in the package places anything on devices. Inside jit the batch axis is global, so a mean over it is a
mean over all devices, and the compiler puts in the communication.
"""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from repre_jax.core.errors import UserError


def make_mesh(batch_size: int) -> Mesh:
    """A one-dimensional mesh with the axis 'data' over every device.

    Raises UserError when the devices do not divide `batch_size` (records a step, over all devices).
    """
    try:
        count = jax.device_count()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that the platform asked for is there
        raise UserError(
            f"JAX cannot start{f': {error}' if str(error) else '.'}\n"
            f"  given:    JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}\n"
            "  change:   JAX_PLATFORMS=cpu, or install JAX for the accelerator (requirements-cuda.txt, -tpu.txt)"
        ) from None
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}.\n  change:   --config.batch_size=...")
    if batch_size < count or batch_size % count:
        nearest = max(1, round(batch_size / count)) * count
        raise UserError(
            f"batch_size {batch_size} cannot be split evenly over {count} devices.\n"
            f"  expected: a multiple of {count}\n"
            f"  change:   --config.batch_size={nearest}"
        )
    # By process, so that the rows of each are neighbours in the batch.
    return Mesh(np.asarray(sorted(jax.devices(), key=lambda device: (device.process_index, device.id))), ("data",))


def along_batch(mesh: Mesh) -> NamedSharding:
    """First axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def shard_batch(tree: Any, mesh: Mesh) -> Any:
    """Host arrays, this process's rows of the global batch -> global arrays split along their first axis."""
    sharding = along_batch(mesh)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), tree)
