"""What a program is compiled for, on which layouts and kernels depend."""

import jax


def compiled_for() -> str:
    """cpu, gpu or tpu: of this process's devices, unless a benchmark compiles for others, which then says so here."""
    return jax.default_backend()
