"""What a device could do: by its maker's data sheet, and by a matrix product measured here."""

import contextlib
import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp

# Dense bfloat16 TFLOP/s of one chip, by the beginning of JAX's device_kind. NVIDIA's data sheets (H100 and H200 SXM,
# A100, L4, without sparsity) and Google's Cloud TPU pages.
DATA_SHEETS = {
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H200": 989.4,
    "NVIDIA A100": 312.0,
    "NVIDIA L4": 121.0,
    "NVIDIA L40S": 362.0,
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5": 459.0,
    "TPU v6 lite": 918.0,
}
SIDE = {"cpu": 2048}  # of the measured product's matrices; elsewhere 8192


def data_sheet_tflops(dtype: str) -> float | None:
    """None for a device, a part of one (MIG) or a dtype that no entry is for."""
    kind = jax.devices()[0].device_kind
    fitting = [name for name in DATA_SHEETS if kind.startswith(name)]
    return DATA_SHEETS[max(fitting, key=len)] if fitting and dtype == "bfloat16" and " MIG " not in kind else None


@functools.cache
def measured_tflops(dtype: str, repeats: int = 10) -> float:
    """Of the fastest of some square products of random matrices on one device; measured once in a process."""
    side = SIDE.get(jax.default_backend(), 8192)
    a, b = (jax.random.normal(key, (side, side), dtype) for key in jax.random.split(jax.random.key(0)))
    product = jax.jit(jnp.matmul)
    seconds = []
    for _ in range(repeats + 2):
        begun = time.perf_counter()
        product(a, b).block_until_ready()
        seconds.append(time.perf_counter() - begun)
    return 2 * side**3 / min(seconds[2:]) / 1e12


def forget_resident() -> None:
    """Begins anew what resident_peak tells, where Linux lets it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def resident_peak() -> int | None:
    """Bytes of memory, the most that this process had at a time; None where it is not told."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    return None


def peak_memory() -> int | None:
    """Bytes, the most that this process has held on the first device; None where it is not told (CPU)."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
