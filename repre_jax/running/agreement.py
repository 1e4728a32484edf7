"""Agreement among processes: a signal reaches them at different times, and all must stop after the same step."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from repre_jax.system import runtime


class Agreement:
    """The largest of the numbers that the processes have; to be called equally often by each of them.

    With one process it is that process's number, at once.
    """

    def __init__(self, mesh: Mesh | None):
        """mesh: all devices of all processes along its axes, the batch's first; None for one process."""
        self._alone = mesh is None or jax.process_count() == 1
        self._asked: jax.Array | None = None
        if mesh is None or jax.process_count() == 1:
            return
        self._rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._mine = sum(device.process_index == jax.process_index() for device in mesh.devices.flat)
        self._largest = jax.jit(lambda numbers: numbers.max(), out_shardings=NamedSharding(mesh, PartitionSpec()))

    def lagging(self, number: int) -> int:
        """Returns the previous call's result, 0 at first: it is already on the host, so this never blocks. Numbers are
        at least 0."""
        if self._alone:
            return number
        mine = np.full(self._mine, number, np.int32)
        before, self._asked = self._asked, self._largest(jax.make_array_from_process_local_data(self._rows, mine))
        return 0 if before is None else int(before)

    def now(self, number: int) -> int:
        """The largest of the numbers of this call; waits for all processes."""
        return number if self._alone else runtime.largest(number)
